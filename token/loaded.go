package token

import (
	"bytes"
	"context"
	"errors"
	"strconv"

	"github.com/miekg/pkcs11"
)

// Loaded is a secret key object on the token, such as [KeyPair.Load] makes. Any program with the
// PIN can have made it, with any label and id.
type Loaded struct {
	Label string // CKA_LABEL
	ID    []byte // CKA_ID

	// Public is set if the object is not CKA_PRIVATE: then anybody can have made it, and can use
	// it, without the PIN. [KeyPair.Load] makes no such object.
	Public bool

	Object uint // names the key to the [Token] that returned it
}

// Loaded returns the secret keys that are stored on the token.
func (t *Token) Loaded(ctx context.Context) ([]Loaded, error) {
	found, err := t.findObjects(ctx, secretKeys())
	if err != nil {
		return nil, err
	}
	var all []Loaded
	err = t.with(ctx, func(s pkcs11.SessionHandle) error {
		for _, handle := range found {
			values, err := t.optionalAttributes(s, handle, pkcs11.CKA_PRIVATE, pkcs11.CKA_LABEL, pkcs11.CKA_ID)
			if is(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) {
				continue // it was deleted meanwhile
			}
			if err != nil {
				return err
			}
			all = append(all, Loaded{
				Label: string(values[pkcs11.CKA_LABEL]), ID: values[pkcs11.CKA_ID],
				Public: !isTrue(attr(pkcs11.CKA_PRIVATE, values[pkcs11.CKA_PRIVATE])), Object: uint(handle),
			})
		}
		return nil
	})
	return all, t.fail("list secret keys", nil, err)
}

// Unload deletes a secret key that [Token.Loaded] has returned. It is no error if the key is gone
// already.
func (t *Token) Unload(ctx context.Context, key Loaded) error {
	err := t.with(ctx, func(s pkcs11.SessionHandle) error {
		values, err := t.optionalAttributes(s, pkcs11.ObjectHandle(key.Object), pkcs11.CKA_CLASS, pkcs11.CKA_LABEL, pkcs11.CKA_ID)
		if is(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) {
			return nil
		}
		if err != nil {
			return err
		}
		class := attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY)
		if !bytes.Equal(values[pkcs11.CKA_CLASS], class.Value) || string(values[pkcs11.CKA_LABEL]) != key.Label || !bytes.Equal(values[pkcs11.CKA_ID], key.ID) {
			return errors.New("its handle belongs to another object now")
		}
		return t.destroyQuietly(s, pkcs11.ObjectHandle(key.Object))
	})
	return t.fail("delete the secret key "+strconv.Quote(key.Label), nil, err)
}

// secretKeys is the template that finds them.
func secretKeys() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attr(pkcs11.CKA_TOKEN, true)}
}

// Loaded is [Token.Loaded] of the token that the pair is on.
func (p *KeyPair) Loaded(ctx context.Context) ([]Loaded, error) { return p.token.Loaded(ctx) }

// Unload is [Token.Unload] of the token that the pair is on.
func (p *KeyPair) Unload(ctx context.Context, key Loaded) error { return p.token.Unload(ctx, key) }
