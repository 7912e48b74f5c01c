package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// What the tests of durability hold a store against, after a command that was killed or
// whose system calls have failed: the chain of checkpoints, from the first one on and by
// nothing but its signatures, the pins, and what commands have printed.

// freshTokens replaces the tokens of the site by copies of those of another one: SoftHSM
// can lose a token whose files it was writing when it was killed.
func (s *faultSite) freshTokens(t *testing.T, from *faultSite) {
	t.Helper()
	env, err := from.env.Clone()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	s.env = env
}

// chain checks every step from checkpoint 1 to the head, and that every pin is one of them.
func (s *faultSite) chain() (*ledger.Ledger, error) {
	store, err := dir.Open(filepath.Join(s.dir, "store"))
	if err != nil {
		return nil, err
	}
	first, err := s.slot("store", 1)
	if err != nil {
		return nil, err
	}
	trust := ledger.Trust{Checkpoint: &first, Write: true}
	l, _, err := ledger.Open(context.Background(), store, trust)
	if errors.Is(err, ledger.ErrCompacted) { // what can be checked then is the descent
		trust.Write = false
		l, _, err = ledger.Open(context.Background(), store, trust)
	}
	if err != nil {
		return nil, fmt.Errorf("the chain of checkpoints: %w", err)
	}
	return l, s.pinned()
}

// slot returns what lies in a slot of a store.
func (s *faultSite) slot(store string, number int) (ledger.Point, error) {
	der, err := os.ReadFile(filepath.Join(s.dir, store, blob.SlotPath(number)))
	return ledger.Point{Number: number, Digest: sha256.Sum256(der)}, err
}

// pinned checks that nothing is pinned but what lies in a slot, here or in a copy that another
// token has worked on.
func (s *faultSite) pinned() error {
	pins := s.pinFiles()
	if len(pins) == 0 {
		return errors.New("there are no pins")
	}
	for _, path := range pins {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pin, err := hsmkeys.ParsePin(strings.TrimSuffix(string(text), "\n"))
		if err != nil {
			return err
		}
		at, err := s.slot("store", pin.At.Number)
		if other, _ := s.slot("copy", pin.At.Number); err != nil || at != pin.At && other != pin.At {
			return fmt.Errorf("checkpoint %v is pinned, and in its slot is %v, %v", pin.At, at, err)
		}
	}
	return nil
}

// pinFiles returns the files that pins are in.
func (s *faultSite) pinFiles() []string {
	pins, _ := filepath.Glob(filepath.Join(s.dir, ".local/state/hsmkeys/pins/*/[0-9a-f]*"))
	return pins
}

// A reportedKey is a version of a key that a command has printed.
type reportedKey struct {
	name    string
	version int
	id      string
}

var createdLine = regexp.MustCompile(`(?m)^(\S+)@(\d+) created: \S+, key id ([0-9a-f]{32})`)

func reported(stdout string) (keys []reportedKey) {
	for _, m := range createdLine.FindAllStringSubmatch(stdout, -1) {
		version, _ := strconv.Atoi(m[2]) // digits
		keys = append(keys, reportedKey{m[1], version, m[3]})
	}
	return keys
}

// hasReported checks that the state has the keys, and the log when they came.
func hasReported(l *ledger.Ledger, keys []reportedKey) error {
	ctx := context.Background()
	logged := map[string]bool{}
	for event, err := range l.Log(ctx, 0) {
		if err != nil {
			return err
		}
		if c := event.Change; c.Op == ledger.Create || c.Op == ledger.Rotate {
			logged[fmt.Sprintf("%s@%d", c.Name, c.Version)] = true
		}
	}
	var all error
	for _, key := range keys {
		ref := fmt.Sprintf("%s@%d", key.name, key.version)
		e, err := l.Entry(ctx, key.name)
		if err == nil {
			var v ledger.Version
			if v, err = l.Version(ctx, e, key.version); err == nil && v.KeyID.String() != key.id {
				err = fmt.Errorf("the state has key id %v", v.KeyID)
			}
		}
		if err == nil && !logged[ref] {
			err = errors.New("it is not in the log")
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%s, key id %s, was reported: %w", ref, key.id, err))
		}
	}
	return all
}
