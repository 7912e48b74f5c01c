package main

import (
	"bytes"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
	"unsafe"

	"pgregory.net/rapid"
)

func TestTablesFitTheTerminal(t *testing.T) {
	o := newOffice(t)
	o.run(t, "create", "a/key/with/a/long/name/that/needs/a/column/of/its/own/or/more")
	onTerminal := func(t *testing.T, columns uint16, args ...string) []string {
		t.Helper()
		p := newTerminal(t)
		size := [4]uint16{24, columns}
		ioctl(t, p.person, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
		cmd := o.command(args...)
		cmd.Env, cmd.Stderr = append(cmd.Env, "NO_COLOR=1"), new(bytes.Buffer)
		p.attach(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait(t, cmd)
		if _, err := p.tty.WriteString("\x00"); err != nil { // what comes before it has been seen
			t.Fatal(err)
		}
		until(t, "the end of the output", func() bool { return strings.HasSuffix(p.shows(), "\x00") })
		return strings.Split(strings.TrimSuffix(p.shows(), "\r\n\x00"), "\r\n")
	}
	longest := func(lines []string) int {
		most := 0
		for _, line := range lines {
			if !strings.HasPrefix(strings.TrimSpace(line), "mend: ") { // a command, to be copied
				most = max(most, utf8.RuneCountInString(line))
			}
		}
		return most
	}
	for _, args := range [][]string{{"token", "list"}, {"list"}, {"doctor"}, {"show", "payroll"}, {"history", "payroll"}, {"owner", "list"}, {"drill"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			plain := append(slices.Clone(args), "--wide")
			whole := longest(onTerminal(t, 80, plain...))
			if got := longest(onTerminal(t, 80, args...)); got > 80 {
				t.Errorf("a line of %d characters on a terminal of 80 columns", got)
			}
			if got := longest(onTerminal(t, 500, args...)); got != whole {
				t.Errorf("a longest line of %d characters on a terminal of 500 columns, %d with --wide", got, whole)
			}
			out, _ := o.command(args...).Output()
			if got := longest(strings.Split(string(out), "\n")); got != whole {
				t.Errorf("a longest line of %d characters in a pipe, %d with --wide", got, whole)
			}
			if args[0] == "token" && whole <= 80 {
				t.Errorf("the widest line has %d characters, and nothing was tried", whole)
			}
		})
	}
}

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

func TestLinesBreakBetweenWords(t *testing.T) {
	const print = "SHA-256 00:C1:8F:2B:77:AA"
	for _, test := range []struct {
		name, text string
		width      int
		want       []string
	}{
		{"at blanks", "from a password", 9, []string{"from a", "password"}},
		{"within a word only where it is longer than a line", "rsa oaep-decrypt", 12, []string{"rsa", "oaep-decrypt"}},
		{"after a hyphen", "rsa oaep-decrypt pss", 8, []string{"rsa", "oaep-", "decrypt", "pss"}},
		{"after a slash", "/usr/lib/softhsm/x.so", 12, []string{"/usr/lib/", "softhsm/x.so"}},
		{"not in a time", "2026-11-26T02:49:39Z, ok", 22, []string{"2026-11-26T02:49:39Z,", "ok"}},
		{"not within a byte of a fingerprint", print, 10, []string{"SHA-256", "00:C1:8F:", "2B:77:AA"}},
		{"with the indentation", "  valid until then", 13, []string{"  valid until", "  then"}},
	} {
		if got := wrapText(test.text, test.width); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// A table that does not fit is written row by row, and nothing of it is cut.
func TestWideTablesBecomeRecords(t *testing.T) {
	print := func(width int, rows ...[]string) string {
		var out bytes.Buffer
		s := newStream(&out)
		s.width, s.rows = width, rows
		if err := s.end(); err != nil {
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

func TestNothingIsLostByWrapping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.StringMatching(`[a-zé:,/-]{1,30}`)).Draw(t, "words"), " ")
		width := rapid.IntRange(1, 40).Draw(t, "width")
		lines := wrapText(text, width)
		for _, line := range lines {
			if utf8.RuneCountInString(line) > width {
				t.Errorf("%q in %d columns", line, width)
			}
		}
		if got := strings.Join(lines, ""); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(text, " ", "") {
			t.Errorf("%q is left of %q", got, text)
		}
	})
}
