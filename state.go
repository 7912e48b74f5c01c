package hsmkeys

import (
	"context"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A A State is what opening a keyring has found out.
type State struct {
	At     ledger.Point // the head: the newest checkpoint
	Signed time.Time    // when it was signed
	List   int          // number of the list of members in force

	Before     ledger.Point // what was accepted before; zero where there was no pin
	BeforeList int          // the list then in force; 0 where that is not known any more

	Unpinned   bool                   // no pin was found: nothing is encrypted or signed
	Recoveries []ledger.RecoveryEvent // that were not accepted yet: nothing is encrypted or signed
	Older      error                  // the newest state is missing: nothing is encrypted or signed
}

// State returns what opening the keyring has found, and the head of now.
func (k *Keyring) State() State {
	s := k.known()
	s.At, s.Signed, s.List = k.view().At(), k.view().Head().SigningTime(), k.ListNumber()
	return s
}

// known returns what is known of the state of the keyring.
func (k *Keyring) known() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// Signer returns the label of the member who has signed the newest checkpoint.
func (k *Keyring) Signer() string {
	m, _ := k.view().HeadSigner()
	return m.Label
}

// setState keeps what opening has found. own is set if the pair's own signature counts in place of
// a pin, for reading.
func (k *Keyring) setState(ctx context.Context, r ledger.Report, own bool) {
	k.state = State{
		At: k.head.At(), Signed: k.head.Head().SigningTime(), List: k.ListNumber(),
		Before: r.Before, Unpinned: r.Unpinned && own, Older: r.Older,
	}
	if r.Unpinned {
		k.state.Before = ledger.Point{}
	}
	k.state.BeforeList = k.listAt(ctx, k.state.Before)
	// A recovery that this pair has signed, and was kept from pinning, needs nobody to accept it.
	k.state.Recoveries = slices.DeleteFunc(slices.Clone(r.Recoveries), func(e ledger.RecoveryEvent) bool {
		return len(k.signer) > 0 && ledger.SignerID(e.Authority) == string(k.signer)
	})
	if len(k.state.Recoveries) == 0 {
		k.head = k.head.Accept(k.head.At())
	}
}

// listAt returns the number of the list of members in force at a point that was accepted,
// or 0 where the checkpoint is not there.
func (k *Keyring) listAt(ctx context.Context, at ledger.Point) int {
	if at == k.head.At() {
		return k.ListNumber()
	}
	der, err := k.store.Get(ctx, blob.CheckpointPath(at.Digest))
	if err != nil {
		return 0
	}
	u, err := blob.ParseCheckpoint(der)
	if err != nil {
		return 0
	}
	v, err := u.VerifyDigest(at.Digest)
	if err != nil {
		return 0
	}
	return v.Checkpoint().List.Number
}
