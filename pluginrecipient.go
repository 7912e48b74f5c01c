package hsmkeys

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"filippo.io/age/plugin"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// PluginName is the name of the age plugin: recipients are age1hsmkeys1…, in Bech32, and the
// program is age-plugin-hsmkeys.
const PluginName = "hsmkeys"

// The first byte of a recipient is the version of its format.
const (
	formatKey = 1 // the keyring's id, 16 bytes; the key's name
	formatRSA = 2 // the DER of an RSAPublicKey (RFC 8017 §A.1.1)
)

// A PluginRecipient is what a recipient of the age plugin names: a [KeyRecipient] or an
// [RSARecipient].
type PluginRecipient interface {
	fmt.Stringer // age1hsmkeys1…
	marshal() []byte
}

// A KeyRecipient names a key of a keyring. It names no module and no store: whoever encrypts to it
// uses their own token and configuration. Because of the keyring's id, a key of the same name in
// another keyring is refused.
type KeyRecipient struct {
	Keyring blob.ID
	Name    string // a [blob.ValidName]
}

func (r KeyRecipient) String() string { return plugin.EncodeRecipient(PluginName, r.marshal()) }

func (r KeyRecipient) marshal() []byte {
	return bytes.Join([][]byte{{formatKey}, r.Keyring[:], []byte(r.Name)}, nil)
}

func (r *RSARecipient) String() string { return plugin.EncodeRecipient(PluginName, r.marshal()) }

func (r *RSARecipient) marshal() []byte {
	return append([]byte{formatRSA}, x509.MarshalPKCS1PublicKey(r.key)...)
}

// ParsePluginRecipient reads what is in an age1hsmkeys1… in Bech32. Each recipient has
// one encoding; the error is a [blob.ErrMalformed] for everything else.
func ParsePluginRecipient(data []byte) (PluginRecipient, error) {
	malformed := func(what string) (PluginRecipient, error) {
		return nil, fmt.Errorf("age1hsmkeys1 recipient: %s: %w", what, blob.ErrMalformed)
	}
	switch {
	case len(data) == 0:
		return malformed("it is empty")
	case data[0] == formatKey:
		var r KeyRecipient
		if len(data) < 1+len(r.Keyring) || blob.ID(data[1:1+len(r.Keyring)]) == (blob.ID{}) || blob.ValidName(string(data[1+len(r.Keyring):])) != nil {
			return malformed("it does not name a key of a keyring")
		}
		r.Keyring, r.Name = blob.ID(data[1:1+len(r.Keyring)]), string(data[1+len(r.Keyring):])
		return r, nil
	case data[0] == formatRSA:
		key, err := parseRSA(data[1:])
		if err != nil {
			return malformed("its RSA public key is not valid")
		}
		r, err := NewRSARecipient(key)
		if err != nil {
			return malformed(err.Error())
		}
		return r, nil
	}
	return malformed(fmt.Sprintf("it is of a kind %d that this version does not know", data[0]))
}

// parseRSA parses the one encoding of a public key. Its size is bounded before it is parsed.
func parseRSA(der []byte) (*rsa.PublicKey, error) {
	if len(der) > keyspec.MaxRSABits/8+32 {
		return nil, blob.ErrTooLarge
	}
	key, err := x509.ParsePKCS1PublicKey(der)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(x509.MarshalPKCS1PublicKey(key), der) {
		return nil, blob.ErrMalformed
	}
	return key, nil
}
