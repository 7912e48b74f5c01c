package output

import (
	"bytes"
	"slices"
	"testing"
)

func TestColumnsKeepTheirWords(t *testing.T) {
	for _, test := range []struct {
		name           string
		columns, words []int
		width          int
		want           []int
		fits           bool
	}{
		{"there is room", []int{20, 15}, []int{20, 9}, 37, []int{20, 15}, true},
		{"blanks go before a word", []int{20, 15}, []int{20, 9}, 34, []int{20, 12}, true},
		{"the widest that has blanks goes first", []int{30, 25, 20}, []int{5, 25, 5}, 70, []int{21, 25, 20}, true},
		{"no word is cut", []int{20, 15}, []int{20, 9}, 29, []int{20, 9}, false},
		{"nothing below the least", []int{20, 15}, []int{2, 3}, 5, []int{8, 8}, false},
		{"no limit", []int{20, 15}, []int{20, 9}, 0, []int{20, 15}, true},
	} {
		if got, fits := fit(test.columns, test.words, test.width); !slices.Equal(got, test.want) || fits != test.fits {
			t.Errorf("%s: %d, %v, want %d, %v", test.name, got, fits, test.want, test.fits)
		}
	}
}

// A table that does not fit is written row by row, and nothing of it is cut.
func TestWideTablesBecomeRecords(t *testing.T) {
	print := func(width int, rows ...[]string) string {
		var out bytes.Buffer
		s := NewStream(&out)
		s.width, s.rows = width, rows
		if err := s.End(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	rows := [][]string{{"LABEL", "SERIAL", "CAN"}, {"office", "1f2e3d4c5b6a7988", "rsa oaep-decrypt"}, {"vault", "", "-"}}
	if got, want := print(34, rows...), "LABEL   SERIAL            CAN\noffice  1f2e3d4c5b6a7988  rsa\n                          oaep-\n                          decrypt\nvault                     -\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := print(26, rows...), "LABEL   office\nSERIAL  1f2e3d4c5b6a7988\nCAN     rsa oaep-decrypt\n\nLABEL   vault\nCAN     -\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// Labels stay on one line, and a row of one cell makes no column wide.
	facts := [][]string{{"to"}, {"  valid until", "2026-11-26T02:49:39Z"}, {"  fingerprint", "00:C1:8F:2B:77:AA:01:02"}, {"keyring 0123456789abcdef, list of members 3"}}
	if got, want := print(37, facts...), "to\n  valid until  2026-11-26T02:49:39Z\n  fingerprint  00:C1:8F:2B:77:AA:01:\n               02\nkeyring 0123456789abcdef, list of\nmembers 3\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := print(80, facts...), "to\n  valid until  2026-11-26T02:49:39Z\n  fingerprint  00:C1:8F:2B:77:AA:01:02\nkeyring 0123456789abcdef, list of members 3\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
