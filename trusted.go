package hsmkeys

import (
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// Trusted returns an error if nothing may be encrypted or signed under the state that was read: it
// is not known to be the newest, or a recovery has led to it that was not accepted.
func (k *Keyring) Trusted() error {
	switch s := k.known(); {
	case s.Older != nil:
		return fmt.Errorf("%w: %w", ErrStale, s.Older)
	case s.Unpinned:
		return withFacts(fmt.Errorf("%w: no pin of it is on the token or in a file", ErrStale), ErrNotPinned)
	case len(s.Recoveries) > 0:
		last := s.Recoveries[len(s.Recoveries)-1]
		return withFacts(fmt.Errorf("checkpoint %d puts %q in the place of %q: %w", last.At.Number, last.To.Label, last.From.Label, ledger.ErrUnaccepted), &NotAccepted{last.At})
	}
	return nil
}

// mayEncrypt refuses to encrypt under a state that is not known to be the newest, or that
// is older than the caller has set.
func (k *Keyring) mayEncrypt() error {
	if err := k.Trusted(); err != nil || k.options.MaxAge == 0 {
		return err
	}
	created := k.view().Head().Checkpoint().Created
	switch now := time.Now(); { // a time.Duration ends after 292 years
	case created.Before(now.Add(-k.options.MaxAge)):
		return withFacts(fmt.Errorf("%w: checkpoint %d is of %s, older than %v", ErrStale, k.view().At().Number, created.UTC().Format(time.RFC3339), k.options.MaxAge), ErrTooOld)
	case created.After(now.Add(clockSkew)):
		return fmt.Errorf("%w: checkpoint %d is of %s, ahead of this clock", ErrStale, k.view().At().Number, created.UTC().Format(time.RFC3339))
	}
	return nil
}

// clockSkew is how far ahead of this clock a checkpoint may be.
const clockSkew = 10 * time.Minute
