package token

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// checkProtected reads back that the token has made the key as the template asks: with its uses,
// for nobody without the PIN, and of the right size; and that the token does not reveal it, which
// some do although they accepted the template.
func (t *Token) checkProtected(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, spec keyspec.Key, template []*pkcs11.Attribute) error {
	const op = "unwrap session key"
	if err := t.checkFlags(s, handle, template); err != nil {
		return err
	}
	if err := t.checkNotRevealed(s, handle); err != nil {
		return err
	}
	// SoftHSM has no length for a key that was unwrapped; other tokens may not have the
	// attribute.
	a, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{attr(pkcs11.CKA_VALUE_LEN, nil)})
	if err != nil {
		return nil // there is nothing to compare
	}
	if size := attr(pkcs11.CKA_VALUE_LEN, spec.Size).Value; !bytes.Equal(a[0].Value, size) && !isZero(a[0]) {
		return t.fail(op, ErrWrapped, fmt.Errorf("it does not have %d bytes", spec.Size))
	}
	return nil
}

// flags are the boolean attributes of secret keys, which decide who may do what with a key.
var flags = map[uint]string{
	pkcs11.CKA_TOKEN: "CKA_TOKEN", pkcs11.CKA_PRIVATE: "CKA_PRIVATE", pkcs11.CKA_SENSITIVE: "CKA_SENSITIVE", pkcs11.CKA_EXTRACTABLE: "CKA_EXTRACTABLE",
	pkcs11.CKA_WRAP: "CKA_WRAP", pkcs11.CKA_UNWRAP: "CKA_UNWRAP", pkcs11.CKA_ENCRYPT: "CKA_ENCRYPT", pkcs11.CKA_DECRYPT: "CKA_DECRYPT",
	pkcs11.CKA_SIGN: "CKA_SIGN", pkcs11.CKA_VERIFY: "CKA_VERIFY", pkcs11.CKA_DERIVE: "CKA_DERIVE",
}

// checkFlags reads back that a new object has the flags of the template from which it was made.
func (t *Token) checkFlags(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, template []*pkcs11.Attribute) error {
	var asked, read []*pkcs11.Attribute
	for _, a := range template {
		if flags[a.Type] != "" {
			asked, read = append(asked, a), append(read, attr(a.Type, nil))
		}
	}
	got, err := t.ctx.GetAttributeValue(s, handle, read)
	if err != nil {
		return err
	}
	for i, a := range asked {
		if isTrue(got[i]) != isTrue(a) {
			return t.fail("make a key", ErrUnsafe, fmt.Errorf("the token made it with %s %t, not %t", flags[a.Type], isTrue(got[i]), isTrue(a)))
		}
	}
	return nil
}

const (
	revealsNot = 1 + iota
	revealsIt
)

// checkNotRevealed tries once for each Token whether the token reveals a sensitive value: a module
// may state that a key is sensitive and hand its value out all the same.
func (t *Token) checkNotRevealed(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
	if t.reveals.Load() == 0 {
		value, err := t.readValue(s, handle)
		clear(value)
		if err == nil && len(value) > 0 {
			t.reveals.Store(revealsIt)
		} else {
			t.reveals.Store(revealsNot)
		}
	}
	if t.reveals.Load() == revealsIt && t.cfg.RequireToken {
		return &Error{Op: "keep session keys on the token", Token: t.info.Label, Kind: ErrResidence,
			Err: errors.New("it reveals the value of a sensitive key"), Facts: ErrReveals}
	}
	return nil
}
