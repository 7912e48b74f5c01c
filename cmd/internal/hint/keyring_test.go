package hint

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
)

func TestHintsForKeyrings(t *testing.T) {
	at := ledger.Point{Number: 7}
	for _, test := range []struct {
		name string
		err  error
		want string // the beginning
	}{
		{"a name that is taken", hsmkeys.ErrNameTaken, "hsmkeys rotate makes a new version"},
		{"a name that was mistyped", &hsmkeys.SimilarName{Name: "payroll"}, `did you mean "payroll"?`},
		{"a key without a current version", &hsmkeys.NoCurrentVersion{Name: "db"}, "hsmkeys rotate db makes one; hsmkeys history db"},
		{"a blob that is gone", &hsmkeys.BlobGone{Path: "keys/a"}, "put keys/a back from a copy"},
		{"a blob that was replaced", &hsmkeys.BlobGone{Path: "keys/a", Replaced: true}, "somebody has replaced it"},
		{"an owner who was removed", &hsmkeys.NotMember{Role: blob.Owner}, "an owner can add it again (hsmkeys owner add)"},
		{"an authority that was removed", &hsmkeys.NotMember{Role: blob.BackupAuthority}, "an owner can add it again (hsmkeys authority add)"},
		{"an owner who was recovered", &hsmkeys.NotMember{Role: blob.Owner, Recovered: true}, "hsmkeys log of another member"},
		{"a recovery that nobody accepted", &hsmkeys.NotAccepted{At: at}, "hsmkeys accept 7:0000"},
		{"a keyring of others", fmt.Errorf("%w: %w", hsmkeys.ErrNotJoined, ledger.ErrUnpinned), "hsmkeys join --vouched-by"},
		{"a certificate of nobody", ledger.ErrUnpinned, "use the certificate of the signing key"},
		{"a pin that could not be kept", &hsmkeys.Recorded{Err: hsmkeys.ErrNoStateDir}, "what the command was to do is done, and must not be done again; only the pin is missing: set HOME"},
		{"a key that opens for others", fmt.Errorf("%w: %w", &token.Error{Kind: token.ErrWrapped}, &hsmkeys.DoesNotOpen{Name: "db"}), "another holder's token may open it"},
		{"another signing key", hsmkeys.ErrSigningKey, "name it with --signing-key"},
		{"a signing key for nothing", fmt.Errorf("%w: %w", hsmkeys.ErrSigningKey, hsmkeys.ErrSignsItself), "it is the key exchange pair itself: leave --signing-key out"},
		{"a state that was compacted away", ledger.ErrCompacted, "the state that this token has accepted last"},
		{"something else", errors.New("something else"), ""},
	} {
		if got := For(test.err); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
