package token

import (
	"bytes"
	"context"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/token/guard"
)

// maxObjects is how many matching objects are accepted. A broken module can find objects without
// end.
const maxObjects = 1 << 16

// findObjects returns the handles of all objects that match.
func (t *Token) findObjects(ctx context.Context, template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	var all []pkcs11.ObjectHandle
	err := t.with(ctx, func(s pkcs11.SessionHandle) error {
		if err := t.ctx.FindObjectsInit(s, template); err != nil {
			return err
		}
		for {
			some, _, err := t.ctx.FindObjects(s, 64)
			if err != nil || len(some) == 0 {
				return also(err, t.ctx.FindObjectsFinal(s))
			}
			if all = append(all, some...); len(all) > maxObjects {
				err := &Error{Op: "find objects", Token: t.info.Module, Kind: ErrModule,
					Err: fmt.Errorf("C_FindObjects returned more than %d of them", maxObjects)}
				return also(err, t.ctx.FindObjectsFinal(s))
			}
		}
	})
	return all, t.fail("find objects", nil, err)
}

// optionalAttribute returns an attribute, or nil if the object does not have it or does not show
// it.
func (t *Token) optionalAttribute(s pkcs11.SessionHandle, object pkcs11.ObjectHandle, kind uint) ([]byte, error) {
	a, err := t.ctx.GetAttributeValue(s, object, []*pkcs11.Attribute{attr(kind, nil)})
	if is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return a[0].Value, nil
}

// optionalAttributes returns several of them, in one call if the object has them all: some tokens
// read the object anew for each call.
func (t *Token) optionalAttributes(s pkcs11.SessionHandle, object pkcs11.ObjectHandle, kinds ...uint) (map[uint][]byte, error) {
	values := map[uint][]byte{}
	template := make([]*pkcs11.Attribute, len(kinds))
	for i, kind := range kinds {
		template[i] = attr(kind, nil)
	}
	if all, err := t.ctx.GetAttributeValue(s, object, template); err == nil && len(all) == len(kinds) {
		for i, a := range all {
			values[kinds[i]] = a.Value
		}
		return values, nil
	}
	for _, kind := range kinds {
		value, err := t.optionalAttribute(s, object, kind)
		if err != nil {
			return nil, err
		}
		values[kind] = value
	}
	return values, nil
}

// readValue returns CKA_VALUE. The caller must overwrite it if it is secret.
func (t *Token) readValue(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) ([]byte, error) {
	return guard.Take(func() ([]byte, error) {
		values, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_VALUE, nil)})
		if err != nil {
			return nil, err
		}
		return values[0].Value, nil
	})
}

// createChecked makes an object, and destroys it again if check fails.
func (p *KeyPair) createChecked(ctx context.Context, template []*pkcs11.Attribute, check func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	return p.token.with(ctx, func(s pkcs11.SessionHandle) error {
		handle, err := p.token.ctx.CreateObject(s, template)
		if err != nil {
			return err
		}
		return p.token.checkOrDestroy(s, handle, check)
	})
}

// checkOrDestroy destroys a new object if check fails.
func (t *Token) checkOrDestroy(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, check func(pkcs11.SessionHandle, pkcs11.ObjectHandle) error) error {
	if err := check(s, handle); err != nil {
		return also(err, t.destroyQuietly(s, handle))
	}
	return nil
}

func (t *Token) destroyObjects(ctx context.Context, template ...*pkcs11.Attribute) error {
	found, err := t.findObjects(ctx, template)
	if err != nil {
		return err
	}
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		var err error
		for _, handle := range found {
			err = also(err, t.destroyQuietly(s, handle))
		}
		return err
	})
}

// destroyQuietly destroys an object. It is no error if the object is gone already.
func (t *Token) destroyQuietly(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
	if err := t.ctx.DestroyObject(s, handle); !is(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) {
		return err
	}
	return nil
}

func isZero(a *pkcs11.Attribute) bool { return len(bytes.Trim(a.Value, "\x00")) == 0 }

func isTrue(a *pkcs11.Attribute) bool { return len(a.Value) == 1 && a.Value[0] != 0 }
