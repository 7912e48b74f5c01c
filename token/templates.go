package token

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// All templates of the package. A template is a security decision, so each attribute has a comment
// on why it has its value (PKCS #11 §4.4 to §4.10).

func attr(kind uint, value any) *pkcs11.Attribute { return pkcs11.NewAttribute(kind, value) }

// pairTemplates are for the key exchange pair. If the token can rename objects, the label and id
// are preliminary: the final ones are set when the pair was checked.
func pairTemplates(id []byte, label string, kind KeyType) (public, private []*pkcs11.Attribute) {
	public = []*pkcs11.Attribute{
		attr(pkcs11.CKA_TOKEN, true),    // outlives the session
		attr(pkcs11.CKA_PRIVATE, false), // a public key is for everybody
		attr(pkcs11.CKA_LABEL, label),   // for people who look at the token with other tools
		attr(pkcs11.CKA_ID, id),         // what the halves are paired by
		attr(pkcs11.CKA_VERIFY, true),   // other software verifies signatures with it
	}
	private = []*pkcs11.Attribute{
		attr(pkcs11.CKA_TOKEN, true),        // outlives the session
		attr(pkcs11.CKA_PRIVATE, true),      // invisible without the PIN, and cannot be forged without it
		attr(pkcs11.CKA_LABEL, label),       // how it is found
		attr(pkcs11.CKA_ID, id),             // and paired with its public half
		attr(pkcs11.CKA_SENSITIVE, true),    // its value is never read out
		attr(pkcs11.CKA_EXTRACTABLE, false), // nor does it leave wrapped: it never leaves
		attr(pkcs11.CKA_SIGN, true),         // signs key blobs
	}
	ofKind, ofKindPrivate := kind.maker().attributes()
	return append(public, ofKind...), append(private, ofKindPrivate...)
}

func (m ecMaker) attributes() (public, private []*pkcs11.Attribute) {
	return nil, []*pkcs11.Attribute{
		attr(pkcs11.CKA_DERIVE, true), // agrees on the keys that session keys are wrapped under
	}
}

func (m rsaMaker) attributes() (public, private []*pkcs11.Attribute) {
	public = []*pkcs11.Attribute{
		attr(pkcs11.CKA_WRAP, true),                       // wraps session keys
		attr(pkcs11.CKA_ENCRYPT, true),                    // other software encrypts to it; no secret is needed
		attr(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}), // 65537, FIPS 186-5 §A.1.1
	}
	private = []*pkcs11.Attribute{
		attr(pkcs11.CKA_UNWRAP, true), // opens key blobs
		// OpenSSL's engine and pkcs11-tool know C_Decrypt and not C_UnwrapKey:
		// this lets an operator recover keys with stock tools. It discloses nothing:
		// with the PIN one could unwrap to a readable key as well.
		attr(pkcs11.CKA_DECRYPT, true),
		attr(pkcs11.CKA_DERIVE, false), // RSA does not agree on keys
	}
	return public, private
}

// record is the template of a small private data object.
func record(label string, value []byte) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
		attr(pkcs11.CKA_TOKEN, true),              // outlives the session
		attr(pkcs11.CKA_PRIVATE, true),            // nobody without the PIN can make or see it
		attr(pkcs11.CKA_MODIFIABLE, true),         // SoftHSM makes it read-only otherwise
		attr(pkcs11.CKA_APPLICATION, application), // how records are found
		attr(pkcs11.CKA_LABEL, label),             // for people who look at the token with other tools
		attr(pkcs11.CKA_VALUE, value),
	}
}

// recordSearch is the template that finds records.
func recordSearch() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_DATA), attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_APPLICATION, application),
	}
}

// certificateObject is the template of the pair's certificate (PKCS #11 §4.6.3).
func (p *KeyPair) certificateObject(c *x509.Certificate) []*pkcs11.Attribute {
	serial, _ := asn1.Marshal(c.SerialNumber)
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE),
		attr(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509),
		attr(pkcs11.CKA_TOKEN, true),    // outlives the session
		attr(pkcs11.CKA_PRIVATE, false), // it is for everybody
		attr(pkcs11.CKA_ID, p.id),       // what belongs to the pair has its id
		attr(pkcs11.CKA_LABEL, p.label),
		attr(pkcs11.CKA_SUBJECT, c.RawSubject),
		attr(pkcs11.CKA_ISSUER, c.RawIssuer),
		attr(pkcs11.CKA_SERIAL_NUMBER, serial),
		attr(pkcs11.CKA_VALUE, c.Raw),
	}
}

// importedPublicKey is the template of a recipient's RSA public key, for C_WrapKey.
func importedPublicKey(modulus, exponent []byte) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		attr(pkcs11.CKA_TOKEN, false),  // a session object: nothing stays behind
		attr(pkcs11.CKA_PRIVATE, true), // other users of the token need not see with whom keys are shared
		attr(pkcs11.CKA_WRAP, true),    // its only use
		attr(pkcs11.CKA_ENCRYPT, false),
		attr(pkcs11.CKA_VERIFY, false),
		attr(pkcs11.CKA_MODULUS, modulus),
		attr(pkcs11.CKA_PUBLIC_EXPONENT, exponent),
	}
}

// secretKey has the attributes that all session keys have in common.
func secretKey(spec keyspec.Key) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		attr(pkcs11.CKA_KEY_TYPE, keyType(spec)),
		attr(pkcs11.CKA_PRIVATE, true), // only after a login
		attr(pkcs11.CKA_DERIVE, false), // no other key is ever made from it
	}
}

// uses has every use, allowed or not, because tokens differ in their defaults.
func uses(purpose keyspec.Purpose) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		// A key that wraps must never decrypt: C_Decrypt of a wrapped key would reveal it.
		attr(pkcs11.CKA_WRAP, purpose == keyspec.WrapKeys),
		attr(pkcs11.CKA_UNWRAP, purpose == keyspec.WrapKeys),
		attr(pkcs11.CKA_ENCRYPT, purpose == keyspec.Encrypt),
		attr(pkcs11.CKA_DECRYPT, purpose == keyspec.Encrypt || purpose == keyspec.Decrypt),
		attr(pkcs11.CKA_SIGN, purpose == keyspec.Authenticate),
		attr(pkcs11.CKA_VERIFY, purpose == keyspec.Authenticate),
	}
}

// inTransit is for a key that will be wrapped to public keys.
func inTransit(spec keyspec.Key) []*pkcs11.Attribute {
	template := append(append(secretKey(spec), uses(0)...),
		attr(pkcs11.CKA_TOKEN, false),      // gone with the session
		attr(pkcs11.CKA_SENSITIVE, true),   // leaves wrapped, never in the clear
		attr(pkcs11.CKA_EXTRACTABLE, true), // it is here to be wrapped
	)
	// For its confirmation it may do the half of its purpose that discloses nothing: what is
	// wrapped or encrypted under a key is opened with the other half alone.
	switch spec.Purpose {
	case keyspec.WrapKeys:
		setAttr(template, attr(pkcs11.CKA_WRAP, true))
	case keyspec.Encrypt:
		setAttr(template, attr(pkcs11.CKA_ENCRYPT, true))
	case keyspec.Authenticate:
		setAttr(template, attr(pkcs11.CKA_SIGN, true))
	}
	return template
}

// inTransitAgain is inTransit for a key that was unwrapped.
func inTransitAgain(spec keyspec.Key) []*pkcs11.Attribute {
	template := inTransit(spec)
	if keyType(spec) == pkcs11.CKK_AES {
		// For its check value, one encrypted block of zeros: SoftHSM has none for a key that it
		// unwraps. Decrypting with it could reveal wrapped keys, encrypting cannot.
		setAttr(template, attr(pkcs11.CKA_ENCRYPT, true))
	}
	return template
}

// inUse is for a key that will be used here and does not leave again.
func inUse(spec keyspec.Key) []*pkcs11.Attribute {
	return append(append(secretKey(spec), uses(spec.Purpose)...),
		attr(pkcs11.CKA_TOKEN, false),       // gone with the session
		attr(pkcs11.CKA_SENSITIVE, true),    // never in the clear
		attr(pkcs11.CKA_EXTRACTABLE, false), // nor wrapped
	)
}

// loaded is for a key that other applications will use on this token.
func loaded(spec keyspec.Key, label string, id []byte) []*pkcs11.Attribute {
	template := append(secretKey(spec), uses(spec.Purpose)...)
	setAttr(template, attr(pkcs11.CKA_KEY_TYPE, loadedType(spec)))
	return append(template,
		attr(pkcs11.CKA_TOKEN, true),        // stays
		attr(pkcs11.CKA_SENSITIVE, true),    // never in the clear
		attr(pkcs11.CKA_EXTRACTABLE, false), // nor wrapped
		attr(pkcs11.CKA_LABEL, label),       // how the application finds it
		attr(pkcs11.CKA_ID, id),             // which key of the keyring it is
	)
}

// revealed is for a key whose value is going to be read, until it is.
func revealed(spec keyspec.Key) []*pkcs11.Attribute {
	return append(append(secretKey(spec), uses(0)...),
		attr(pkcs11.CKA_TOKEN, false),      // gone with the session
		attr(pkcs11.CKA_SENSITIVE, false),  // its value is about to be read
		attr(pkcs11.CKA_EXTRACTABLE, true), // the same, in the terms of the standard
	)
}

// dataKey is for a small key under a session key, such as the key of one file. It lives in the
// caller's memory anyway; the token only wraps and unwraps it.
func dataKey() []*pkcs11.Attribute {
	return append(uses(0),
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET), // bytes, to the token
		attr(pkcs11.CKA_TOKEN, false),                        // gone with the session
		attr(pkcs11.CKA_PRIVATE, true),                       // not for other users of the token
		attr(pkcs11.CKA_SENSITIVE, false),                    // the caller needs its value
		attr(pkcs11.CKA_EXTRACTABLE, true),                   // it is wrapped under the session key
	)
}

// wrappingKEK is for a key-encryption key that was agreed on with a holder, and wraps one session
// key to that.
func wrappingKEK() []*pkcs11.Attribute {
	return append(kekAttributes(), attr(pkcs11.CKA_WRAP, true), attr(pkcs11.CKA_UNWRAP, false))
}

// unwrappingKEK is for a key-encryption key that the token has derived, and that unwraps one
// session key.
func unwrappingKEK() []*pkcs11.Attribute {
	return append(kekAttributes(),
		attr(pkcs11.CKA_WRAP, false), attr(pkcs11.CKA_UNWRAP, true),
		attr(pkcs11.CKA_VALUE_LEN, memkey.KEKSize)) // which part of the derived bytes it is
}

func kekAttributes() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		attr(pkcs11.CKA_TOKEN, false),       // gone in a moment
		attr(pkcs11.CKA_PRIVATE, true),      // not for other users of the token
		attr(pkcs11.CKA_SENSITIVE, true),    // it opens the session key
		attr(pkcs11.CKA_EXTRACTABLE, false), // the same
		attr(pkcs11.CKA_ENCRYPT, false), attr(pkcs11.CKA_DECRYPT, false),
	}
}

// agreedSecret is for the secret of ECDH, if the key derivation is done in this process.
func agreedSecret(size int) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET), // bytes
		attr(pkcs11.CKA_TOKEN, false),                        // gone in a moment
		attr(pkcs11.CKA_PRIVATE, true),                       // not for other users of the token
		attr(pkcs11.CKA_SENSITIVE, false),                    // its value is about to be read
		attr(pkcs11.CKA_EXTRACTABLE, true),                   // the same, in the terms of the standard
		attr(pkcs11.CKA_VALUE_LEN, size),                     // all of it
	}
}

// probePrivateKey is for a private key that was made in this process to try a token with, and
// protects nothing.
func probePrivateKey(key *rsa.PrivateKey) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		attr(pkcs11.CKA_TOKEN, false),                                         // gone with the session
		attr(pkcs11.CKA_PRIVATE, false),                                       // there is no login
		attr(pkcs11.CKA_SENSITIVE, false), attr(pkcs11.CKA_EXTRACTABLE, true), // its value is here
		attr(pkcs11.CKA_UNWRAP, true), attr(pkcs11.CKA_SIGN, true), // what is tried
		attr(pkcs11.CKA_MODULUS, key.N.Bytes()), attr(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(key.E)).Bytes()),
		attr(pkcs11.CKA_PRIVATE_EXPONENT, key.D.Bytes()),
		attr(pkcs11.CKA_PRIME_1, key.Primes[0].Bytes()), attr(pkcs11.CKA_PRIME_2, key.Primes[1].Bytes()),
		attr(pkcs11.CKA_EXPONENT_1, key.Precomputed.Dp.Bytes()), attr(pkcs11.CKA_EXPONENT_2, key.Precomputed.Dq.Bytes()),
		attr(pkcs11.CKA_COEFFICIENT, key.Precomputed.Qinv.Bytes()),
	}
}

// probeSessionKey is inUse for an object without a login.
func probeSessionKey() []*pkcs11.Attribute {
	return withoutLogin(inUse(keyspec.Key{Algorithm: keyspec.AES256, Purpose: keyspec.WrapKeys, Size: 32}))
}

// withoutLogin changes a template to one for an object that needs no login.
func withoutLogin(template []*pkcs11.Attribute) []*pkcs11.Attribute {
	setAttr(template, attr(pkcs11.CKA_PRIVATE, false))
	return template
}

// withoutExponent removes the public exponent, if the key has its own.
func withoutExponent(template []*pkcs11.Attribute) []*pkcs11.Attribute {
	return slices.DeleteFunc(template, func(a *pkcs11.Attribute) bool { return a.Type == pkcs11.CKA_PUBLIC_EXPONENT })
}

// setAttr changes an attribute that a template has.
func setAttr(template []*pkcs11.Attribute, a *pkcs11.Attribute) {
	template[slices.IndexFunc(template, func(b *pkcs11.Attribute) bool { return b.Type == a.Type })] = a
}

// fingerprintKey is for the AES key of [tokenTransit.fingerprint]. What it wraps is thrown away.
func fingerprintKey() []*pkcs11.Attribute {
	return append(uses(keyspec.WrapKeys),
		attr(pkcs11.CKA_TOKEN, false),       // gone with the session
		attr(pkcs11.CKA_PRIVATE, true),      // not for other users of the token
		attr(pkcs11.CKA_SENSITIVE, true),    // what is wrapped under it is a session key
		attr(pkcs11.CKA_EXTRACTABLE, false), // the same
		attr(pkcs11.CKA_LABEL, confirmLabel),
		attr(pkcs11.CKA_VALUE_LEN, 32),
	)
}

// confirmedBlock is for the block of which keys on the token make their confirmation, which is not
// secret.
func confirmedBlock() []*pkcs11.Attribute {
	return append(dataKey(), attr(pkcs11.CKA_LABEL, confirmLabel), attr(pkcs11.CKA_VALUE, []byte(memkey.Confirmed)))
}

// confirmLabel is for people who look at the token with other tools.
const confirmLabel = "hsmkeys, to recognize session keys"

func mechanism(kind uint, parameter any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(kind, parameter)}
}
