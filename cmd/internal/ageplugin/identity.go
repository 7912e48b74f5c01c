package ageplugin

import (
	"errors"
	"fmt"
	"path/filepath"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"
	"filippo.io/age/plugin"
	"golang.org/x/crypto/cryptobyte"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/trial"
	"github.com/hsmkeys/hsmkeys/token"
)

// An Identity is the content of an AGE-PLUGIN-HSMKEYS-1… string: where the keys are, and which of
// them it opens. It contains no secret. A field that is empty is taken from the environment and the
// configuration file; the identity of age -j has no fields at all.
//
// It is encoded as one byte, the version, and then the fields in this order, each preceded by its
// length in two bytes. So there is one encoding of each.
type Identity struct {
	Module string          // the PKCS #11 library, absolute
	Token  string          // a label, or an RFC 7512 URI with no PIN and no source of one
	Store  string          // the directory of the key blobs, absolute, or the URL of a bucket
	Key    string          // opens what is under this key alone; else everything
	Pair   hsmkeys.PairTag // knows what is to the pair before anybody is asked for a PIN
}

const (
	identityVersion = 1
	maxPath         = 4096 // PATH_MAX
	maxTokenName    = 1024
)

var errIdentity = errors.New("not a usable identity")

// Encode returns the string for age. It refuses what Decode would refuse.
func (i Identity) Encode() (string, error) {
	if err := i.check(); err != nil {
		return "", err
	}
	data, err := i.marshal()
	return plugin.EncodeIdentity(hsmkeys.PluginName, data), err
}

func (i Identity) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(identityVersion)
	for _, field := range i.fields() {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(field) })
	}
	return b.Bytes()
}

func (i Identity) fields() [][]byte {
	return [][]byte{[]byte(i.Module), []byte(i.Token), []byte(i.Store), []byte(i.Key), i.Pair}
}

// Decode decodes an identity. It accepts only what Encode returns, and no program that prints a
// PIN: that would be run.
func Decode(data []byte) (Identity, error) {
	if len(data) == 0 {
		return Identity{}, nil
	}
	s := cryptobyte.String(data)
	var version uint8
	if !s.ReadUint8(&version) || version != identityVersion {
		return Identity{}, fmt.Errorf("%w: of a version %d that this program does not know", errIdentity, data[0])
	}
	var fields [5]cryptobyte.String
	for n := range fields {
		if !s.ReadUint16LengthPrefixed(&fields[n]) {
			return Identity{}, fmt.Errorf("%w: it is cut off", errIdentity)
		}
	}
	if !s.Empty() {
		return Identity{}, fmt.Errorf("%w: something stands behind its end", errIdentity)
	}
	i := Identity{string(fields[0]), string(fields[1]), string(fields[2]), string(fields[3]), hsmkeys.PairTag(fields[4])}
	return i, i.check()
}

func (i Identity) check() error {
	for _, text := range []struct {
		what, is string
		most     int
	}{{"module", i.Module, maxPath}, {"token", i.Token, maxTokenName}, {"store", i.Store, maxPath}} {
		if len(text.is) > text.most || !printableText(text.is) {
			return fmt.Errorf("%w: its %s is longer than %d bytes, or no text", errIdentity, text.what, text.most)
		}
	}
	sel, err := token.ParseSelector(i.Token)
	clear(sel.PINValue)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errIdentity, err)
	case sel.PINValue != nil || sel.PINSource != "":
		return fmt.Errorf("%w: its token's URI says what the PIN is or where it comes from", errIdentity)
	case i.Module != "" && !filepath.IsAbs(i.Module):
		return fmt.Errorf("%w: its module is not an absolute path", errIdentity)
	case place.IsBucket(i.Store):
		if err := place.Check(i.Store); err != nil {
			return fmt.Errorf("%w: its %w", errIdentity, err)
		}
	case i.Store != "" && (!filepath.IsAbs(i.Store) || filepath.Clean(i.Store) != i.Store):
		return fmt.Errorf("%w: its store %q is not an absolute path", errIdentity, i.Store)
	case i.Key != "" && blob.ValidName(i.Key) != nil:
		return fmt.Errorf("%w: its key has no valid name", errIdentity)
	case !i.Pair.Valid() || i.Key != "" && len(i.Pair) > 0:
		return fmt.Errorf("%w: its pair is not one", errIdentity)
	}
	return nil
}

// printableText reports whether s is UTF-8 without characters that do not print.
func printableText(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// withSettings calls f with the settings of the identity: its fields have precedence over the
// environment and the configuration file.
func (i Identity) withSettings(f func(*settings.Settings) error) error {
	line := map[string]string{}
	for name, value := range map[string]string{"module": i.Module, "token": i.Token, "store": i.Store} {
		if value != "" {
			line[name] = value
		}
	}
	s, err := settings.Load(settings.Source{Line: line, Confined: true})
	if err != nil {
		return err
	}
	trial.Watch(s.ModuleTimeout)
	return f(s)
}

// own returns those of a file's stanzas that can be for this identity: under keys, and to the pair.
func (i Identity) own(stanzas []*age.Stanza) (keys, pair []*age.Stanza) {
	for _, s := range stanzas {
		if name, ok := hsmkeys.StanzaKey(s); ok && (i.Key == "" || i.Key == name) {
			keys = append(keys, s)
		}
		if i.Key == "" && (len(i.Pair) == 0 && hsmkeys.IsPairStanza(s) || i.Pair.Matches(s)) {
			pair = append(pair, s)
		}
	}
	return keys, pair
}
