package hsmkeys

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// ErrRollback, a kind of [blob.ErrIntegrity]: the storage shows an older list of
// members than the token has accepted before, or another one in its place.
var ErrRollback = fmt.Errorf("old state of the keyring: %w", blob.ErrIntegrity)

// Pin is which list of members of a keyring a key exchange pair has accepted last.
// It is kept where who can write to the storage cannot, so that an old state
// of the storage is noticed.
type Pin struct {
	Pair    string // subject key identifier of the pair, 40 hexadecimal digits
	Keyring blob.ID
	First   [sha256.Size]byte // digest of list 1, which tells the keyring
	Number  int
	Digest  [sha256.Size]byte // of list Number
}

const pinFormat = "hsmkeys-pin-1"

// maxPin bounds what is read of a pin, in bytes. One has at most 228.
const maxPin = 256

// String is the form in which a pin is kept: one line of text, for who looks at
// the token with other tools.
func (p Pin) String() string {
	return fmt.Sprintf("%s %s %s %x %d %x", pinFormat, p.Pair, p.Keyring, p.First, p.Number, p.Digest)
}

// ParsePin reads what [Pin.String] gives, and nothing else.
func ParsePin(s string) (Pin, error) {
	malformed := fmt.Errorf("not a pin of a keyring: %w", blob.ErrMalformed)
	fields := strings.Split(s[:min(len(s), maxPin)], " ")
	if len(fields) != 6 || fields[0] != pinFormat {
		return Pin{}, malformed
	}
	p := Pin{Pair: fields[1]}
	var pair [20]byte
	number, err := strconv.ParseInt(fields[4], 10, 32)
	if err != nil || number < 1 || !unhex(pair[:], fields[1]) || !unhex(p.Keyring[:], fields[2]) || !unhex(p.First[:], fields[3]) || !unhex(p.Digest[:], fields[5]) {
		return Pin{}, malformed
	}
	p.Number = int(number)
	if p.String() != s { // there is one way to write it
		return Pin{}, malformed
	}
	return p, nil
}

func unhex(dst []byte, s string) bool {
	if len(s) != hex.EncodedLen(len(dst)) {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// Pins keeps pins: on the token in private data objects, which nobody without the
// PIN can make, change or see; or, where the token keeps no data objects, in files
// of a directory.
type Pins struct {
	token *token.Token // nil: only the directory
	dir   string       // empty: only the token
}

// PinsOn keeps pins on a token, or in a directory where the token cannot keep them.
// Without a directory such a token is an error.
func PinsOn(t *token.Token, dir string) *Pins { return &Pins{t, dir} }

// load reads the pins of a pair.
func (p *Pins) load(ctx context.Context, pair string) ([]Pin, error) {
	var pins []Pin
	add := func(where, value string) error {
		pin, err := ParsePin(value)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if pin.Pair == pair {
			pins = append(pins, pin)
		}
		return nil
	}
	if p.token != nil {
		records, err := p.token.Records(ctx)
		if err != nil && !errors.Is(err, token.ErrUnsupported) {
			return nil, err
		}
		for _, r := range records {
			if err := add(fmt.Sprintf("data object %q of the token", r.Label), string(r.Value)); err != nil {
				return nil, err
			}
		}
	}
	if p.dir == "" {
		return pins, nil
	}
	// A pin that is removed while we read has a successor that was there before.
	files, err := os.ReadDir(filepath.Join(p.dir, pair))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	if err == nil { // where others could have removed pins, none is no news
		if err := ownfile.CheckPlace(filepath.Join(p.dir, pair, "pin")); err != nil {
			return nil, fmt.Errorf("read pins: %w", err)
		}
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") {
			continue // one that was not finished
		}
		path := filepath.Join(p.dir, pair, f.Name())
		value, err := readPin(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a later one has taken its place
		}
		if err != nil {
			return nil, fmt.Errorf("read pins: %w", err)
		}
		if err := add(path, value); err != nil {
			return nil, err
		}
	}
	return pins, nil
}

// readPin reads a pin that nobody but this user and root can have written.
func readPin(path string) (string, error) {
	value, err := ownfile.Read(path, maxPin)
	return strings.TrimSuffix(string(value), "\n"), err
}

// keep stores a pin, then removes older ones of the same keyring, and says where it
// is. The one before it stays: SoftHSM does not always show a record that is made at
// this moment to another process, and a token without any pin would take whatever
// the storage shows. Of several, the highest counts.
func (p *Pins) keep(ctx context.Context, pin Pin) (where string, err error) {
	if p.token != nil {
		err := p.keepOnToken(ctx, pin)
		if err == nil {
			return fmt.Sprintf("token %s", p.token.Info().Label), nil
		}
		if !errors.Is(err, token.ErrUnsupported) {
			return "", fmt.Errorf("pin the list of members: %w", err)
		}
		if p.dir == "" {
			return "", hint(fmt.Errorf("pin the list of members: %w, and there is no directory for it", err), "set HOME or XDG_STATE_HOME to an absolute path")
		}
	}
	if where, err = p.keepInFile(pin); err != nil {
		return "", fmt.Errorf("pin the list of members: %w", err)
	}
	return where, nil
}

func (p *Pins) keepOnToken(ctx context.Context, pin Pin) error {
	if err := p.token.AddRecord(ctx, "hsmkeys keyring "+pin.Keyring.String(), []byte(pin.String())); err != nil {
		return err
	}
	records, err := p.token.Records(ctx)
	if err != nil {
		return err
	}
	pins := make([]Pin, len(records))
	for i, r := range records {
		pins[i], _ = ParsePin(string(r.Value)) // what is no pin is nobody's predecessor
	}
	for i, r := range records {
		if pins[i].outdated(pin, pins) {
			if err := p.token.DeleteRecord(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// before says whether a pin is an older one of the same keyring.
func (p Pin) before(next Pin) bool {
	return p.Pair == next.Pair && p.First == next.First && p.Number < next.Number
}

// outdated says whether a pin is neither the newest nor the one before it.
func (p Pin) outdated(newest Pin, all []Pin) bool {
	return slices.ContainsFunc(all, func(between Pin) bool { return p.before(between) && between.before(newest) })
}

// keepInFile stores a pin in a file of its own, as each on the token is an object
// of its own: two processes that pin two lists must end with the later one.
func (p *Pins) keepInFile(pin Pin) (string, error) {
	dir := filepath.Join(p.dir, pin.Pair)
	path := filepath.Join(dir, fmt.Sprintf("%s.%d", pin.Keyring, pin.Number))
	if err := ownfile.CheckPlace(path); err != nil {
		return "", err
	}
	if err := writePin(path, pin); err != nil {
		return "", err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	pins := make([]Pin, len(files))
	for i, f := range files {
		if value, err := readPin(filepath.Join(dir, f.Name())); err == nil { // or another process has removed it
			pins[i], _ = ParsePin(value)
		}
	}
	for i, f := range files {
		if pins[i].outdated(pin, pins) {
			if err := os.Remove(filepath.Join(dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	return path, nil
}

// writePin replaces a file, whole or not at all.
func writePin(path string, pin Pin) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".pin-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails when it has its name: good
	_, err = f.WriteString(pin.String() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	for _, above := range []string{dir, filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))} { // whoever made them
		if err := syncDirectory(above); err != nil {
			return err
		}
	}
	return nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
