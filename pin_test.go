package hsmkeys_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

func TestPinsInADirectory(t *testing.T) {
	ctx := context.Background()
	office, _, spare, k, store, _ := threesome(t)
	state := filepath.Join(t.TempDir(), "a", "b")
	pins := hsmkeys.NewPins(nil, state)
	k, err := hsmkeys.Join(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: pins, Voucher: office.cert})
	if err != nil {
		t.Fatal(err)
	}
	// It moves with each head.
	pinned := func(number int) {
		t.Helper()
		place, err := k.PinPlace(ctx)
		if err != nil || place.Token != 0 || place.File != number || !strings.HasPrefix(place.Path, state) {
			t.Errorf("%+v, %v; want checkpoint %d", place, err, number)
		}
	}
	pinned(3)
	create(t, k, "other")
	pinned(4)
	remove(t, k, blob.BackupAuthority, "vault")
	pinned(5)
	add(t, k, spare.member(blob.BackupAuthority, "spare"))
	pinned(6)
	if files, err := filepath.Glob(filepath.Join(state, "*", "[^.]*")); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	if k, err = hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: pins}); err != nil {
		t.Fatal(err)
	}
	if s := k.State(); s.At.Number != 6 || s.Before != s.At || s.List != 4 || s.BeforeList != 4 || s.Unpinned {
		t.Errorf("%+v", s)
	}
	slot := must(store.Get(ctx, blob.SlotPath(6)))
	if err := store.Delete(ctx, blob.SlotPath(6)); err != nil {
		t.Fatal(err)
	}
	if _, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: pins}); !errors.Is(err, ledger.ErrRollback) {
		t.Errorf("%v", err)
	}
	if err := store.Put(ctx, blob.SlotPath(6), slot); err != nil {
		t.Fatal(err)
	}
	// What others can write to is not believed: a file, the directory of one, one above it.
	files, err := filepath.Glob(filepath.Join(state, "*", "[^.]*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range []string{files[0], filepath.Dir(files[0]), state} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, info.Mode().Perm()|0o002); err != nil {
			t.Fatal(err)
		}
		if _, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: pins}); !errors.Is(err, ownfile.ErrForeign) {
			t.Errorf("others can write to %s: %v", path, err)
		}
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	// Nor is one made where others could remove it.
	if err := os.Mkdir(filepath.Join(state, "open"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(state, "open"), 0o777); err != nil { // after the umask
		t.Fatal(err)
	}
	if _, err := hsmkeys.Join(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: hsmkeys.NewPins(nil, filepath.Join(state, "open")), Voucher: office.cert}); !errors.Is(err, ownfile.ErrForeign) {
		t.Errorf("a pin in a directory that anybody can write to: %v", err)
	}
	// A pipe in the place of a pin keeps nobody waiting.
	if err := errors.Join(os.Remove(files[0]), syscall.Mkfifo(files[0], 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: pins}); !errors.Is(err, ownfile.ErrKind) {
		t.Errorf("a named pipe in the place of a pin: %v", err)
	}
}

// TestThePinOnTheTokenMovesWhenItIsDue counts what is kept on a token beside a file: with
// members, status and rotations it moves, and when it is far behind.
func TestThePinOnTheTokenMovesWhenItIsDue(t *testing.T) {
	ctx := context.Background()
	office := newSite(t, "office")
	store, _ := newStore(t)
	pins := hsmkeys.NewPins(office.tok, filepath.Join(t.TempDir(), "pins"))
	k, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: pins}, "office")
	if err != nil {
		t.Fatal(err)
	}
	pinned := func(what string, onToken, inFile int) {
		t.Helper()
		if place, err := k.PinPlace(ctx); err != nil || place.Token != onToken || place.File != inFile {
			t.Errorf("%s: %+v, %v; want %d and %d", what, place, err, onToken, inFile)
		}
	}
	pinned("found", 1, 1)
	create(t, k, "payroll")
	create(t, k, "billing")
	pinned("create", 1, 3)
	if _, err := k.Rotate(ctx, "payroll", ""); err != nil {
		t.Fatal(err)
	}
	pinned("rotate", 4, 4)
	add(t, k, newSite(t, "vault").member(blob.BackupAuthority, "vault"))
	pinned("add a member", 5, 5)
	rewrap(t, k)
	pinned("bulk work", 6, 6)
	records, err := office.tok.Records(ctx)
	if err != nil || len(records) != 2 { // and the one before it
		t.Fatalf("%d records, %v", len(records), err)
	}
	for _, r := range records {
		if p, err := hsmkeys.ParsePin(string(r.Value)); err != nil || p.Keyring != k.ID() || p.At.Number < 5 {
			t.Errorf("%+v, %v", p, err)
		}
	}
	advance(t, store, office.signer(), 255)
	reopen := func() {
		t.Helper()
		if k, err = hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: pins}); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	pinned("255 behind", 6, 261)
	advance(t, store, office.signer(), 1)
	reopen()
	pinned("256 behind", 262, 262)
}

// TestAPinThatCannotBeReadIsAnError damages what is on the token: no pin is not the same as
// one that cannot be read.
func TestAPinThatCannotBeReadIsAnError(t *testing.T) {
	ctx := context.Background()
	office := newSite(t, "office")
	_, store, _ := office.found(t)
	if err := office.tok.AddRecord(ctx, "hsmkeys keyring", []byte("hsmkeys-pin-2 damaged")); err != nil {
		t.Fatal(err)
	}
	if _, err := office.open(store); !errors.Is(err, blob.ErrMalformed) {
		t.Errorf("a damaged pin: %v", err)
	}
	for range 1024 {
		if err := office.tok.AddRecord(ctx, "hsmkeys keyring", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := office.open(store); err == nil || errors.Is(err, blob.ErrMalformed) || errors.Is(err, hsmkeys.ErrNotJoined) {
		t.Errorf("more records than are read: %v", err)
	}
}

// TestWithoutAPinNothingIsEncrypted deletes the pin of an owner: its own signature still
// tells which keyring it is, and not that it is the newest state of it.
func TestWithoutAPinNothingIsEncrypted(t *testing.T) {
	ctx := context.Background()
	office := newSite(t, "office")
	k, store, _ := office.found(t)
	create(t, k, "payroll")
	file := encrypt(t, k, "payroll", []byte("a letter"))
	for _, r := range must(office.tok.Records(ctx)) {
		if err := office.tok.DeleteRecord(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	k, err := office.open(store)
	if err != nil {
		t.Fatal(err)
	}
	if s := k.State(); !s.Unpinned || s.Before.Number != 0 {
		t.Errorf("%+v", s)
	}
	decryptsOnly(t, k, "payroll", "a letter", file)
	if records := must(office.tok.Records(ctx)); len(records) != 0 {
		t.Errorf("%d pins were made", len(records))
	}
	// Once it has joined anew, or was told a checkpoint, it does.
	at := newest(t, store).At()
	if k, err = hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Checkpoint: &at}); err != nil {
		t.Fatal(err)
	}
	encrypt(t, k, "payroll", nil)
	office.join(t, store, office)
	if k, err = office.open(store); err != nil {
		t.Fatal(err)
	}
	encrypt(t, k, "payroll", nil)
}

// TestAPinWithoutTheTokenIsNotTheTokens looks at a keyring with the certificate of an owner whose
// token has lost its pins.
func TestAPinWithoutTheTokenIsNotTheTokens(t *testing.T) {
	ctx := context.Background()
	office := newSite(t, "office")
	k, store, dir := office.found(t)
	create(t, k, "payroll")
	old, oldDir := copyOf(t, dir)
	rotate(t, k, "payroll", "")
	for _, r := range must(office.tok.Records(ctx)) {
		if err := office.tok.DeleteRecord(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	pins := t.TempDir()
	look := func(store blob.Store) error {
		_, err := hsmkeys.OpenWithCertificate(ctx, hsmkeys.Options{Store: store, Voucher: office.cert, Pins: hsmkeys.NewPins(nil, pins)})
		return err
	}
	if err := look(old); err != nil {
		t.Fatal(err)
	}
	k = must(hsmkeys.Open(ctx, hsmkeys.Options{Store: old, Pair: office.pair, Pins: hsmkeys.NewPins(office.tok, pins)}))
	encryptsNothing(t, k, "payroll", hsmkeys.ErrStale)
	// But it is a pin, beside that of the token in the directory.
	if err := look(store); err != nil {
		t.Fatal(err)
	}
	if err := look(old); !errors.Is(err, ledger.ErrRollback) {
		t.Errorf("an older state: %v", err)
	}
	restore(t, oldDir, dir)
	if err := look(old); err != nil {
		t.Error(err)
	}
}

// TestTwoProcessesPinTwoForks has the storage show each of two processes of one token another
// copy: what one has accepted, the other does not take back, and says so.
func TestTwoProcessesPinTwoForks(t *testing.T) {
	ctx := context.Background()
	office := newSite(t, "office")
	pins := t.TempDir()
	k, store, dir := office.found(t)
	create(t, k, "payroll")
	copied, _ := copyOf(t, dir)
	process := func(store blob.Store) *hsmkeys.Keyring {
		return must(hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: hsmkeys.NewPins(office.tok, pins)}))
	}
	first, ahead, behind := process(store), process(copied), process(copied)
	rotate(t, first, "payroll", "")
	if _, err := behind.Create(ctx, "other", keyspec.AES256, 0); !errors.Is(err, ledger.ErrFork) {
		t.Errorf("a fork: %v", err)
	}
	rotate(t, first, "payroll", "")
	if _, err := ahead.Show(ctx, hsmkeys.Ref{Name: "other"}); !errors.Is(err, ledger.ErrRollback) {
		t.Errorf("an older state: %v", err)
	}
	if _, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: hsmkeys.NewPins(office.tok, pins)}); err != nil {
		t.Error(err)
	}
}

// TestOnlyANewKeyringIsTakenOver has init find a keyring that the pair has signed and that goes
// on after its first checkpoint, without a pin: it may be an old state of it.
func TestOnlyANewKeyringIsTakenOver(t *testing.T) {
	ctx := context.Background()
	office := newSite(t, "office")
	k, store, _ := office.found(t)
	create(t, k, "payroll")
	for _, r := range must(office.tok.Records(ctx)) {
		if err := office.tok.DeleteRecord(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := hsmkeys.ResumeInit(ctx, hsmkeys.Options{Store: store, Pair: office.pair}); !errors.Is(err, blob.ErrExists) {
		t.Errorf("%v", err)
	}
	if records := must(office.tok.Records(ctx)); len(records) != 0 {
		t.Errorf("%d pins were made", len(records))
	}
}

func FuzzParsePin(f *testing.F) {
	f.Add((hsmkeys.Pin{Pair: strings.Repeat("ab", 20), Pin: ledger.Pin{At: ledger.Point{Number: 7}, Checked: ledger.Point{Number: 7}}}).String())
	f.Add("hsmkeys-pin-2 x")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := hsmkeys.ParsePin(s)
		if err == nil && p.String() != s {
			t.Errorf("%q reads as %q", s, p)
		}
		if err != nil && !errors.Is(err, blob.ErrMalformed) {
			t.Error(err)
		}
	})
}

// A program that runs for long notices that another process has accepted a newer state, and that the store
// has lost it again.
func TestPinsOfAnotherProcess(t *testing.T) {
	defer hsmkeys.PinsFor(10 * time.Second)
	hsmkeys.PinsFor(0)
	ctx := context.Background()
	office, _, _, _, store, _ := threesome(t)
	o := hsmkeys.Options{Store: store, Pair: office.pair, Pins: hsmkeys.NewPins(nil, t.TempDir()), Voucher: office.cert}
	must(hsmkeys.Join(ctx, o))
	o.Voucher = nil
	stays, changes := must(hsmkeys.Open(ctx, o)), must(hsmkeys.Open(ctx, o))
	create(t, stays, "payroll-2")
	create(t, changes, "payroll-3")
	number := changes.State().At.Number
	slot := must(store.Get(ctx, blob.SlotPath(number)))
	if err := store.Delete(ctx, blob.SlotPath(number)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := stays.Show(ctx, hsmkeys.Ref{Name: "payroll-2"}); !errors.Is(err, ledger.ErrRollback) {
			t.Errorf("%v", err)
		}
	}
	if err := store.Put(ctx, blob.SlotPath(number), slot); err != nil {
		t.Fatal(err)
	}
	if _, err := stays.Show(ctx, hsmkeys.Ref{Name: "payroll-2"}); err != nil || stays.State().At.Number != number {
		t.Errorf("%v, checkpoint %d", err, stays.State().At.Number)
	}
}
