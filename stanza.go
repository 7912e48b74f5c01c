package hsmkeys

import (
	"encoding/base64"
	"fmt"

	"filippo.io/age"
	"github.com/hsmkeys/hsmkeys/blob"
)

func parseStanza(s *age.Stanza) (Ref, blob.ID, error) {
	var id blob.ID
	malformed := func(what string) (Ref, blob.ID, error) {
		return Ref{}, id, fmt.Errorf("hsmkeys stanza: %s: %w", what, blob.ErrMalformed)
	}
	if len(s.Args) != 3 || len(s.Body) != 24 {
		return malformed("it does not have three arguments and a body of 24 bytes")
	}
	ref, err := ParseRef(s.Args[0] + "@" + s.Args[1])
	if err != nil {
		return malformed("its key name or version is not valid")
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(s.Args[2])
	if err != nil || len(raw) != len(id) {
		return malformed("its key id is not 16 bytes in base64")
	}
	return ref, blob.ID(raw), nil
}

// StanzaKey returns the name of the key that a stanza names, and reports whether it is a stanza of
// hsmkeys. The name proves nothing.
func StanzaKey(s *age.Stanza) (name string, ok bool) {
	if s.Type == stanzaType && len(s.Args) > 0 {
		name = s.Args[0]
	}
	return name, s.Type == stanzaType
}

// Files are age v1 files (age-encryption.org/v1). An hsmkeys stanza holds the file key:
//
//	-> hsmkeys NAME VERSION KEY-ID
//	AES-KEY-WRAP(session key, file key)
//
// with the key id in unpadded base64 and the 16-byte file key wrapped with AES
// key wrap (RFC 3394) in the token, 24 bytes. Stanzas of other recipients may
// stand beside it.
const stanzaType = "hsmkeys"
