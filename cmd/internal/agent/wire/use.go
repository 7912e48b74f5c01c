package wire

import (
	"context"
	"encoding/hex"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
)

// FromUse returns the message for the use in a context.
func FromUse(ctx context.Context) *Use {
	u := hsmkeys.UseOf(ctx)
	m := &Use{Command: u.Command, Operation: u.Operation, File: []byte(u.File), Output: []byte(u.Output), Request: []byte(u.Request), Key: u.Key, Version: int32(u.Version), To: []byte(u.To)}
	if u.Keyring != (blob.ID{}) {
		m.Keyring = u.Keyring[:]
	}
	if u.KeyID != (blob.ID{}) {
		m.KeyId = u.KeyID[:]
	}
	return m
}

// Spec returns the use that a client has told, of a pair that it has not told.
func (m *Use) Spec(pair *Pair) hsmkeys.Use {
	u := hsmkeys.Use{Command: m.GetCommand(), Operation: m.GetOperation(), File: string(m.GetFile()), Output: string(m.GetOutput()), Request: string(m.GetRequest()),
		Key: m.GetKey(), Version: int(m.GetVersion()), To: string(m.GetTo()), Pair: hex.EncodeToString(pair.GetKeyId())}
	copy(u.Keyring[:], m.GetKeyring())
	copy(u.KeyID[:], m.GetKeyId())
	return u
}
