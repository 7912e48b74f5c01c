package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ErrNotActive is the error for encrypting under a key that is deactivated, compromised or destroyed,
// or has expired.
var ErrNotActive = errors.New("the key encrypts nothing")

// ErrTransition is the error for a status from which a key cannot come to another.
var ErrTransition = errors.New("no such transition (NIST SP 800-57 part 1 rev. 5, section 7.3)")

// statusAfter has the status to which each operation leads.
var statusAfter = map[ledger.Op]ledger.Status{
	ledger.Activate: ledger.Active, ledger.Deactivate: ledger.Deactivated, ledger.Compromise: ledger.Compromised, ledger.Destroy: ledger.Destroyed,
}

// Activate makes deactivated keys encrypt again: the newest version of each is the one that does, unless
// there is a newer one that is active. A Ref without a version is all versions of a key.
func (k *Keyring) Activate(ctx context.Context, refs []Ref, reason string) iter.Seq[Result] {
	return k.setStatus(ctx, refs, ledger.Activate, reason)
}

// Deactivate makes keys encrypt nothing more. They still decrypt. A Ref without a version is all
// versions of a key.
func (k *Keyring) Deactivate(ctx context.Context, refs []Ref, reason string) iter.Seq[Result] {
	return k.setStatus(ctx, refs, ledger.Deactivate, reason)
}

// Compromise records that others may have keys. They encrypt nothing more, and decrypting with them
// warns. A Ref without a version is all versions of a key.
func (k *Keyring) Compromise(ctx context.Context, refs []Ref, reason string) iter.Seq[Result] {
	return k.setStatus(ctx, refs, ledger.Compromise, reason)
}

// setStatus records the status of keys. It needs no operation of the token but the signature of the
// checkpoint.
func (k *Keyring) setStatus(ctx context.Context, refs []Ref, op ledger.Op, reason string) iter.Seq[Result] {
	return k.changeAll(ctx, op.String(), fmt.Sprintf("%v a key", op), reason, refs, onToken, func(ctx context.Context, ref Ref) (Result, error) {
		return k.statusResult(ctx, ref, op, reason)
	})
}

// statusResult prepares the edit that sets the status of the versions of a key that can come to it.
func (k *Keyring) statusResult(ctx context.Context, ref Ref, op ledger.Op, reason string) (Result, error) {
	e, err := k.entryNamed(ctx, ref.Name)
	if err != nil {
		return Result{}, err
	}
	versions, err := k.chosen(ctx, e, true)
	if err != nil {
		return Result{}, err
	}
	last := highest(e)
	if ref.Version > 0 {
		f, err := k.find(ctx, ref)
		if err != nil {
			return Result{}, err
		}
		versions, last = []ledger.Version{f.version}, 0
	}
	to := statusAfter[op]
	r := Result{Entry: k.lister().entry(e, versions[len(versions)-1])}
	there := 0
	for _, v := range versions {
		if ledger.Moves(op, v.Status, to) {
			r.Versions = append(r.Versions, v.Number)
		} else if v.Status == to {
			there++
		}
	}
	switch {
	case len(r.Versions) > 0:
		edit := statusEdit(e.Name, r.Versions, last, op, reason)
		r.Done, r.edit = true, &edit
		r.Entry.Status = to.String()
	case there == 0:
		v := versions[len(versions)-1]
		return Result{}, withFacts(fmt.Errorf("key %q is %v and cannot become %v: %w", ref, v.Status, to, ErrTransition), &NotActive{Ref{e.Name, v.Number}, v.Status})
	}
	return r, nil
}

// statusEdit returns the edit that sets the status of versions. It is stale if last is not 0 and not the
// highest version any more.
func statusEdit(name string, versions []int, last int, op ledger.Op, reason string) ledger.Edit {
	return ledger.Edit{Name: name, Apply: func(old *ledger.Entry, get func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		if old == nil || last != 0 && highest(*old) != last {
			return ledger.Update{}, nil, errStaleEntry
		}
		u := ledger.Update{Entry: *old}
		change := ledger.Change{Op: op, Name: name, Reason: reason}
		for _, n := range versions {
			v, ok, err := get(n)
			if err != nil {
				return u, nil, err
			}
			if !ok || !ledger.Moves(op, v.Status, statusAfter[op]) {
				continue // somebody else has done that
			}
			v.Status, v.Changed, v.ChangedAt = statusAfter[op], number, at
			u.Set = append(u.Set, v)
			switch {
			case op == ledger.Activate && old.Current == 0:
				u.Entry.Current = v.Number // the newest, as they ascend
			case op != ledger.Activate && old.Current == v.Number:
				u.Entry.Current = 0
			}
		}
		if len(u.Set) == 0 {
			return u, nil, nil
		}
		if last == 0 {
			change.Version = versions[0]
		}
		return u, []ledger.Change{change}, nil
	}}
}

// mayEncryptUnder returns an error unless a version of a key encrypts.
func (k *Keyring) mayEncryptUnder(ctx context.Context, f keyVersion) error {
	if err := k.mayEncrypt(); err != nil {
		return err
	}
	switch e := f.entry; {
	case e.Name == "":
		return fmt.Errorf("the state of the keyring does not know the key: %w", ErrStale)
	case f.version.Status != ledger.Active:
		return withFacts(fmt.Errorf("key %q %s: %w", f.ref(), k.statusSince(ctx, f), ErrNotActive), &NotActive{f.ref(), f.version.Status})
	case !e.Expires.IsZero() && time.Now().After(e.Expires):
		return withFacts(fmt.Errorf("key %q has expired on %s: %w", f.ref(), e.Expires.UTC().Format(time.RFC3339), ErrNotActive), &Expired{e.Name})
	}
	return nil
}

// warnBefore is how long before a key expires encrypting under it warns.
const warnBefore = 30 * 24 * time.Hour

func (k *Keyring) warnOfExpiry(f keyVersion) {
	if e := f.entry; !e.Expires.IsZero() && time.Until(e.Expires) < warnBefore {
		k.warn(withFacts(fmt.Errorf("key %q expires on %s, and encrypts nothing after that", f.ref(), e.Expires.UTC().Format(time.RFC3339)), ErrExpiresSoon))
	}
}

// compromised returns the warning for decrypting with a compromised key.
func (k *Keyring) compromised(ctx context.Context, f keyVersion) error {
	return fmt.Errorf("key %q %s: what is encrypted under it must be encrypted anew", f.ref(), k.statusSince(ctx, f))
}

// destroyed returns the error for a version that was destroyed.
func (k *Keyring) destroyed(ctx context.Context, f keyVersion) error {
	return withFacts(fmt.Errorf("it %s: %w", k.statusSince(ctx, f), blob.ErrNotFound), &NotActive{f.ref(), f.version.Status})
}

// statusSince returns the status of a version, since when, by whom and why.
func (k *Keyring) statusSince(ctx context.Context, f keyVersion) string {
	by, reason := k.whoChanged(ctx, f)
	text := fmt.Sprintf("is %v since", f.version.Status)
	if f.version.Status == ledger.Destroyed {
		text = "was destroyed on"
	}
	text += " " + f.version.ChangedAt.UTC().Format(time.DateOnly)
	if by != "" {
		text += fmt.Sprintf(" by %q", by)
	}
	if reason != "" {
		text += fmt.Sprintf(" (%s)", reason)
	}
	return text
}

// whoChanged returns the label of the member who has changed a version last, and the reason. Both are
// empty if a part of the store is missing: the status itself is certain.
func (k *Keyring) whoChanged(ctx context.Context, f keyVersion) (by, reason string) {
	events, err := k.view().EventsAt(ctx, f.version.Changed)
	if err != nil {
		return "", ""
	}
	names := f.names()
	for _, e := range events {
		c := e.Change
		if slices.Contains(names, c.Name) && (c.Version == 0 || c.Version == f.version.Number) {
			by = e.Signer.Label
			if c.Reason != "" {
				reason = c.Reason
			}
		}
	}
	return by, reason
}
