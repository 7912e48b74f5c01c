package hsmkeys

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Entry describes a key blob that was verified. Its JSON form is stable.
type Entry struct {
	Name       string    `json:"name"`
	Version    int       `json:"version"`
	Revision   int       `json:"revision"`
	KeyID      string    `json:"key_id,omitempty"`
	Algorithm  string    `json:"algorithm,omitempty"`
	Purpose    string    `json:"purpose,omitempty"`
	Bits       int       `json:"bits,omitempty"`           // of the session key
	Legacy     bool      `json:"legacy,omitempty"`         // the algorithm encrypts nothing new
	Effective  int       `json:"effective_bits,omitempty"` // of a legacy RC2 key
	Salt       string    `json:"salt,omitempty"`           // in hex: of a legacy RC2 or RC4 key, behind which it stands for the cipher; or of a key from a password
	CheckValue string    `json:"check_value,omitempty"`    // CKA_CHECK_VALUE, in hex
	Confirms   string    `json:"confirmation,omitempty"`   // what the key is recognized by, in hex
	Created    time.Time `json:"created,omitzero"`         // the session key
	Signed     time.Time `json:"signed,omitzero"`          // this revision
	Signature  string    `json:"signature,omitempty"`
	Signer     Holder    `json:"signer,omitzero"`
	Why        string    `json:"why,omitempty"` // this revision was made
	Holders    []Holder  `json:"holders,omitempty"`
	Earlier    []Holder  `json:"earlier_holders,omitempty"` // former members to whom only an earlier revision was wrapped; Show looks for them
	Unable     []Holder  `json:"unable,omitempty"`          // members who cannot hold a key that is so short
	Imported   bool      `json:"imported,omitempty"`        // made elsewhere: whoever made it has it too
	Password   string    `json:"password,omitempty"`        // how the key is made from one, in place of Holders
	Residence  string    `json:"residence,omitempty"`       // where the key lives in use; known with a token
	Status     string    `json:"status,omitempty"`          // active, deactivated, compromised or destroyed
	Keyring    string    `json:"keyring,omitempty"`
	Digest     string    `json:"sha256,omitempty"` // of the blob
}

// Kind returns the algorithm in the words for people: "aes256", or "rc2, 40 bits, legacy".
func (e Entry) Kind() string {
	if !e.Legacy {
		return e.Algorithm
	}
	return fmt.Sprintf("%s, %d bits, legacy", e.Algorithm, e.Bits)
}

func (k *Keyring) entry(b *blob.Blob) Entry {
	d := b.Descriptor()
	digest := b.Digest()
	e := Entry{
		Name: d.Name, Version: d.Version, Revision: d.Revision, KeyID: d.KeyID.String(),
		Algorithm: b.Algorithm().String(), Purpose: d.Purpose.String(),
		Bits: 8 * b.KeySize(), Legacy: d.Legacy != nil, Imported: d.Imported,
		CheckValue: hex.EncodeToString(d.CheckValue), Confirms: hex.EncodeToString(d.Confirmation),
		Created: d.Created, Signed: b.SigningTime(), Signature: b.SignatureScheme().String(),
		Signer: k.signedBy(b.SignerKeyID()), Why: k.why(d),
		Keyring: d.KeyringID.String(), Digest: hex.EncodeToString(digest[:]),
	}
	if d.Legacy != nil {
		e.Effective, e.Salt = d.Legacy.EffectiveBits, hex.EncodeToString(d.Legacy.Salt)
	}
	if how, ok := b.Derivation(); ok {
		e.Password, e.Salt = how.String(), hex.EncodeToString(how.Salt[:])
	}
	for _, r := range b.Recipients() {
		h := k.holder(k.members().Key(r.Identifier))
		h.Wrapping = r.Key.String()
		e.Holders = append(e.Holders, h)
	}
	for _, m := range k.Members() {
		if d.Legacy != nil && !b.Key().WrapsTo(m.Certificate.PublicKey) {
			e.Unable = append(e.Unable, k.holder([]byte(keyID(m))))
		}
	}
	if k.pair != nil {
		where, _ := k.pair.Residence(context.Background()) // where that fails, opening the key says so
		if isDerived(b) {
			where = keyspec.InMemory // it is computed there, wherever it is used then
		}
		e.Residence = string(where)
	}
	return e
}

// why returns how a revision came about.
func (k *Keyring) why(d blob.Descriptor) string {
	switch {
	case d.Recovery != nil:
		return fmt.Sprintf("recovered from %s: %s", k.holder(d.Recovery.From).Label, d.Recovery.Reason)
	case d.Revision > 1:
		return "rewrapped"
	case d.Imported:
		return "imported"
	case d.Version > 1:
		return "rotated"
	default:
		return "created"
	}
}
