package token

import (
	"context"
	"crypto"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/softhsm"
)

// A session that is lost takes session objects with it, and the token may use their handles again: what was made in
// any session is not used any more, though the token is there. What a pair does is repeated.
func TestALostSessionTakesItsKeys(t *testing.T) {
	tok, soft := openFaulty(t)
	pair := makePair(t, tok, "pair", RSA2048)
	key, err := pair.Generate(background, wraps(32))
	if err != nil {
		t.Fatal(err)
	}
	if err := soft.FailAt("C_SignInit", 1, pkcs11.CKR_DEVICE_ERROR); err != nil {
		t.Fatal(err)
	}
	if ok, err := pair.signs([32]byte{1}); err != nil || !ok {
		t.Errorf("it signs: %v, %v", ok, err)
	}
	_, err = key.Wrap(background, pair.Public(), crypto.SHA1)
	if !errors.Is(err, ErrLost) || !errors.Is(err, ErrKeyLost) || !strings.Contains(err.Error(), "CKR_DEVICE_ERROR") {
		t.Errorf("a key of that session: %v", err)
	}
	if err := key.Close(); err != nil {
		t.Error(err)
	}
	again, err := pair.Generate(background, wraps(32))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Wrap(background, pair.Public(), crypto.SHA1); err != nil {
		t.Errorf("a key that was made since: %v", err)
	}
}

// Keys in the other sessions, which are well, do not stay on the token as long as it is open.
func TestALostSessionLeavesNoKeys(t *testing.T) {
	for _, tt := range []struct {
		name, function string
		lose           func(*KeyPair, keyspec.Transit) error
	}{
		{"while another signs", "C_SignInit", func(p *KeyPair, _ keyspec.Transit) error { _, err := p.signs([32]byte{1}); return err }},
		{"as a key is closed", "C_DestroyObject", func(_ *KeyPair, key keyspec.Transit) error { return key.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tok, soft := openFaulty(t)
			pair := makePair(t, tok, "pair", RSA2048)
			var keys []keyspec.Transit
			err := tok.with(background, func(pkcs11.SessionHandle) error { // keeps its session from the keys
				for range 5 {
					key, err := pair.Generate(background, wraps(32))
					if err != nil {
						return err
					}
					keys = append(keys, key)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if n := tok.Sessions(); n < 3 {
				t.Fatalf("%d sessions, so the keys have none to themselves", n)
			}
			if n := sessionKeys(t, tok); n < 5 {
				t.Fatalf("%d keys on the token", n)
			}
			if err := soft.FailAt(tt.function, 1, pkcs11.CKR_DEVICE_ERROR); err != nil {
				t.Fatal(err)
			}
			if err := tt.lose(pair, keys[0]); err != nil {
				t.Fatal(err)
			}
			for _, key := range keys {
				if err := key.Close(); err != nil {
					t.Error(err)
				}
			}
			if n := sessionKeys(t, tok); n != 0 {
				t.Errorf("%d keys stay on the token", n)
			}
		})
	}
}

// sessionKeys counts the secret keys on a token.
func sessionKeys(t *testing.T, tok *Token) int {
	t.Helper()
	found, err := tok.findObjects(background, []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY)})
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// A token without a login has none to lose: the session stays, and is used again.
func TestNoLoginIsLost(t *testing.T) {
	soft := newToken(t)
	tok, err := Open(background, Config{Module: env.Module(), Token: Selector{Serial: soft.Serial}})
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	for range 100 {
		err := tok.with(background, func(pkcs11.SessionHandle) error { return pkcs11.Error(pkcs11.CKR_USER_NOT_LOGGED_IN) })
		want(t, err, pkcs11.Error(pkcs11.CKR_USER_NOT_LOGGED_IN))
	}
	if n := tok.Sessions() + len(tok.pool.gone); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// A token may count a login as a try whatever it answers: there are two, and no later call makes another. One that
// could not reach the token is none.
func TestALoginThatFailsAfterwards(t *testing.T) {
	for _, tt := range []struct {
		name   string
		result uint
		login  func(asked int) bool
	}{
		{"answered", pkcs11.CKR_GENERAL_ERROR, func(asked int) bool { return asked == 2 }},
		{"not reached", pkcs11.CKR_TOKEN_NOT_PRESENT, func(asked int) bool { return asked > 3 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			soft := newToken(t)
			module, err := env.FaultyModule()
			if err != nil {
				t.Fatal(err)
			}
			asked := 0
			tok, err := Open(background, Config{Module: module, Token: Selector{Serial: soft.Serial}, Unattended: true, Patience: 2 * time.Second,
				PIN: func(context.Context, Info) ([]byte, error) { asked++; return []byte(soft.PIN), nil }})
			if err != nil {
				t.Fatal(err)
			}
			defer tok.Close()
			defer soft.Restore()
			if err := soft.Lose(); err != nil {
				t.Fatal(err)
			}
			want(t, tok.Check(background), ErrLost)
			if err := errors.Join(soft.Restore(), soft.Break(softhsm.Fault{Function: "C_Login", Action: softhsm.Fail, Arg: tt.result})); err != nil {
				t.Fatal(err)
			}
			asked = 0
			for range 3 {
				want(t, tok.Check(background), ErrLost, softhsm.ResultName(tt.result))
			}
			if !tt.login(asked) {
				t.Errorf("the PIN was asked for %d times", asked)
			}
		})
	}
}

// openFaulty opens a token through the module in front of SoftHSM.
func openFaulty(t *testing.T) (*Token, softhsm.Token) {
	t.Helper()
	soft := newToken(t)
	module, err := env.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Open(background, Config{Module: module, Token: Selector{Serial: soft.Serial}, PIN: pin(soft.PIN), Unattended: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(tok.Close(), soft.Restore()); err != nil {
			t.Error(err)
		}
	})
	return tok, soft
}

// A module that says that the user is logged in, and is not, is not believed.
func TestAFalseLogin(t *testing.T) {
	soft := newToken(t)
	module, err := env.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	if err := soft.FailAt("C_Login", 1, pkcs11.CKR_USER_ALREADY_LOGGED_IN); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = soft.Restore() })
	tok, err := Open(background, Config{Module: module, Token: Selector{Serial: soft.Serial}, PIN: pin(soft.PIN)})
	if err == nil {
		tok.Close()
	}
	if err == nil || ReturnValue(err) != "CKR_USER_ALREADY_LOGGED_IN" {
		t.Errorf("%v", err)
	}
}

func TestReturnValuesHaveNames(t *testing.T) {
	for code, want := range map[pkcs11.Error]string{0x30: "CKR_DEVICE_ERROR", 0x140: "CKR_CURVE_NOT_SUPPORTED", 0x80000001: "CKR 0x80000001"} {
		if got := ReturnValue(code); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
