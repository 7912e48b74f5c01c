package hsmkeys_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

// recordedChanges are the changes: each has an event before anything is changed, and one after.
var recordedChanges = map[string]struct {
	do   func(*recordedSite, hsmkeys.Options) error
	want string // without the outcome
}{
	"create": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error {
		return second(k.Create(ctx, "new", keyspec.AES256, 0))
	}), "create new@1"},
	"create many": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error {
		return failed(k.CreateMany(ctx, []string{"new"}, aesKey))
	}), "create new@1"},
	"from password": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error {
		return second(k.CreateFromPassword(ctx, "new", aesKey, blob.PBKDF2, []byte("correct horse")))
	}), "create new@1"},
	"rotate":      {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error { return second(k.Rotate(ctx, "a", "why")) }), "rotate a@2"},
	"rotate many": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error { return failed(k.RotateMany(ctx, keyRefs("a"), "")) }), "rotate a@2"},
	"rename":      {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error { return second(k.Rename(ctx, "a", "aa", "")) }), "rename a to aa"},
	"describe": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error {
		return failed(k.Describe(ctx, []string{"a"}, hsmkeys.NewDetails{Description: new("salaries")}, ""))
	}), "describe a"},
	"activate":   {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error { return failed(k.Activate(ctx, keyRefs("b"), "")) }), "activate b"},
	"deactivate": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error { return failed(k.Deactivate(ctx, keyRefs("a"), "")) }), "deactivate a"},
	"compromise": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error { return failed(k.Compromise(ctx, keyRefs("a"), "x")) }), "compromise a"},
	"rewrap": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error {
		return failed(k.Rewrap(ctx, []hsmkeys.Ref{{Name: "a", Version: 1}}, ""))
	}), "rewrap a@1"},
	"compact":    {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error { return second(k.Compact(ctx, 1)) }), "compact"},
	"checkpoint": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error { return k.Renew(ctx) }), "checkpoint"},
	"add member": {asOwner(func(s *recordedSite, k *hsmkeys.Keyring) error { return k.AddMember(ctx, s.spare) }), "add-member to spare"},
	"remove member": {asOwner(func(s *recordedSite, k *hsmkeys.Keyring) error {
		return k.RemoveMember(ctx, blob.BackupAuthority, "vault", func(error) {})
	}), "remove-member to vault"},
	"merge": {asOwner(func(s *recordedSite, k *hsmkeys.Keyring) error {
		m, err := k.BeginMerge(ctx, s.copy, nil)
		if err != nil {
			return err
		}
		for merged := range m.Keys(ctx) {
			err = errors.Join(err, merged.Err)
		}
		return err
	}), "merge a"},
	"init": {func(s *recordedSite, o hsmkeys.Options) error {
		o.Store, o.Pair = s.empty(), s.owner
		return second(hsmkeys.Init(ctx, o, "another"))
	}, "init to another"},
	"join": {func(s *recordedSite, o hsmkeys.Options) error {
		o.Pair, o.Voucher = s.vault, s.ownerMember.Certificate
		return second(hsmkeys.Join(ctx, o))
	}, "join"},
	"replace pin": {func(s *recordedSite, o hsmkeys.Options) error {
		k, err := hsmkeys.OpenVouched(ctx, hsmkeys.Options{Store: s.store, Voucher: s.ownerMember.Certificate})
		if err != nil {
			return err
		}
		at := k.State().At
		o.Pair, o.Checkpoint = s.owner, &at
		return second(hsmkeys.ReplacePin(ctx, o))
	}, "replace-pin"},
	"begin a recovery": {func(s *recordedSite, o hsmkeys.Options) error {
		k, err := s.authority(o)
		if err != nil {
			return err
		}
		return second(k.BeginRecovery(ctx, s.ownerMember.Certificate, s.spare, "fire"))
	}, "begin-recovery to spare"},
}

func TestEachChangeIsRecordedTwice(t *testing.T) {
	for name, change := range recordedChanges {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun, done := new(recordedSite), new(recordedSite)
			for _, site := range []*recordedSite{begun, done} {
				*site = *newRecordedSite(t)
			}
			op, rest, _ := strings.Cut(change.want, " ")
			want := strings.TrimSpace(op+" begun "+rest) + "; " + strings.TrimSpace(op+" done "+rest)
			s := newRecordedSite(t)
			var log eventLog
			if err := change.do(s, hsmkeys.Options{Store: s.store, Record: log.record}); err != nil {
				t.Fatal(err)
			}
			if got := log.text(); got != want {
				t.Fatalf("got  %s\nwant %s", got, want)
			}
			before, after := log.events[0], log.events[1]
			if len(before.Change) != 32 || after.Change != before.Change || before.Keyring == (blob.ID{}) && name != "init" && name != "join" && name != "replace pin" {
				t.Errorf("%+v, %+v", before, after)
			}
			if after.Checkpoint.Number == 0 || after.Keyring == (blob.ID{}) || after.Err != nil {
				t.Errorf("after: %+v", after)
			}

			// The intention cannot be recorded: nothing is changed.
			is := func(s *recordedSite) [2]map[string]string {
				return [2]map[string]string{objects(t, s.store), objects(t, s.copy)}
			}
			if name == "init" {
				begun.copy = new(mem.Store)
			}
			was := is(begun)
			refusing := eventLog{refuse: 1}
			err := change.do(begun, hsmkeys.Options{Store: begun.store, Record: refusing.record})
			var unrecorded *hsmkeys.Unrecorded
			if !errors.As(err, &unrecorded) || unrecorded.Done || !errors.Is(err, errFull) {
				t.Errorf("it is done and was not announced: %v", err)
			}
			if now := is(begun); !maps.Equal(now[0], was[0]) || !maps.Equal(now[1], was[1]) {
				t.Errorf("it has changed the store: %v", slices.Sorted(maps.Keys(now[0])))
			}
			if len(refusing.events) != 1 {
				t.Errorf("recorded: %s", refusing.text())
			}

			// The outcome cannot be recorded: it is done, and the error says so.
			refusing = eventLog{refuse: 2}
			err = change.do(done, hsmkeys.Options{Store: done.store, Record: refusing.record})
			if !errors.As(err, &unrecorded) || !unrecorded.Done || !strings.Contains(err.Error(), "it is done") {
				t.Errorf("it is done, and the error is %v", err)
			}
		})
	}
}

// A destroyed key has four events: its blobs are deleted when it is recorded that it is destroyed.
func TestDestroyingIsRecorded(t *testing.T) {
	s := newRecordedSite(t)
	var log eventLog
	k := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: s.store, Pair: s.owner, Record: log.record}))
	all(t, k.Destroy(ctx, keyRefs("a"), "retention ends"))
	if got := log.text(); got != "destroy begun a; destroy done a; delete-blobs begun a; delete-blobs done a" {
		t.Error(got)
	}
	for _, e := range log.events {
		if e.Reason != "retention ends" {
			t.Errorf("the reason is %q", e.Reason)
		}
	}
}

// A recovery: that it begins, and each key.
func TestARecoveryIsRecorded(t *testing.T) {
	s := newRecordedSite(t)
	k := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: s.store, Pair: s.owner}))
	all(t, k.Rewrap(ctx, must(k.Versions(ctx)), ""))
	var log eventLog
	authority, err := s.authority(hsmkeys.Options{Store: s.store, Record: log.record})
	if err != nil {
		t.Fatal(err)
	}
	r := must(authority.BeginRecovery(ctx, s.ownerMember.Certificate, s.spare, "fire"))
	for range 2 { // the second time nothing is to be done
		if err := failed(r.Keys(ctx, []hsmkeys.Ref{{Name: "a", Version: 1}})); err != nil {
			t.Fatal(err)
		}
	}
	if got := log.text(); got != "begin-recovery begun to spare; begin-recovery done to spare; recover begun a@1; recover done a@1" {
		t.Error(got)
	}
	before := objects(t, s.store)
	refusing := eventLog{refuse: 1}
	again := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: s.store, Pair: s.vault, Record: refusing.record}))
	r = must(again.BeginRecovery(ctx, s.ownerMember.Certificate, s.spare, "fire"))
	if err := failed(r.Keys(ctx, []hsmkeys.Ref{{Name: "b", Version: 1}})); !errors.As(err, new(*hsmkeys.Unrecorded)) {
		t.Error(err)
	}
	if !maps.Equal(objects(t, s.store), before) {
		t.Error("a key was recovered that was not announced")
	}
}

// What a change has come to when something fails: it is made, and only the pin is missing; it may have
// been made; it was not made.
func TestTheOutcomeIsTheTruth(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		options func(*recordedSite, *hsmkeys.Options)
		want    string
	}{
		"the pin fails": {func(s *recordedSite, o *hsmkeys.Options) { o.Pair = &pairWithoutRecords{s.owner, broken} }, "rotate begun a@2; rotate done a@2"},
		"the storage does not answer": {func(s *recordedSite, o *hsmkeys.Options) {
			next := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: s.store, Pair: s.owner})).State().At.Number + 1
			var put atomic.Bool
			o.Store = storetest.Fault(s.store, func(op, path string) error {
				if path == blob.SlotPath(next) && (op == "put" || put.Load()) {
					put.Store(true)
					return broken
				}
				return nil
			})
		}, "rotate begun a@2; rotate unknown a@2"},
		"a blob is not stored": {func(s *recordedSite, o *hsmkeys.Options) {
			o.Store = storetest.Fault(s.store, func(op, path string) error {
				if op == "put" && strings.HasPrefix(path, blob.KeysPrefix) {
					return broken
				}
				return nil
			})
		}, "rotate begun a@2; rotate failed a@2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newRecordedSite(t)
			var log eventLog
			o := hsmkeys.Options{Store: s.store, Pair: s.owner, Record: log.record}
			tt.options(s, &o)
			k := must(hsmkeys.Open(ctx, o))
			if _, err := k.Rotate(ctx, "a", ""); !errors.Is(err, broken) {
				t.Fatal(err)
			}
			if got := log.text(); got != tt.want {
				t.Fatalf("got  %s\nwant %s", got, tt.want)
			}
			if e := log.events[1]; !errors.Is(e.Err, broken) || (e.Checkpoint.Number > 0) != (e.Outcome == hsmkeys.OutcomeDone) {
				t.Errorf("%+v", e)
			}
		})
	}
}

// A pairWithoutRecords keeps what it has, and takes nothing new.
type pairWithoutRecords struct {
	hsmkeys.Pair
	err error
}

func (p *pairWithoutRecords) Records() keyspec.Records { return &fullRecords{p.Pair.Records(), p.err} }

type fullRecords struct {
	has keyspec.Records
	err error
}

func (r *fullRecords) Records(ctx context.Context) ([]keyspec.Record, error) {
	return r.has.Records(ctx)
}

func (r *fullRecords) DeleteRecord(context.Context, keyspec.Record) error { return r.err }

func (r *fullRecords) AddRecord(context.Context, string, []byte) error { return r.err }
