package hint

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

func TestHintsForTokens(t *testing.T) {
	wrong := uint(99)
	office := token.Info{Module: "/lib/a.so", Slot: 3, Label: "office", Serial: "01", Initialized: true}
	vault := token.Info{Module: "/lib/b.so", Slot: 4, Label: "vault", Serial: "02", Initialized: true}
	blank := token.Info{Module: "/lib/a.so", Slot: 5}
	broken := token.Info{Module: "/lib/a.so", Slot: 6, Problem: "CKR_DEVICE_ERROR"}
	there := []token.Info{office, blank, broken}
	pair := func(label string, id ...byte) token.PairName { return token.PairName{Label: label, ID: id} }
	for _, test := range []struct {
		name string
		err  *token.Error
		want string
	}{
		{"a pair that is not there", &token.Error{Kind: token.ErrNoPair, Facts: &token.PairsFound{Pairs: []token.PairName{pair("a"), pair("", 1, 2)}, More: 3}},
			`the token has these pairs: "a", pkcs11:id=%01%02, 3 more`},
		{"no pair at all", &token.Error{Kind: token.ErrNoPair}, "hsmkeys init makes one; hsmkeys init --adopt uses one that is there"},
		{"several pairs", &token.Error{Kind: token.ErrAmbiguous, Facts: &token.PairsFound{Pairs: []token.PairName{pair("a", 1), pair("b", 2)}}},
			`name one by its id: pkcs11:id=%01;object=a ("a"), pkcs11:id=%02;object=b ("b")`},
		{"several pairs of one name", &token.Error{Kind: token.ErrAmbiguous, Facts: &token.PairsFound{Pairs: []token.PairName{pair("a", 1), pair("a", 1)}}},
			`several have the same id and label, pkcs11:id=%01;object=a ("a"): give all but one another id, with pkcs11-tool --set-id`},

		{"a token that is not there", &token.Error{Kind: token.ErrNoToken, Facts: &token.TokensFound{Selector: token.Selector{Label: "offise"}, Tokens: there}},
			`did you mean "office"? the module shows: "office", one in slot 6 that cannot be used: CKR_DEVICE_ERROR`},
		{"a module without a token", &token.Error{Kind: token.ErrNoToken, Facts: &token.TokensFound{Tokens: []token.Info{blank}}},
			"the module shows no initialised token; hsmkeys token init LABEL initialises a blank one"},
		{"a token in no module", &token.Error{Kind: token.ErrNoToken, Facts: &token.TokensFound{
			Tokens: []token.Info{vault}, Searched: true, Modules: []string{"/lib/a.so", "/lib/b.so"}, Failed: []error{errors.New("module c fails")}}},
			`looked at: /lib/a.so (no token); /lib/b.so ("vault"); module c fails; another module is named with --module`},
		{"no module to look for a token", &token.Error{Kind: token.ErrNoToken, Facts: &token.TokensFound{Searched: true}},
			"looked at: p11-kit knows no module; another module is named with --module"},
		{"two tokens in a module", &token.Error{Kind: token.ErrAmbiguous, Facts: &token.TokensFound{Tokens: []token.Info{office, vault}}},
			`name one by its serial: pkcs11:serial=01 ("office", slot 3), pkcs11:serial=02 ("vault", slot 4)`},
		{"two tokens in modules", &token.Error{Kind: token.ErrAmbiguous, Facts: &token.TokensFound{Tokens: []token.Info{office, vault}, Searched: true}},
			`name one by its serial and module: pkcs11:serial=01?module-path=/lib/a.so ("office", slot 3), pkcs11:serial=02?module-path=/lib/b.so ("vault", slot 4)`},

		{"a label that another token has", &token.Error{Kind: token.ErrTaken, Facts: &token.BlankTokens{Label: "office", Tokens: there}},
			"a token with this label is in slot 3, serial 01; choose another label"},
		{"a token that is initialised", &token.Error{Kind: token.ErrTaken, Facts: &token.BlankTokens{Label: "new", Slot: &office.Slot, Tokens: there}},
			`the token in slot 3 is "office"; it is not initialised a second time`},
		{"a slot that is not there", &token.Error{Kind: token.ErrNoToken, Facts: &token.BlankTokens{Label: "new", Slot: &wrong, Tokens: there}},
			"there is no token in slot 99; blank ones are in: 5"},
		{"a slot whose token is broken", &token.Error{Kind: token.ErrNoToken, Facts: &token.BlankTokens{Label: "new", Slot: &broken.Slot, Tokens: []token.Info{broken}}},
			"there is no blank token in slot 6; hsmkeys token list shows what there is"},
		{"no blank token", &token.Error{Kind: token.ErrNoToken, Facts: &token.BlankTokens{Label: "new"}},
			"the module shows no blank token; hsmkeys token list shows what there is"},

		{"a wrong PIN", &token.Error{Kind: token.ErrPIN, Facts: &token.PINTried{PIN: &token.PIN{Initialized: true}}},
			"it was tried once and is not tried again; the token does not say how many tries are left"},
		{"a wrong PIN, some tries used up", &token.Error{Kind: token.ErrPIN, Facts: &token.PINTried{PIN: &token.PIN{CountLow: true}}},
			"it was tried once and is not tried again; the token says that tries have been used up, not how many are left"},
		{"a wrong PIN, one try left", &token.Error{Kind: token.ErrPIN, Facts: &token.PINTried{PIN: &token.PIN{CountLow: true, FinalTry: true}}},
			"it was tried once and is not tried again; the token says that one try is left"},
		{"a wrong PIN that locked the token", &token.Error{Kind: token.ErrPIN, Facts: &token.PINTried{PIN: &token.PIN{FinalTry: true, Locked: true}}},
			"it was tried once and is not tried again; the token has locked the PIN"},
		{"a wrong PIN, and a token that went away", &token.Error{Kind: token.ErrPIN, Facts: &token.PINTried{}}, "it was tried once and is not tried again"},
		{"a PIN that is locked", &token.Error{Kind: token.ErrPINLocked, Facts: &token.PINTried{PIN: &token.PIN{Locked: true}}}, newPIN},
		{"a PIN that was changed while the token was away", &token.Error{Kind: token.ErrLost, Err: &token.Error{Kind: token.ErrPIN, Facts: &token.PINTried{}}},
			"open the token again, with the right PIN"},
		{"a token that went away", &token.Error{Kind: token.ErrLost}, "put the token back, or start its daemon again, and repeat the command"},

		{"a key that is loaded", &token.Error{Kind: token.ErrTaken, Err: &token.LoadedAlready{SameID: true}}, "hsmkeys list --loaded shows it, hsmkeys unload removes it"},
		{"a label that another key has", &token.Error{Kind: token.ErrTaken, Err: &token.LoadedAlready{}}, "load --replace takes the place of another version of the same key; hsmkeys list --loaded shows what is there, or choose another --label"},

		{"a module of no known name", &token.Error{Kind: token.ErrModule, Err: fs.ErrNotExist, Facts: &token.ModulesNamed{Known: []string{"a", "b"}}},
			"known modules: a, b; name any other by its path, with module-path or --module"},
		{"a module in the working directory", &token.Error{Token: "x.so", Kind: token.ErrModule, Facts: token.ErrModuleWorkingDir},
			"the dynamic loader looks up a name without a slash; the file in this directory is ./x.so"},
		{"an attribute of a URI", &token.Error{Kind: token.ErrURI, Err: &token.URIAttribute{Name: "x", Known: []string{"token", "serial"}}}, "known attributes: token, serial"},
		{"a malformed URI", &token.Error{Kind: token.ErrURI}, "RFC 7512 defines the form: pkcs11:token=LABEL;object=PAIR?module-path=/path/module.so"},

		{"a short RSA key to import", &token.Error{Kind: errors.ErrUnsupported, Facts: token.ErrLegacyPair}, "hsmkeys token import-pair --legacy takes RSA from 512 bits, to open SIMPLEBLOBs and for nothing else"},
		{"a legacy pair", &token.Error{Kind: errors.ErrUnsupported, Err: fmt.Errorf("it is %w", token.ErrLegacyPair)},
			"hsmkeys import NAME --capi FILE --pair LABEL opens a SIMPLEBLOB with it; all else needs RSA with 2048 bits, or EC"},
		{"a legacy pair that is there", &token.Error{Kind: token.ErrTaken, Err: token.ErrKeyTaken, Facts: token.ErrLegacyPair},
			"hsmkeys import NAME --capi FILE --pair LABEL opens a SIMPLEBLOB with it"},
		{"a pair that is there", &token.Error{Kind: token.ErrTaken, Err: token.ErrKeyTaken}, "hsmkeys init --adopt uses it"},
		{"memory", &token.Error{Kind: token.ErrResidence}, "without --require-token they live in the memory of this program while they are used"},
		{"a token that reveals keys", &token.Error{Kind: token.ErrResidence, Facts: token.ErrReveals}, "without --require-token it is used all the same"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := For(fmt.Errorf("open the token: %w", test.err)); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestHintForAFileThatOthersCanWrite(t *testing.T) {
	for path, want := range map[string]string{
		"/etc/hsmkeys/config.toml": "chmod go-w /etc/hsmkeys/config.toml",
		"/home/ann's/config":       `chmod go-w '/home/ann'\''s/config'`,
		"-x":                       "chmod go-w '-x'",
	} {
		if got := For(&ownfile.Error{Path: path, Writable: true}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := For(&ownfile.Error{Path: "/etc/x", Reason: "belongs to user 7"}); got != "" {
		t.Errorf("%q, and only its owner can do that", got)
	}
}

func TestEverySituationHasOneHint(t *testing.T) {
	for _, s := range situations {
		got := For(&token.Error{Kind: token.ErrModule, Facts: s.is})
		if got != s.hint || got == "" || strings.HasSuffix(got, ".") {
			t.Errorf("%v: %q, want %q", s.is, got, s.hint)
		}
	}
}
