package hsmkeys

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"math/big"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Sample says how many keys to choose at random: who keeps the storage must not be able
// to foresee which ones. One of the two is set.
type Sample struct {
	Keys    int     // so many of all that are there, each as likely as the others
	Percent float64 // each key with this chance: what is chosen begins before all are known
}

// Check says whether it is one.
func (s Sample) Check() error {
	isKeys := s.Keys >= 1 && s.Percent == 0
	isPercent := s.Keys == 0 && s.Percent > 0 && s.Percent <= 100
	if !isKeys && !isPercent {
		return fmt.Errorf("no sample: %d keys, %v percent", s.Keys, s.Percent)
	}
	return nil
}

// VerifySample is [Keyring.Verify] for keys that are chosen at random.
func (k *Keyring) VerifySample(ctx context.Context, s Sample) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.Check(); err != nil {
			yield("", err)
			return
		}
		keys := k.view().Trie().All(ctx, k.view().Source())
		if s.Keys > 0 {
			keys = reservoir(keys, s.Keys)
		} else {
			keys = withChance(keys, s.Percent/100)
		}
		k.verifyKeys(ctx, keys, yield)
	}
}

// reservoir chooses n of all that come (Vitter's algorithm R).
func reservoir(keys iter.Seq2[ledger.Entry, error], n int) iter.Seq2[ledger.Entry, error] {
	return func(yield func(ledger.Entry, error) bool) {
		var chosen []ledger.Entry
		seen := int64(0)
		for key, err := range keys {
			if err != nil {
				if !yield(key, err) {
					return
				}
				continue
			}
			seen++
			if len(chosen) < n {
				chosen = append(chosen, key)
				continue
			}
			at, err := rand.Int(rand.Reader, big.NewInt(seen))
			if err != nil {
				yield(key, err)
				return
			}
			if i := at.Int64(); i < int64(n) {
				chosen[i] = key
			}
		}
		for _, key := range chosen {
			if !yield(key, nil) {
				return
			}
		}
	}
}

// withChance chooses each that comes with a chance.
func withChance(keys iter.Seq2[ledger.Entry, error], chance float64) iter.Seq2[ledger.Entry, error] {
	return func(yield func(ledger.Entry, error) bool) {
		below := uint64(math.MaxUint64)
		if chance < 1 {
			below = uint64(chance * (1 << 63) * 2)
		}
		var drawn [8]byte
		for key, err := range keys {
			_, _ = rand.Read(drawn[:])
			if err == nil && chance < 1 && binary.LittleEndian.Uint64(drawn[:]) >= below {
				continue
			}
			if !yield(key, err) {
				return
			}
		}
	}
}
