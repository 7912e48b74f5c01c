package token

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

func TestInitialize(t *testing.T) {
	soPIN, userPIN := []byte("so pin 1"), []byte("user pin 1")
	info, err := Initialize(env.Module(), NewToken{Label: "brand new", SOPIN: soPIN, UserPIN: userPIN})
	if err != nil {
		t.Fatal(err)
	}
	st := softhsm.Token{Label: "brand new", Serial: info.Serial, PIN: "user pin 1"}
	t.Cleanup(func() { _ = env.DestroyToken(st) })
	if info.Label != "brand new" || !info.Initialized || !info.PIN.Initialized || info.Serial == "" {
		t.Errorf("made %+v", info)
	}
	for _, pin := range [][]byte{soPIN, userPIN} {
		if !bytes.Equal(pin, make([]byte, len(pin))) {
			t.Errorf("a PIN is still in memory: %q", pin)
		}
	}
	if len(libraries) != 0 {
		t.Error("the module is still loaded")
	}
	tok := open(t, st)
	makePair(t, tok, "pair", 2048)
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	p := pkcs11.New(env.Module())
	defer p.Destroy()
	if err := p.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Finalize() }()
	s, err := openRawSession(p, st.Serial)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Login(s, pkcs11.CKU_SO, "so pin 1"); err != nil {
		t.Errorf("the security officer's PIN: %v", err)
	}
}

func TestInitializeInAGivenSlot(t *testing.T) {
	open(t, newToken(t)) // another open token does no harm
	slot := blankSlot(t)
	info, err := Initialize(env.Module(), NewToken{Slot: &slot, Label: "in its slot", SOPIN: []byte("1234"), UserPIN: []byte("5678")})
	if err != nil {
		t.Fatal(err)
	}
	st := softhsm.Token{Serial: info.Serial, PIN: "5678"}
	t.Cleanup(func() { _ = env.DestroyToken(st) })
	works(t, open(t, st))
}

func blankSlot(t testing.TB) uint {
	t.Helper()
	all, err := List(env.Module())
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range all {
		if !info.Initialized {
			return info.Slot
		}
	}
	t.Fatal("SoftHSM shows no blank token")
	return 0
}

func TestInitializeRefuses(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	taken, missing := tok.Info().Slot, uint(1<<40)
	for _, tt := range []struct {
		name, label string
		slot        *uint
		so, user    string
		kind        error
	}{
		{"a label that is taken", st.Label, nil, "1234", "5678", ErrTaken},
		{"a slot whose token is initialised", "fresh", &taken, "1234", "5678", ErrTaken},
		{"a slot that is not there", "fresh", &missing, "1234", "5678", ErrNoToken},
		{"no label", "", nil, "1234", "5678", errors.ErrUnsupported},
		{"a label too long", strings.Repeat("x", 33), nil, "1234", "5678", errors.ErrUnsupported},
		{"a label that ends in a blank, which a token does not keep", "fresh ", nil, "1234", "5678", errors.ErrUnsupported},
		{"a label with a NUL", "fr\x00esh", nil, "1234", "5678", errors.ErrUnsupported},
		{"a label that is no UTF-8", "fr\xffesh", nil, "1234", "5678", errors.ErrUnsupported},
		{"a security officer's PIN too short", "fresh", nil, "123", "5678", ErrPIN},
		{"a user PIN too short", "fresh", nil, "1234", "567", ErrPIN},
		{"a user PIN too long", "fresh", nil, "1234", strings.Repeat("5", 256), ErrPIN},
		{"no user PIN", "fresh", nil, "1234", "", ErrPIN},
		{"a security officer's PIN in UTF-16", "fresh", nil, "1\x002\x003\x004\x00", "5678", ErrPIN},
		{"a user PIN with a byte order mark", "fresh", nil, "1234", "\ufeff5678", ErrPIN},
	} {
		t.Run(tt.name, func(t *testing.T) {
			so, user := []byte(tt.so), []byte(tt.user)
			_, err := Initialize(env.Module(), NewToken{Slot: tt.slot, Label: tt.label, SOPIN: so, UserPIN: user})
			want(t, err, tt.kind)
			if !bytes.Equal(append(so, user...), make([]byte, len(so)+len(user))) {
				t.Error("the PINs are still in memory")
			}
			all, err := List(env.Module())
			if err != nil {
				t.Fatal(err)
			}
			for _, info := range all {
				if strings.HasPrefix(info.Label, "fr") {
					t.Errorf("it made %+v", info)
				}
			}
			var e *Error
			if !errors.As(err, &e) && err != nil {
				t.Errorf("%v is no *Error", err)
			}
		})
	}
	works(t, tok)
}
