package hsmkeys

import (
	"encoding/hex"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Holder is a member, or former member, who can open a key or has signed it.
type Holder struct {
	Label        string `json:"label"`
	Role         string `json:"role"`
	SubjectKeyID string `json:"subject_key_id"`     // of the key that opens, or that has signed
	Wrapping     string `json:"wrapping,omitempty"` // how the key is wrapped to the holder
	Former       bool   `json:"former,omitempty"`   // no longer a member, or never one that the lists know
}

// Former returns the former members that can open the key: holders of this revision,
// and of earlier ones where the entry comes from [Keyring.Show].
func (e Entry) Former() []Holder {
	former := slices.Clone(e.Earlier)
	for _, h := range e.Holders {
		if h.Former {
			former = append(former, h)
		}
	}
	return former
}

// holder describes the member, or former member, with a key exchange key.
func (k *Keyring) holder(ski []byte) Holder {
	m, _ := k.members().EverMember(string(ski))
	return k.named(ski, string(ski), m)
}

// signedBy describes the member, or former member, with a signing key.
func (k *Keyring) signedBy(ski []byte) Holder {
	m, ok := k.members().EverSigner(string(ski))
	if !ok {
		return k.named(ski, string(ski), m)
	}
	return k.named(ski, keyID(m), m)
}

// named describes a member by one of its keys; exchange is its key exchange key.
func (k *Keyring) named(ski []byte, exchange string, m blob.Member) Holder {
	h := Holder{Label: "(unknown)", SubjectKeyID: hex.EncodeToString(ski), Former: true}
	if m.Certificate == nil {
		return h
	}
	h.Label, h.Role = m.Label, "former "+m.Role.String()
	if now, ok := k.members().Member(exchange); ok {
		h.Label, h.Role, h.Former = now.Label, now.Role.String(), false
	}
	return h
}

// setEarlier sets the former members to whom only an earlier revision was wrapped.
func (e *Entry) setEarlier(former []Holder) {
	e.Earlier = slices.DeleteFunc(former, func(h Holder) bool { return holds(e.Holders, h) })
}

func holds(holders []Holder, h Holder) bool {
	return slices.ContainsFunc(holders, func(other Holder) bool { return other.SubjectKeyID == h.SubjectKeyID })
}
