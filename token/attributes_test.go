package token

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadModuleTellsWhatItIs(t *testing.T) {
	info, err := ReadModule(env.Module())
	if err != nil {
		t.Fatal(err)
	}
	if info.Manufacturer != "SoftHSM" || info.Cryptoki != "2.40" || !strings.HasPrefix(info.Version, "2.") || !filepath.IsAbs(info.Path) {
		t.Errorf("got %+v", info)
	}
	st := newToken(t)
	open(t, st) // which ReadModule must not finalise
	if _, err := ReadModule(env.Module()); err != nil {
		t.Error(err)
	}
	if _, err := ReadModule("/nowhere.so"); !errors.Is(err, ErrModule) {
		t.Errorf("no module: %v", err)
	}
}

func TestAttributesOfAPairThatWasMadeHere(t *testing.T) {
	_, pair := newPair(t)
	a, err := pair.Attributes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !a.Sign || !a.Unwrap || a.Derive || a.AlwaysAuthenticate || !a.AlwaysSensitive || !a.NeverExtractable {
		t.Errorf("got %+v", a)
	}
}

func TestSelectorMatchesOnlyItsToken(t *testing.T) {
	info := Info{Label: "office", Serial: "12", Initialized: true}
	blank := info
	blank.Initialized = false
	for _, test := range []struct {
		name string
		sel  Selector
		info Info
		want bool
	}{
		{"any", Selector{}, info, true},
		{"its label", Selector{Label: "office"}, info, true},
		{"another label", Selector{Label: "vault"}, info, false},
		{"another serial", Selector{Label: "office", Serial: "13"}, info, false},
		{"a blank token", Selector{}, blank, false},
	} {
		if got := test.sel.Matches(test.info); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
