package token

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"

	"github.com/hsmkeys/hsmkeys/token/memkey"
	"github.com/miekg/pkcs11"
)

// Probe is what a token does when it is tried, which its list of mechanisms does not tell. It is
// tried without a PIN, on session objects alone: with an RSA pair of 2048 bits that is made in
// this process, and with what is unwrapped with it.
type Probe struct {
	// Why is why nothing was tried; the rest is empty then. Many tokens allow no session objects
	// without a PIN, or import no private keys.
	Why string `json:"why,omitempty"`

	Unwraps  bool   `json:"unwraps"`             // RSA-OAEP by C_UnwrapKey
	OAEPHash string `json:"oaep_hash,omitempty"` // the best that it supports: SHA-256 or SHA-1
	SignPSS  bool   `json:"sign_pss"`            // and the signature verifies
	WrapAES  bool   `json:"wrap_aes"`            // AES key wrap by C_WrapKey
	Leaks    bool   `json:"leaks"`               // reveals the value of a sensitive key
}

// probeKey makes the pair that tokens are tried with.
func probeKey() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }

// probe tries the token in a slot. Nothing is left behind.
func probe(ctx *pkcs11.Ctx, slot uint, key *rsa.PrivateKey) Probe {
	s, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return Probe{Why: "no session without a PIN: " + describe(err)}
	}
	defer func() { _ = ctx.CloseSession(s) }() // which destroys all that was made in it
	private, err := ctx.CreateObject(s, probePrivateKey(key))
	if err != nil {
		return Probe{Why: "no private key from outside without a PIN: " + describe(err)}
	}
	t := Probe{SignPSS: probeSigning(ctx, s, private, &key.PublicKey)}
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
		session, err := probeUnwrapping(ctx, s, private, &key.PublicKey, hash)
		if err != nil {
			continue
		}
		t.Unwraps, t.OAEPHash = true, hash.String()
		a, err := ctx.GetAttributeValue(s, session, []*pkcs11.Attribute{attr(pkcs11.CKA_VALUE, nil)})
		t.Leaks = err == nil && len(a[0].Value) > 0
		t.WrapAES = probeWrapping(ctx, s, session)
		break
	}
	return t
}

func probeSigning(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, private pkcs11.ObjectHandle, public *rsa.PublicKey) bool {
	digest := sha256.Sum256([]byte("hsmkeys: does this token sign?"))
	how := mechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, 32))
	if ctx.SignInit(s, how, private) != nil {
		return false
	}
	signature, err := ctx.Sign(s, digest[:])
	return err == nil && rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: 32}) == nil
}

func probeUnwrapping(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, private pkcs11.ObjectHandle, public *rsa.PublicKey, hash crypto.Hash) (pkcs11.ObjectHandle, error) {
	value := make([]byte, 32)
	_, _ = rand.Read(value)
	wrapped, err := memkey.WrapRSA(public, hash, value)
	if err != nil {
		return 0, err
	}
	return ctx.UnwrapKey(s, oaep(hash), private, wrapped.EncryptedKey, probeSessionKey())
}

func probeWrapping(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, session pkcs11.ObjectHandle) bool {
	data := bytes.Repeat([]byte{7}, 16)
	handle, err := ctx.CreateObject(s, append(withoutLogin(dataKey()), attr(pkcs11.CKA_VALUE, data)))
	if err != nil {
		return false
	}
	wrapped, err := ctx.WrapKey(s, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), session, handle)
	return err == nil && len(wrapped) == len(data)+8
}

// probeAll sets the Probe of each token.
func probeAll(ctx *pkcs11.Ctx, all []Info) error {
	key, err := probeKey()
	if err != nil {
		return fmt.Errorf("make a key to try tokens with: %w", err)
	}
	for i := range all {
		if all[i].Initialized {
			all[i].Legacy = legacyKeys(ctx, all[i].Slot)
		}
		if all[i].Mechanisms.WrapRSA && all[i].Initialized {
			all[i].Probe = probe(ctx, all[i].Slot, key)
		} else if all[i].Initialized {
			all[i].Probe.Why = "it does not unwrap with RSA (CKM_RSA_PKCS_OAEP)"
		}
	}
	return nil
}
