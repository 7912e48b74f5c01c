package ledger

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Trust is where trust in a keyring starts. The highest point counts; the head must be
// consistent with all.
type Trust struct {
	Keyring    blob.ID // expected identifier; zero for any
	Pins       []Pin   // of any keyrings: those of the one in the store count
	Checkpoint *Point  // told by a person

	// Voucher is a public key: the newest checkpoint that it has signed counts as
	// accepted. It is used only where there is neither a pin nor a Checkpoint.
	Voucher crypto.PublicKey

	OlderState bool // go back to what is there where the pinned head is not, see [Report]
	AtPoint    bool // open at the highest point itself, whatever has come after it
	Quick      bool // if the pinned checkpoint is the newest, do not read earlier ones
	Write      bool // check every step from the pin on, as a writer must
}

// A Pin is what was accepted of a keyring: it must not come from the store.
type Pin struct {
	Keyring blob.ID
	First   Digest // of checkpoint 1, which tells keyrings with one identifier apart
	At      Point  // the head that was accepted last
	Checked Point  // the last point up to which every step was checked; the zero Point: none
}

// A Report is what opening a keyring has found.
type Report struct {
	Before     Point           // where trust started
	Unpinned   bool            // it started at a voucher's signature
	Recoveries []RecoveryEvent // since then, oldest first
	Older      error           // with [Trust.OlderState]: the [*Rollback] or [*Fork] that was passed over
}

// Open opens the keyring in a store at its head, the newest checkpoint, which must be
// signed by an owner and descend from where trust starts.
//
// A store without a keyring is a [blob.ErrNotFound]. What the head lacks of that which was
// accepted is an [ErrRollback] or [ErrFork], a keyring other than Trust.Keyring an
// [ErrOtherKeyring], and what is missing in the store an
// [ErrIncomplete]. Without any place where trust could start it is an [ErrUnpinned]. A
// writer's step whose nodes were removed by a compaction is an [ErrCompacted].
//
// The head may be older than what others have recorded: a store can always hold back what
// nobody here has seen.
func Open(ctx context.Context, store blob.Store, trust Trust) (*Ledger, Report, error) {
	o := &opening{objects: newObjects(store), trust: trust, source: newStoreSource(store)}
	l, err := o.open(ctx)
	if err != nil {
		return nil, o.report, err
	}
	if trust.Write && o.report.Older == nil {
		err = l.check(ctx, o.objects)
	}
	return l, o.report, err
}

// An opening is the work of Open.
type opening struct {
	*objects
	trust  Trust
	source Source
	report Report

	first   *stored // checkpoint 1, as it lies in the store
	points  []Point // where trust starts, the highest first
	pinned  bool    // some of it at pins
	there   *stored // what fromPin has read in the slot of a pin
	pin     Point   // the highest of these
	checked Point
}

func (o *opening) open(ctx context.Context) (*Ledger, error) {
	if l, err := o.fromPin(ctx); l != nil || err != nil {
		return l, err
	}
	if err := o.findFirst(ctx); err != nil {
		return nil, err
	}
	if err := o.findPoints(ctx); err != nil {
		return nil, err
	}
	if len(o.points) == 0 {
		return nil, ErrUnpinned
	}
	if o.report.Before = o.points[0]; o.pinned { // a recovery after it still has to be accepted
		o.report.Before = o.pin
	}
	if o.trust.AtPoint {
		return o.openAtPoint(ctx)
	}
	head, err := o.findHead(ctx)
	if err != nil {
		return o.olderState(ctx, err)
	}
	for _, p := range o.points {
		if err := o.descends(ctx, head, p); err != nil {
			return o.olderState(ctx, o.explain(ctx, head, p, err))
		}
	}
	return o.ledger(ctx, head, o.report.Before)
}

// fromPin is the shortcut for Trust.Quick. It opens the keyring at the pinned point if all pins agree, its slot
// contains exactly that checkpoint, and the next slot is empty: then the store contains the state accepted last, and
// nothing else need be verified. In all other cases it returns nil, and open takes the long way.
func (o *opening) fromPin(ctx context.Context) (*Ledger, error) {
	t := o.trust
	if !t.Quick || len(t.Pins) == 0 || t.Checkpoint != nil || t.AtPoint || t.Write {
		return nil, nil
	}
	pin := t.Pins[0]
	if t.Keyring != (blob.ID{}) && pin.Keyring != t.Keyring {
		return nil, nil
	}
	for _, p := range t.Pins {
		if p.Keyring != pin.Keyring || p.First != pin.First || p.At != pin.At { // open must check how they are related
			return nil, nil
		}
	}
	head, err := o.slot(ctx, pin.At.Number)
	if err != nil || head.at != pin.At || head.KeyringID != pin.Keyring {
		return nil, ctx.Err()
	}
	o.there = head
	if newer, err := o.filled(ctx, pin.At.Number+1); err != nil || newer {
		return nil, ctx.Err()
	}
	o.first = &stored{at: Point{1, pin.First}}
	o.pinned, o.pin, o.points = true, pin.At, []Point{pin.At}
	for _, p := range t.Pins {
		if p.Checked.Number > o.checked.Number {
			o.checked = p.Checked
		}
	}
	o.report.Before = pin.At
	return o.ledger(ctx, head, pin.At)
}

// openAtPoint opens the highest point. Nothing can be added there.
func (o *opening) openAtPoint(ctx context.Context) (*Ledger, error) {
	at, err := o.checkpoint(ctx, o.points[0])
	if err != nil {
		return nil, missing(err)
	}
	l, err := o.ledger(ctx, at, at.at)
	if err != nil {
		return nil, err
	}
	l.older = true
	return l, nil
}

// findFirst reads checkpoint 1, which tells which keyring is in the store.
func (o *opening) findFirst(ctx context.Context) error {
	first, err := o.slot(ctx, 1)
	if errors.Is(err, blob.ErrNotFound) {
		newest, err := o.newest(ctx)
		if err != nil {
			return err
		}
		if newest > 0 {
			return fmt.Errorf("checkpoint 1 is missing, number %d is there: %w", newest, ErrIncomplete)
		}
		return fmt.Errorf("no keyring in the store: %w", blob.ErrNotFound)
	}
	if err != nil {
		return err
	}
	o.first = first
	if want := o.trust.Keyring; want != (blob.ID{}) && first.KeyringID != want {
		return fmt.Errorf("the store has keyring %s, not %s: %w", first.KeyringID, want, ErrOtherKeyring)
	}
	return nil
}

// newest returns the highest number of a slot that is filled, or 0.
func (r *objects) newest(ctx context.Context) (int, error) {
	newest := 0
	for path, err := range r.store.List(ctx, blob.SlotsPrefix) {
		if err != nil {
			return 0, fmt.Errorf("look for checkpoints: %w", err)
		}
		if n, ok := blob.ParseSlotPath(path); ok {
			newest = max(newest, n)
		}
	}
	return newest, nil
}

// findPoints collects the points of the keyring that are trusted.
func (o *opening) findPoints(ctx context.Context) error {
	if err := o.pinPoints(ctx); err != nil {
		return err
	}
	if p := o.trust.Checkpoint; p != nil {
		o.points = append(o.points, *p)
	}
	if o.trust.Voucher != nil && len(o.points) == 0 {
		p, err := o.vouched(ctx, o.trust.Voucher)
		if err != nil {
			return err
		}
		o.points, o.report.Unpinned = []Point{p}, true
	}
	slices.SortStableFunc(o.points, func(a, b Point) int { return b.Number - a.Number })
	o.points = slices.Compact(o.points)
	if !o.pinned && len(o.points) > 0 {
		o.checked = o.points[0] // who tells a point vouches for all before it
		if at := o.first.at; at != o.checked {
			o.points = append(o.points, at) // so the head has to descend from what becomes a pin's First
		}
	}
	return nil
}

// pinPoints collects the points that are pinned.
func (o *opening) pinPoints(ctx context.Context) error {
	for _, p := range o.ownPins(ctx) {
		if p.First != o.first.at.Digest {
			return o.rollback(ctx, Point{1, p.First}, o.first)
		}
		if p.Checked.Number > o.checked.Number {
			o.checked = p.Checked
		}
		if p.At.Number > o.pin.Number {
			o.pin = p.At
		}
		o.points, o.pinned = append(o.points, p.At), true
	}
	return nil
}

// ownPins returns the pins of the keyring in the store. Where there seem to be none, those
// are whose checkpoint the store has, whatever it shows as checkpoint 1: exchanging that one
// must not put pins aside.
func (o *opening) ownPins(ctx context.Context) []Pin {
	own := func(is func(Pin) bool) []Pin {
		return slices.DeleteFunc(slices.Clone(o.trust.Pins), func(p Pin) bool { return !is(p) })
	}
	if pins := own(func(p Pin) bool { return p.Keyring == o.first.KeyringID }); len(pins) > 0 {
		return pins
	}
	return own(func(p Pin) bool {
		_, err := o.checkpoint(ctx, p.At)
		return err == nil
	})
}

// vouched returns the newest checkpoint that a key has signed, from the newest one in the
// store backwards.
func (o *opening) vouched(ctx context.Context, key crypto.PublicKey) (Point, error) {
	id, err := blob.PublicKeyID(key)
	if err != nil {
		return Point{}, err
	}
	number, err := o.head(ctx, 1, o.trust.Write)
	if err != nil {
		return Point{}, err
	}
	newest, err := o.slot(ctx, number)
	if err != nil {
		return Point{}, err
	}
	for s := newest; ; {
		// The key is what vouches, under whatever name its certificate gave it then.
		_, err = s.unverified.Verify([]blob.Party{{Key: key, ID: s.unverified.SignerIdentifier()}})
		if err == nil {
			return s.at, nil
		}
		if !errors.Is(err, blob.ErrSignature) && !errors.Is(err, blob.ErrUnknown) { // somebody else's
			return Point{}, inCheckpoint(s.Number, err)
		}
		if s.Number == 1 {
			break
		}
		if s, err = o.checkpoint(ctx, s.previous()); err != nil { // the slot may have one of another copy
			return Point{}, missing(err)
		}
	}
	return Point{}, fmt.Errorf("none of %d checkpoints is signed by key %x: %w", number, id, ErrUnpinned)
}

// findHead returns the newest checkpoint, once that of the highest point is there.
func (o *opening) findHead(ctx context.Context) (*stored, error) {
	at := o.points[0]
	there, err := o.there, error(nil)
	if there == nil || there.at != at {
		there, err = o.slot(ctx, at.Number)
	}
	if errors.Is(err, blob.ErrNotFound) {
		return nil, o.gone(ctx, at)
	}
	if err != nil {
		return nil, err
	}
	if there.at != at {
		return o.beside(ctx, at, there)
	}
	number, err := o.head(ctx, at.Number, o.trust.Write)
	if err != nil || number == at.Number {
		return there, err
	}
	return o.slot(ctx, number)
}

// ledger checks what leads from a trusted point to a head that descends from it, and returns
// the keyring as of the head.
func (o *opening) ledger(ctx context.Context, head *stored, from Point) (*Ledger, error) {
	lists, err := o.lists(ctx, head.Checkpoint)
	if err != nil {
		return nil, err
	}
	members, err := newMembers(lists)
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		store: o.store, source: o.source, first: o.first.at.Digest,
		head: head, members: members, checked: o.checked, session: &session{},
	}
	if o.report.Unpinned {
		if err := o.obeys(ctx, from, members); err != nil {
			return nil, err
		}
	}
	if head.at != from {
		if o.report.Recoveries, err = o.descent(ctx, head, from, members); err != nil {
			return nil, err
		}
	}
	l.unaccepted = o.report.Recoveries
	return l, nil
}

// obeys checks that a checkpoint that only a voucher's signature vouches for may introduce its list of
// members, if it does.
func (o *opening) obeys(ctx context.Context, at Point, members *Members) error {
	by, err := o.checkpoint(ctx, at)
	if err != nil || by.List.Introduced != by.Number || by.Number == 1 {
		return err
	}
	before, err := o.checkpoint(ctx, by.previous())
	if err != nil {
		return missing(err)
	}
	if _, err := checkIntroduction(by, before, members); err != nil {
		return inCheckpoint(by.Number, err)
	}
	return nil
}

// olderState opens what is there in the place of a head that was accepted, where that is
// allowed: the accepted checkpoint itself, if it is in the store though not in its slot, or
// else the head that is there, if it descends from the checkpoint 1 of the pin.
func (o *opening) olderState(ctx context.Context, found error) (*Ledger, error) {
	missed := errors.Is(found, ErrRollback) || errors.Is(found, ErrFork) || errors.Is(found, ErrIncomplete)
	if !o.trust.OlderState || !missed {
		return nil, found
	}
	from := o.points[0]
	head, err := o.checkpoint(ctx, from)
	if err != nil && o.pinned {
		from = Point{1, o.first.at.Digest}
		head, err = o.fromFirst(ctx, from)
	}
	if err != nil {
		return nil, errors.Join(found, err)
	}
	l, err := o.ledger(ctx, head, from)
	if err != nil {
		return nil, errors.Join(found, err)
	}
	o.report.Older, l.older = found, true
	return l, nil
}

// fromFirst returns the head that is there, which has to descend from checkpoint 1.
func (o *opening) fromFirst(ctx context.Context, first Point) (*stored, error) {
	number, err := o.head(ctx, first.Number, false)
	if err != nil {
		return nil, err
	}
	head, err := o.slot(ctx, number)
	if err != nil {
		return nil, err
	}
	return head, o.descends(ctx, head, first)
}
