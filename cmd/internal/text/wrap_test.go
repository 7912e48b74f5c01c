package text

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

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
		if got := Wrap(test.text, test.width); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestNothingIsLostByWrapping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.StringMatching(`[a-zé:,/-]{1,30}`)).Draw(t, "words"), " ")
		width := rapid.IntRange(1, 40).Draw(t, "width")
		lines := Wrap(text, width)
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
