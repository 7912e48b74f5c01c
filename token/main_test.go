package token

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// env is the SoftHSM environment of all tests. If SoftHSM is missing they fail: a test that did not
// run proves nothing.
var env *softhsm.Env

func TestMain(m *testing.M) {
	if script := os.Getenv(attackVariable); script != "" {
		os.Exit(attackMain(script))
	}
	if job := os.Getenv(residueVariable); job != "" {
		os.Exit(residueMain(job))
	}
	var err error
	if env, err = softhsm.New(); err == nil {
		err = env.Use()
	}
	if err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	if len(libraries) != 0 {
		log.Printf("modules are still open: %v", libraries)
		code = 1
	}
	if err := env.Close(); err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

var serial atomic.Int64

// newToken makes a token of its own for a test.
func newToken(t testing.TB) softhsm.Token {
	t.Helper()
	return newTokenLabelled(t, fmt.Sprintf("token %d", serial.Add(1)))
}

func newTokenLabelled(t testing.TB, label string) softhsm.Token {
	t.Helper()
	st, err := env.InitToken(label)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = env.DestroyToken(st) })
	return st
}

func pin(text string) func(context.Context, Info) ([]byte, error) {
	return func(context.Context, Info) ([]byte, error) { return []byte(text), nil }
}

func config(st softhsm.Token) Config {
	return Config{Module: env.Module(), Token: Selector{Serial: st.Serial}, PIN: pin(st.PIN), MakePairs: true}
}

// open logs in to a token until the test ends.
func open(t testing.TB, st softhsm.Token) *Token {
	t.Helper()
	tok, err := Open(context.Background(), config(st))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
	})
	return tok
}

// newPair makes a key exchange pair on a token of its own.
func newPair(t testing.TB) (softhsm.Token, *KeyPair) {
	t.Helper()
	st := newToken(t)
	return st, makePair(t, open(t, st), "pair", 2048)
}

func makePair(t testing.TB, tok *Token, label string, bits KeyType) *KeyPair {
	t.Helper()
	p, err := tok.GenerateKeyPair(context.Background(), label, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// want checks the kind of an error, and that its one line contains the texts.
func want(t testing.TB, err, kind error, says ...string) {
	t.Helper()
	if err == nil || kind != nil && !errors.Is(err, kind) {
		t.Errorf("error is %v, want %v", err, kind)
		return
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has more than one line", err)
	}
}

// facts returns the text of an error's facts.
func facts(t testing.TB, err error) string {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%v is no *Error", err)
		return ""
	}
	if e.Facts == nil {
		return ""
	}
	return e.Facts.Error()
}

// raw is a session opened behind the package's back. While a Token is open it
// is logged in as the Token is: the login belongs to the process.
type raw struct {
	*pkcs11.Ctx
	session pkcs11.SessionHandle
}

func openRaw(t testing.TB, st softhsm.Token) raw {
	t.Helper()
	ctx := pkcs11.New(env.Module())
	if ctx == nil {
		t.Fatal("the module does not load")
	}
	s, err := openRawSession(ctx, st.Serial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ctx.CloseSession(s)
		ctx.Destroy()
	})
	return raw{ctx, s}
}

func openRawSession(ctx *pkcs11.Ctx, serial string) (pkcs11.SessionHandle, error) {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		if info, err := ctx.GetTokenInfo(slot); err == nil && info.SerialNumber == serial {
			return ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		}
	}
	return 0, fmt.Errorf("no token with serial %s", serial)
}

// find returns the objects that match.
func (r raw) find(t testing.TB, template ...*pkcs11.Attribute) []pkcs11.ObjectHandle {
	t.Helper()
	if err := r.FindObjectsInit(r.session, template); err != nil {
		t.Fatal(err)
	}
	found, _, err := r.FindObjects(r.session, 1000)
	if err == nil {
		err = r.FindObjectsFinal(r.session)
	}
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// one returns the only object that matches.
func (r raw) one(t testing.TB, template ...*pkcs11.Attribute) pkcs11.ObjectHandle {
	t.Helper()
	found := r.find(t, template...)
	if len(found) != 1 {
		t.Fatalf("%d objects match, want 1", len(found))
	}
	return found[0]
}

// secretKeys returns the secret keys, except for confirmObjects.
func (r raw) secretKeys(t testing.TB, template ...*pkcs11.Attribute) []pkcs11.ObjectHandle {
	t.Helper()
	helpers := r.find(t, attr(pkcs11.CKA_LABEL, confirmLabel))
	found := r.find(t, append(template, attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY))...)
	return slices.DeleteFunc(found, func(o pkcs11.ObjectHandle) bool { return slices.Contains(helpers, o) })
}

func (r raw) attribute(t testing.TB, object pkcs11.ObjectHandle, kind uint) []byte {
	t.Helper()
	a, err := r.GetAttributeValue(r.session, object, []*pkcs11.Attribute{attr(kind, nil)})
	if err != nil {
		t.Fatalf("attribute 0x%X: %v", kind, err)
	}
	return a[0].Value
}

// rsaOf is the public key of a pair that is RSA.
func rsaOf(p *KeyPair) *rsa.PublicKey { return p.public.(*rsa.PublicKey) }
