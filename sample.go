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

// A Sample is how many keys are chosen at random, so that whoever runs the storage cannot predict
// which. One of the two fields is set.
type Sample struct {
	Keys    int     // this many of all keys, each as likely as the others
	Percent float64 // each key with this chance: the first are chosen before all are known
}

// Check returns an error unless exactly one of the two is set, and in its range.
func (s Sample) Check() error {
	isKeys := s.Keys >= 1 && s.Percent == 0
	isPercent := s.Keys == 0 && s.Percent > 0 && s.Percent <= 100
	if !isKeys && !isPercent {
		return fmt.Errorf("no sample: %d keys, %v percent", s.Keys, s.Percent)
	}
	return nil
}

// VerifySample verifies keys that are chosen at random, as [Keyring.Verify] does all.
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

// Of chooses some of refs at random. A percentage is rounded up.
func (s Sample) Of(refs []Ref) ([]Ref, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	n := s.Keys
	if s.Percent > 0 {
		n = int(math.Ceil(float64(len(refs)) * s.Percent / 100))
	}
	var chosen []Ref
	for ref, err := range reservoir(withoutErrors(refs), n) {
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, ref)
	}
	return chosen, nil
}

func withoutErrors[T any](all []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, one := range all {
			if !yield(one, nil) {
				return
			}
		}
	}
}

// reservoir chooses n of all that come (Vitter's algorithm R).
func reservoir[T any](keys iter.Seq2[T, error], n int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var chosen []T
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
