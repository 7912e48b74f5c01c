package token

import (
	"context"

	"github.com/miekg/pkcs11"
)

// Attributes are the attributes of the private key object, as the token states them. It is always
// sensitive and not extractable: [Token.KeyPair] finds no other.
type Attributes struct {
	Sign, Decrypt, Unwrap, Derive bool // CKA_SIGN and so on

	AlwaysAuthenticate bool // CKA_ALWAYS_AUTHENTICATE: a PIN for each use
	AlwaysSensitive    bool // CKA_ALWAYS_SENSITIVE
	NeverExtractable   bool // CKA_NEVER_EXTRACTABLE
}

// Attributes reads what the pair may be used for, and whether it has always been as well protected
// as it is now: there may be a copy of a key that came from outside, or that was extractable once.
func (p *KeyPair) Attributes(ctx context.Context) (Attributes, error) {
	a := Attributes{
		Sign: p.private.sign, Decrypt: p.private.decrypt, Unwrap: p.private.unwrap, Derive: p.private.derive,
		AlwaysAuthenticate: p.private.alwaysAuthenticate,
	}
	err := p.token.with(ctx, func(s pkcs11.SessionHandle) error {
		for kind, to := range map[uint]*bool{pkcs11.CKA_ALWAYS_SENSITIVE: &a.AlwaysSensitive, pkcs11.CKA_NEVER_EXTRACTABLE: &a.NeverExtractable} {
			value, err := p.token.optionalAttribute(s, p.private.handle, kind)
			if err != nil {
				return err
			}
			*to = isTrue(attr(kind, value))
		}
		return nil
	})
	return a, p.token.fail("read the key exchange pair", nil, err)
}
