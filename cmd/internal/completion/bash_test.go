package completion

import (
	"testing"
)

func TestBashQuoting(t *testing.T) {
	for _, tt := range []struct{ raw, word, want string }{
		{"ba", "back office", `back\ office`},
		{`back\ o`, "back office", `back\ office`},
		{"'ba", "back 'office'", `back '\''office'\''`},
		{`"ba`, `back "$office`, `back \"\$office`},
		{"--token=ba", "--token=back office", `back\ office`},
		{"--token='ba", "--token=back office", "back office"},
		{"", "~root; $(x) `y` *", "\\~root\\;\\ \\$\\(x\\)\\ \\`y\\`\\ \\*"},
		{"payroll@", "payroll@1", "@1"},
		{"", "Zoë", "Zoë"},
	} {
		if got := bashQuoting("=:@", tt.raw)(tt.word); got != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.raw, tt.word, got, tt.want)
		}
	}
	if got := bashQuoting("", "--token=ba")("--token=bank"); got != "--token=bank" {
		t.Errorf("nothing breaks words, and it is %s", got)
	}
}
