package token

import (
	"context"
	"reflect"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/token/guard"
)

// crypto11 makes key exchange pairs, and does nothing else here: it insists on initialising the
// module itself, on a public half beside every private key, and knows no PIN for each use. All
// that depends on it is in this file.

// crypto11Context is a module that crypto11 has initialised.
type crypto11Context = crypto11.Context

// generatePair has crypto11 make the pair, or makes it in a session of t where crypto11's sessions
// are not logged in with those.
func (t *Token) generatePair(ctx context.Context, public, private []*pkcs11.Attribute, kind KeyType) error {
	if t.c11 != nil && !t.lib.initialized {
		return t.withCrypto11(func() error { return kind.maker().generate(t.c11, public, private) })
	}
	how, what, err := kind.maker().mechanism()
	if err != nil {
		return err
	}
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		_, _, err := t.ctx.GenerateKeyPair(s, mechanism(how, nil), append(public, what), private)
		return err
	})
}

func (m rsaMaker) generate(c11 *crypto11Context, public, private []*pkcs11.Attribute) error {
	_, err := c11.GenerateRSAKeyPairWithAttributes(attributeSet(public), attributeSet(private), int(m))
	return err
}

func (m ecMaker) generate(c11 *crypto11Context, public, private []*pkcs11.Attribute) error {
	_, err := c11.GenerateECDSAKeyPairWithAttributes(attributeSet(public), attributeSet(private), m.curve)
	return err
}

func attributeSet(template []*pkcs11.Attribute) crypto11.AttributeSet {
	set := crypto11.AttributeSet{}
	for _, a := range template {
		set[a.Type] = a
	}
	return set
}

// withCrypto11 runs f, which calls crypto11, as [Token.with] runs its functions.
func (t *Token) withCrypto11(f func() error) error {
	leave, err := t.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := t.revive(context.Background()); err != nil {
		return err
	}
	t.alive.RLock()
	defer t.alive.RUnlock()
	return t.noteLoss(f())
}

// configure has crypto11 load and initialise the module for the token in a slot, and guards what it
// has loaded.
func configure(path string, info Info) (c11 *crypto11Context, err error) {
	slot := int(info.Slot)
	cfg := &crypto11.Config{
		Path: path, SlotNumber: &slot, MaxSessions: poolSize(info.maxSessions) + 1, // one it keeps for itself
		LoginNotSupported: true, // login does that: if crypto11 failed to, it would finalise the module
	}
	guard.During(path, "C_Initialize or C_OpenSession", func() { c11, err = crypto11.Configure(cfg) })
	if err != nil {
		return nil, err
	}
	if err := guard.Attach(contextOf(c11), path); err != nil {
		return nil, also(err, c11.Close())
	}
	return c11, nil
}

// deconfigure undoes configure, and finalises the module when c11 is the last.
func deconfigure(c11 *crypto11Context, path string) (err error) {
	ctx := contextOf(c11)
	guard.During(path, "C_Finalize", func() { err = c11.Close() })
	guard.Forget(ctx)
	return err
}

// contextOf returns the context that crypto11 v1.2.5 keeps to itself.
func contextOf(c11 *crypto11Context) *pkcs11.Ctx {
	return *(**pkcs11.Ctx)(reflect.ValueOf(c11).Elem().FieldByName("ctx").Addr().UnsafePointer())
}
