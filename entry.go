package hsmkeys

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Entry describes a key blob that was verified. Its JSON form is stable.
type Entry struct {
	Name        string    `json:"name"`
	FormerNames []string  `json:"former_names,omitempty"` // oldest first
	Description string    `json:"description,omitempty"`
	Version     int       `json:"version"`
	Revision    int       `json:"revision"`
	KeyID       string    `json:"key_id,omitempty"`
	Algorithm   string    `json:"algorithm,omitempty"`
	Purpose     string    `json:"purpose,omitempty"`
	Bits        int       `json:"bits,omitempty"`           // of the session key
	Legacy      bool      `json:"legacy,omitempty"`         // the algorithm encrypts nothing new
	Effective   int       `json:"effective_bits,omitempty"` // of a legacy RC2 key
	Salt        string    `json:"salt,omitempty"`           // in hex: of a legacy RC2 or RC4 key, behind which it stands for the cipher; or of a key from a password
	CheckValue  string    `json:"check_value,omitempty"`    // CKA_CHECK_VALUE, in hex
	Confirms    string    `json:"confirmation,omitempty"`   // what the key is recognized by, in hex
	Created     time.Time `json:"created,omitzero"`         // the session key
	Signed      time.Time `json:"signed,omitzero"`          // this revision
	Signature   string    `json:"signature,omitempty"`
	Signer      Holder    `json:"signer,omitzero"`
	Why         string    `json:"why,omitempty"` // this revision was made
	Holders     []Holder  `json:"holders,omitempty"`
	Earlier     []Holder  `json:"earlier_holders,omitempty"` // former members to whom only an earlier revision was wrapped; Show looks for them
	Unable      []Holder  `json:"unable,omitempty"`          // members who cannot hold a key that is so short
	Imported    bool      `json:"imported,omitempty"`        // made elsewhere: whoever made it has it too
	Password    string    `json:"password,omitempty"`        // how the key is made from one, in place of Holders
	Residence   string    `json:"residence,omitempty"`       // where the key lives in use; known with a token
	Status      string    `json:"status,omitempty"`          // active, deactivated, compromised or destroyed
	StatusBy    string    `json:"status_by,omitempty"`       // label of who has set it; Show looks for it
	StatusWhy   string    `json:"status_reason,omitempty"`   // likewise
	Changed     time.Time `json:"changed,omitzero"`          // the version: made, rewrapped, or its status set
	Expires     time.Time `json:"expires,omitzero"`          // the key encrypts nothing after it
	RotateEvery int       `json:"rotate_every_days,omitempty"`
	Due         time.Time `json:"due,omitzero"` // when the key is to be rotated, or expires
	Current     bool      `json:"current"`      // the version is the one that encrypts
	Keyring     string    `json:"keyring,omitempty"`
	Digest      string    `json:"sha256,omitempty"` // of the blob
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

// entryOf describes a blob, and what the state says of the key.
func (k *Keyring) entryOf(f keyVersion, b *blob.Blob) Entry {
	e := k.entry(b)
	if f.entry.Name != "" { // or else the state does not know the key
		e.setState(f.entry, f.version)
	}
	return e
}

// setState sets what the state says of a version.
func (e *Entry) setState(of ledger.Entry, v ledger.Version) {
	e.Name, e.FormerNames, e.Description = of.Name, of.Earlier, of.Description
	e.Status, e.Changed, e.Current = v.Status.String(), v.ChangedAt, v.Number == of.Current
	e.Expires, e.RotateEvery = of.Expires, of.RotateEvery
	if e.Current {
		e.Due = due(of, v)
	}
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
