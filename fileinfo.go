package hsmkeys

import (
	"errors"
	"io"

	"filippo.io/age"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A FileRecipient is one of the recipients in the header of an age file. Nothing in a header is
// proven before the file is decrypted.
type FileRecipient struct {
	Stanza *age.Stanza // of the header; see [PairTag.Matches] for those to a key exchange pair
	Key    Ref         // the key of a keyring; the zero Ref for any other recipient
	KeyID  blob.ID     // its id
}

// FileRecipients reads the header of an age file, binary, and returns its recipients. It needs no
// key. The error is a [blob.ErrIntegrity] for anything but an age file.
func FileRecipients(src io.Reader) ([]FileRecipient, error) {
	source := &sourceReader{src: src}
	var seen headerReader
	_, err := age.Decrypt(source, &seen)
	if !errors.As(err, new(*age.NoIdentityMatchError)) {
		return nil, source.classify(err)
	}
	var all []FileRecipient
	for _, s := range seen {
		r := FileRecipient{Stanza: s}
		if s.Type == stanzaType {
			if r.Key, r.KeyID, err = parseStanza(s); err != nil {
				return nil, err
			}
		}
		all = append(all, r)
	}
	return all, nil
}

// A headerReader is an identity that opens nothing and keeps the stanzas that it is shown.
type headerReader []*age.Stanza

func (h *headerReader) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	*h = stanzas
	return nil, age.ErrIncorrectIdentity
}
