package output

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

func TestJSONHasNoCharacterThatDoesNotPrint(t *testing.T) {
	// Bidi controls, a soft hyphen, a tag beyond the BMP, DEL, C1, a no-break space, what
	// prints, and what is escaped anyway.
	const label = "a\u202eb\u2066c\u00ade\U000e0041f\x7fg\u0085h\u00a0i\ufeffäöü€😀\"\\\n\t\u2028"
	for _, v := range []any{label, map[string]string{label: label}, []string{label, label}} {
		text, err := document(v, "  ")
		if err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q at %d", text, i)
		}
		if !strings.Contains(text, "äöü€😀") {
			t.Errorf("what prints is escaped: %q", text)
		}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var was, is any
		if err := json.Unmarshal(want, &was); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &is); err != nil {
			t.Fatal(err)
		}
		before, _ := json.Marshal(was)
		after, _ := json.Marshal(is)
		if string(before) != string(after) {
			t.Errorf("%s was %s", after, before)
		}
	}
}
