package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Announce prints what opening a keyring has found that a person should know.
func Announce(k *hsmkeys.Keyring) {
	s := k.State()
	for _, r := range s.Recoveries {
		message.Warn(fmt.Errorf("%s; hsmkeys accept %v", RecoveryText(r), r.At))
	}
	if s.Older != nil {
		message.Warn(fmt.Errorf("this is an older state of the keyring, checkpoint %d of %s: %w", s.At.Number, text.Time(s.Signed), s.Older))
	}
	if s.Unpinned {
		message.Warn(fmt.Errorf("no pin of keyring %s is on the token or in a file: an older state would not be noticed, and nothing is encrypted or signed before hsmkeys join", k.ID()))
	}
	if s.BeforeList > 0 && s.BeforeList != s.List {
		message.Note("list of members %d is in force, it was %d before (hsmkeys owner list, authority list)", s.List, s.BeforeList)
	}
}

// RecoveryText describes a recovery in a sentence.
func RecoveryText(r ledger.RecoveryEvent) string {
	by := text.Printable(r.Authority.Label)
	if len(r.Approved) > 0 {
		by += fmt.Sprintf(" (approved by %s)", Labels(r.Approved))
	}
	return fmt.Sprintf("RECOVERY: the backup authority %s has put %s in the place of the owner %s, which %s; on %s, reason: %s",
		by, text.Printable(r.To.Label), text.Printable(r.From.Label), LastSigned(r), text.Time(r.Created), text.Printable(r.Reason))
}

// Labels returns the labels of members or custodians, sorted.
func Labels(members []blob.Member) string {
	var all []string
	for _, m := range members {
		all = append(all, text.Printable(m.Label))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// Explain adds to an error of opening a keyring what to do about it.
func Explain(err error) error {
	var fork *ledger.Fork
	switch {
	case errors.As(err, &fork) && NotSigned(fork):
		return failure.WithHint(err, fmt.Sprintf("no member has signed checkpoint %d as the store has it: the store is damaged, or it was tampered with; put it back from a copy, which loses nothing", fork.Theirs[0].At.Number))
	case errors.As(err, &fork):
		return failure.WithHint(fmt.Errorf("%w; accepted here: %s; in the store: %s", err, sideText(fork.Ours), sideText(fork.Theirs)),
			"hsmkeys decrypt --older-state opens what either side has encrypted; to go on with the store's side: hsmkeys join --replace-pin --checkpoint N:DIGEST, as hsmkeys checkpoint prints it for another member or on the machine that wrote it, then hsmkeys merge"+ownSide(fork))
	case errors.Is(err, ledger.ErrRollback):
		return failure.WithHint(err, "the storage was set back to an old state, or is a backup: use a newer copy of the store; hsmkeys decrypt --older-state opens files meanwhile; if there is no newer copy, hsmkeys join --replace-pin --checkpoint N:DIGEST continues from this one")
	}
	if errors.Is(err, hsmkeys.ErrOtherKeyring) {
		return failure.WithHint(err, "put the store back from a copy; or if it is meant, name the keyring with --keyring, or hsmkeys join it")
	}
	return err
}

// ExplainCheckpoint is [Explain] for options that may name a checkpoint: if the store lacks that very
// one, it may be wrong.
func ExplainCheckpoint(o hsmkeys.Options, err error) error {
	var lacks *ledger.Rollback
	if o.Checkpoint != nil && errors.As(err, &lacks) && lacks.Accepted == *o.Checkpoint {
		return failure.WithHint(err, "--checkpoint names it: compare it with what hsmkeys checkpoint of the other member prints; if it is the same, take a newer copy of the store")
	}
	return Explain(err)
}

// NotSigned reports whether the store's side of a fork begins with a checkpoint that no member has
// signed, although the members are known: the store is damaged or forged, not a copy.
func NotSigned(fork *ledger.Fork) bool {
	return len(fork.Ours) > 0 && fork.Ours[0].Signer != "" && len(fork.Theirs) > 0 && fork.Theirs[0].Signer == ""
}

// sideText returns who has written to one side of a fork, and when.
func sideText(side []ledger.Side) string {
	const most = 3
	var all []string
	for i, s := range side {
		if i == most {
			all = append(all, fmt.Sprintf("and %d more", len(side)-most))
			break
		}
		who := s.Signer
		if who == "" {
			who = "an unknown key"
		}
		all = append(all, fmt.Sprintf("checkpoint %d by %s on %s", s.At.Number, text.Printable(who), s.Created.UTC().Format(time.RFC3339)))
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// ownSide returns the end of the side that was accepted here, as an argument of merge.
func ownSide(fork *ledger.Fork) string {
	if len(fork.Ours) == 0 {
		return ""
	}
	return fmt.Sprintf(" @%v", fork.Ours[len(fork.Ours)-1].At)
}

// LastSigned returns when the owner that a recovery replaces has last signed.
func LastSigned(r ledger.RecoveryEvent) string {
	if r.LastSigned.Number == 0 {
		return "has signed nothing since this token last looked"
	}
	return fmt.Sprintf("last signed checkpoint %d on %s", r.LastSigned.Number, text.Time(r.LastTime))
}
