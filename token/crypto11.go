package token

import (
	"context"
	"reflect"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/token/guard"
)

// withCrypto11 runs f between enter and leave.
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

// configure has crypto11 load and initialise the module, and guards what it has loaded.
func configure(cfg *crypto11.Config) (c11 *crypto11.Context, err error) {
	guard.During(cfg.Path, "C_Initialize or C_OpenSession", func() { c11, err = crypto11.Configure(cfg) })
	if err != nil {
		return nil, err
	}
	if err := guard.Attach(contextOf(c11), cfg.Path); err != nil {
		return nil, also(err, c11.Close())
	}
	return c11, nil
}

// deconfigure undoes configure, and finalises the module when c11 is the last.
func deconfigure(c11 *crypto11.Context, path string) (err error) {
	ctx := contextOf(c11)
	guard.During(path, "C_Finalize", func() { err = c11.Close() })
	guard.Forget(ctx)
	return err
}

// contextOf returns the context that crypto11 v1.2.5 keeps to itself.
func contextOf(c11 *crypto11.Context) *pkcs11.Ctx {
	return *(**pkcs11.Ctx)(reflect.ValueOf(c11).Elem().FieldByName("ctx").Addr().UnsafePointer())
}

// generatePair has crypto11 make the pair, or where its sessions are not logged in with
// ours makes it in one of ours.
func (t *Token) generatePair(ctx context.Context, public, private crypto11.AttributeSet, kind KeyType) error {
	if t.c11 != nil && !t.lib.initialized {
		return t.withCrypto11(func() error {
			return kind.maker().generate(t.c11, public, private)
		})
	}
	how, what, err := kind.maker().mechanism()
	if err != nil {
		return err
	}
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		_, _, err := t.ctx.GenerateKeyPair(s, mechanism(how, nil), append(public.ToSlice(), what), private.ToSlice())
		return err
	})
}
