package wire

import (
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token"
)

// FromInfo returns the message for what a token states about itself.
func FromInfo(i token.Info) *Token {
	return &Token{Module: []byte(i.Module), Slot: uint64(i.Slot), Label: []byte(i.Label), Serial: []byte(i.Serial),
		Manufacturer: []byte(i.Manufacturer), Model: []byte(i.Model), PinPad: i.PINPad}
}

// Info returns what a token that the agent has logged in to states about itself.
func (m *Token) Info() token.Info {
	return token.Info{Module: string(m.GetModule()), Slot: uint(m.GetSlot()), Label: string(m.GetLabel()), Serial: string(m.GetSerial()),
		Manufacturer: string(m.GetManufacturer()), Model: string(m.GetModel()), PINPad: m.GetPinPad(), Initialized: true}
}

// FromLock returns the message for why the agent is locked, "" if it is not.
func FromLock(reason string) *Lock { return &Lock{Locked: reason != "", Reason: []byte(reason)} }

// FromPairName returns the message for the name of a pair.
func FromPairName(name token.PairName) *PairName {
	return &PairName{Label: []byte(name.Label), Id: name.ID}
}

// Spec returns the name of a pair.
func (m *PairName) Spec() token.PairName {
	return token.PairName{Label: string(m.GetLabel()), ID: m.GetId()}
}

// FromRecord returns the message for a record on a token.
func FromRecord(r keyspec.Record) *Record {
	return &Record{Label: []byte(r.Label), Value: r.Value, Object: uint64(r.Object)}
}

// Spec returns a record on a token.
func (m *Record) Spec() keyspec.Record {
	return keyspec.Record{Label: string(m.GetLabel()), Value: m.GetValue(), Object: uint(m.GetObject())}
}

// FromLoaded returns the message for a secret key that other applications can use.
func FromLoaded(k token.Loaded) *LoadedKey {
	return &LoadedKey{Label: []byte(k.Label), Id: k.ID, Public: k.Public, Object: uint64(k.Object)}
}

// Spec returns a secret key that other applications can use.
func (m *LoadedKey) Spec() token.Loaded {
	return token.Loaded{Label: string(m.GetLabel()), ID: m.GetId(), Public: m.GetPublic(), Object: uint(m.GetObject())}
}
