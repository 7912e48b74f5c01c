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
	"strings"
	"sync"
	"syscall"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// Pins keeps pins in files of a directory, and on the token in private data objects, which nobody
// can make, change or see without the PIN. The pin in the file moves with every checkpoint; that on
// the token with changes of members and versions, or when it lags far behind, since cards wear out.
type Pins struct {
	records keyspec.Records // nil: only the directory
	dir     string          // empty: only the token

	mu      sync.Mutex
	highest map[[sha256.Size]byte]int // the highest checkpoint pinned on the token, by the first of the keyring
}

// NewPins returns the pins in the records of a pair and in a directory. Records may be nil; an
// empty dir means none. Without a directory, records that cannot be kept are an error.
func NewPins(records keyspec.Records, dir string) *Pins {
	return &Pins{records: records, dir: dir, highest: map[[sha256.Size]byte]int{}}
}

// load reads the pins of a pair. Anything that keeps one from being read is an error,
// unless the token keeps no data objects at all.
func (p *Pins) load(ctx context.Context, pair string) ([]Pin, error) {
	onToken, err := p.onToken(ctx, pair)
	if err != nil {
		return nil, err
	}
	inFiles, err := p.inFiles(pair)
	return append(onToken, inFiles...), err
}

// onToken reads the pins of a pair on the token.
func (p *Pins) onToken(ctx context.Context, pair string) ([]Pin, error) {
	if p.records == nil {
		return nil, nil
	}
	records, err := p.records.Records(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	var pins []Pin
	for _, r := range records {
		pin, err := ParsePin(string(r.Value))
		if err != nil {
			return nil, fmt.Errorf("read pins: data object %q of the token: %w", r.Label, err)
		}
		if pin.Pair == pair {
			pins = append(pins, pin)
			p.noteOnToken(pin)
		}
	}
	return pins, nil
}

// noteOnToken remembers what is pinned on the token: a card takes long to read.
func (p *Pins) noteOnToken(pin Pin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.highest[pin.First] = max(p.highest[pin.First], pin.At.Number)
}

func (p *Pins) highestOnToken(pin Pin) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.highest[pin.First]
}

// inFiles reads the pins of a pair in the directory.
func (p *Pins) inFiles(pair string) ([]Pin, error) {
	if p.dir == "" {
		return nil, nil
	}
	dir := filepath.Join(p.dir, pair)
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil { // where others could have removed pins, their absence says nothing
		err = ownfile.CheckPlace(filepath.Join(dir, "pin"))
	}
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	var pins []Pin
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") || p.records != nil && strings.HasSuffix(f.Name(), certificateSuffix) {
			continue // one that was not finished, or the lock; or that no token stands for
		}
		pin, err := readPin(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		if pin.Pair == pair {
			pins = append(pins, pin)
		}
	}
	return pins, nil
}

// readPin reads a pin that nobody but this user and root can have written.
func readPin(path string) (Pin, error) {
	value, err := ownfile.Read(path, maxPin)
	if err != nil {
		return Pin{}, fmt.Errorf("read pins: %w", err)
	}
	pin, err := ParsePin(strings.TrimSuffix(string(value), "\n"))
	if err != nil {
		return Pin{}, withFacts(fmt.Errorf("read pins: %s: %w", path, err), &PinFile{path})
	}
	return pin, nil
}

// pinPlaces are the places where a pin is kept.
type pinPlaces int

const (
	inFile  pinPlaces = iota // in the file; on the token when that lags far behind
	onToken                  // in both
)

// store stores a pin. Of two processes that pin two checkpoints of one chain the later
// checkpoint stays; consistent returns an error for one that is of another chain. Where
// consistent is nil whatever is there is replaced.
func (p *Pins) store(ctx context.Context, pin Pin, where pinPlaces, consistent func(context.Context, ledger.Point) error) error {
	replace := consistent == nil
	err := p.keepInFile(ctx, pin, consistent)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		err = withFacts(err, ErrStateDir)
	}
	if err != nil {
		return fmt.Errorf("pin checkpoint %d: %w", pin.At.Number, err)
	}
	if err := p.keepOnToken(ctx, pin, where, replace); err != nil {
		return fmt.Errorf("pin checkpoint %d: %w", pin.At.Number, err)
	}
	return nil
}

// keepOnToken adds the pin, then removes older ones of the same keyring. The one before it
// stays: SoftHSM does not always show a record that is made at this moment to another
// process. Of several the highest counts.
func (p *Pins) keepOnToken(ctx context.Context, pin Pin, where pinPlaces, replace bool) error {
	if p.records == nil {
		return nil
	}
	highest := p.highestOnToken(pin)
	due := where == onToken || p.dir == "" || highest == 0 || pin.At.Number-highest >= maxTokenLag
	if !replace && (!due || pin.At.Number <= highest) {
		return nil
	}
	err := p.records.AddRecord(ctx, "hsmkeys keyring "+pin.Keyring.String(), []byte(pin.String()))
	if errors.Is(err, errors.ErrUnsupported) && p.dir != "" {
		return nil // the file's is all there is
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return withFacts(fmt.Errorf("%w, and there is no directory for it", err), ErrNoStateDir)
	}
	if err != nil {
		return err
	}
	p.noteOnToken(pin)
	return p.removeOutdated(ctx, pin, replace)
}

func (p *Pins) removeOutdated(ctx context.Context, pin Pin, replace bool) error {
	records, err := p.records.Records(ctx)
	if err != nil {
		return err
	}
	pins := make([]Pin, len(records))
	for i, r := range records {
		pins[i], _ = ParsePin(string(r.Value)) // what is no pin is nobody's predecessor
	}
	for i, r := range records {
		replaced := replace && pins[i].of(pin) && pins[i] != pin
		if replaced || pins[i].outdated(pin, pins) {
			if err := p.records.DeleteRecord(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepInFile replaces the file of a pin, whole or not at all, unless it has a later one.
func (p *Pins) keepInFile(ctx context.Context, pin Pin, consistent func(context.Context, ledger.Point) error) error {
	if p.dir == "" {
		return nil
	}
	path := p.file(pin)
	if there, err := readPin(path); err == nil && there == pin {
		return nil
	}
	if err := ownfile.CheckPlace(path); err != nil {
		return err
	}
	unlock, err := lockDirectory(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	there, err := readPin(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case consistent != nil:
		if err := consistent(ctx, there.At); err != nil { // another process has stored it since
			return err
		}
		if there == pin || there.At.Number > pin.At.Number || there.At == pin.At && there.Checked.Number > pin.Checked.Number {
			return nil
		}
		pin.Checked = later(pin.Checked, there.Checked)
	}
	return ownfile.Replace(path, []byte(pin.String()+"\n"))
}

// later returns the later of two points of one chain.
func later(a, b ledger.Point) ledger.Point {
	if b.Number > a.Number {
		return b
	}
	return a
}

// highest ends the name of a pin that was kept without the token. It does not count for the
// token: one that has lost its pins must not encrypt because somebody has looked at the
// keyring with the certificate.
const certificateSuffix = ".seen"

// file is where the pin of a pair and keyring is kept.
func (p *Pins) file(pin Pin) string {
	name := hex.EncodeToString(pin.First[:sha256.Size/2])
	if p.records == nil {
		name += certificateSuffix
	}
	return filepath.Join(p.dir, pin.Pair, name)
}

// lockDirectory keeps other processes from replacing pins until unlock is called.
func lockDirectory(dir string) (unlock func(), err error) {
	if err := ownfile.MkdirAll(dir); err != nil {
		return nil, err
	}
	return ownfile.Lock(filepath.Join(dir, ".lock"))
}

// maxTokenLag is how many checkpoints the pin on a token may lag behind the one in the file: each
// new pin is a write to the memory of a card, which wears out.
const maxTokenLag = 256
