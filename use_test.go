package hsmkeys_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// recordedUses are the uses of keys: each has one event, after which nothing is released if it cannot be
// recorded.
var recordedUses = map[string]struct {
	do   func(*recordedSite, hsmkeys.Options) error
	want string
}{
	"encrypt": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error {
		w, err := k.Encrypt(ctx, io.Discard, keyRefs("a"))
		if err == nil {
			err = w.Close()
		}
		return err
	}), "encrypt done a@1"},
	"decrypt": {asOwner(func(s *recordedSite, k *hsmkeys.Keyring) error {
		r, err := k.Decrypt(ctx, bytes.NewReader(s.file))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		return err
	}), "decrypt done a@1"},
	"decrypt at random": {asOwner(func(s *recordedSite, k *hsmkeys.Keyring) error {
		return k.DecryptFile(ctx, io.Discard, bytes.NewReader(s.file), int64(len(s.file)))
	}), "decrypt done a@1"},
	"wrap": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error {
		key, err := k.Open(ctx, hsmkeys.Ref{Name: "a"})
		if err != nil {
			return err
		}
		defer key.Close()
		_, err = key.WrapData(hsmkeys.WithUse(ctx, hsmkeys.Use{Request: "r"}), make([]byte, 32))
		return err
	}), "encrypt done a@1"},
	"reveal": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error {
		_, err := k.Reveal(ctx, hsmkeys.Ref{Name: "b"})
		return err
	}), "reveal done b@1"},
	"check": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error { return k.CheckOpens(ctx, hsmkeys.Ref{Name: "a"}) }), "check done a@1"},
	"prove": {asOwner(func(_ *recordedSite, k *hsmkeys.Keyring) error {
		return failed(k.Prove(ctx, []hsmkeys.Ref{{Name: "a", Version: 1}}, time.Now().Add(time.Hour))) // also what was proven before
	}), "prove done a@1"},
}

func TestEachUseIsRecorded(t *testing.T) {
	for name, use := range recordedUses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newRecordedSite(t)
			var log eventLog
			if err := use.do(s, hsmkeys.Options{Store: s.store, Record: log.record}); err != nil {
				t.Fatal(err)
			}
			if got := log.text(); got != use.want {
				t.Errorf("got  %s\nwant %s", got, use.want)
			}
			if e := log.events[0]; e.Keyring == (blob.ID{}) || e.KeyID == (blob.ID{}) || len(e.Pair) != 40 || e.Change != "" {
				t.Errorf("not all is known: %+v", e)
			}
			before := objects(t, s.store)
			refusing := eventLog{refuse: 1}
			err := use.do(s, hsmkeys.Options{Store: s.store, Record: refusing.record})
			var unrecorded *hsmkeys.Unrecorded
			if !errors.As(err, &unrecorded) || unrecorded.Done || !errors.Is(err, errFull) {
				t.Errorf("it is done and not recorded: %v", err)
			}
			if !maps.Equal(objects(t, s.store), before) {
				t.Error("it has left something in the store")
			}
			if name != "prove" { // whose proof counts from now on
				quiet(t, use.do(s, hsmkeys.Options{Store: s.store}))
			}
		})
	}
}

func quiet(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// What is refused or fails is recorded as well, with the error.
func TestFailuresAreRecorded(t *testing.T) {
	s := newRecordedSite(t)
	for name, tt := range map[string]struct {
		do   func(*hsmkeys.Keyring) error
		want string
	}{
		"open a destroyed key": {func(k *hsmkeys.Keyring) error { return second(k.Open(ctx, hsmkeys.Ref{Name: "gone", Version: 1})) }, "open failed gone@1"},
		"open no key":          {func(k *hsmkeys.Keyring) error { return second(k.Open(ctx, hsmkeys.Ref{Name: "none"})) }, "open failed none"},
		"encrypt under a retired": {func(k *hsmkeys.Keyring) error {
			return second(k.Encrypt(ctx, io.Discard, []hsmkeys.Ref{{Name: "b", Version: 1}}))
		}, "encrypt failed b@1"},
		"reveal a destroyed key": {func(k *hsmkeys.Keyring) error { return second(k.Reveal(ctx, hsmkeys.Ref{Name: "gone"})) }, "reveal failed gone"},
		"decrypt no file":        {func(k *hsmkeys.Keyring) error { return second(k.Decrypt(ctx, strings.NewReader("no file"))) }, "decrypt failed"},
		"decrypt a damaged file": {func(k *hsmkeys.Keyring) error {
			return k.DecryptFile(ctx, io.Discard, bytes.NewReader(s.damaged), int64(len(s.damaged)))
		}, "decrypt done a@1; decrypt failed a@1"},
		"decrypt a damaged stream": {func(k *hsmkeys.Keyring) error {
			r := must(k.Decrypt(ctx, bytes.NewReader(s.damaged)))
			return second(io.Copy(io.Discard, r))
		}, "decrypt done a@1; decrypt failed a@1"},
		"create what there is":     {func(k *hsmkeys.Keyring) error { return second(k.Create(ctx, "a", keyspec.AES256, 0)) }, "create failed a"},
		"rotate no key":            {func(k *hsmkeys.Keyring) error { return failed(k.RotateMany(ctx, keyRefs("none"), "")) }, "rotate failed none"},
		"activate a destroyed key": {func(k *hsmkeys.Keyring) error { return failed(k.Activate(ctx, keyRefs("gone"), "")) }, "activate failed gone"},
		"remove no member":         {func(k *hsmkeys.Keyring) error { return k.RemoveMember(ctx, blob.Owner, "nobody", nil) }, "remove-member failed to nobody"},
		"accept what is none":      {func(k *hsmkeys.Keyring) error { return k.Accept(ctx, k.State().At) }, "accept failed"},
		"deactivate twice":         {func(k *hsmkeys.Keyring) error { _ = failed(k.Deactivate(ctx, keyRefs("b"), "")); return errFull }, ""},
		"describe with what it has": {func(k *hsmkeys.Keyring) error {
			_ = failed(k.Describe(ctx, []string{"a"}, hsmkeys.NewDetails{}, ""))
			return errFull
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log eventLog
			k := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: s.store, Pair: s.owner, Record: log.record}))
			if err := tt.do(k); err == nil {
				t.Error("it has not failed")
			}
			if got := log.text(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			for _, e := range log.events {
				if (e.Outcome == hsmkeys.OutcomeFailed) != (e.Err != nil) {
					t.Errorf("%+v", e)
				}
			}
		})
	}
	var log eventLog
	if _, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: s.store, Pair: softPair(t), Record: log.record}); err == nil || log.text() != "open failed" {
		t.Errorf("a stranger opens the keyring: %v, %s", err, log.text())
	}
}

// What a pair is asked to do has the use in its context.
func TestAPairSeesTheUse(t *testing.T) {
	s := newRecordedSite(t)
	watch := &watchedPair{Pair: s.owner}
	k := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: s.store, Pair: watch}))
	about := hsmkeys.WithUse(ctx, hsmkeys.Use{Command: "a test", File: "/file"})
	r := must(k.Decrypt(about, bytes.NewReader(s.file)))
	must(io.Copy(io.Discard, r))
	must(k.Reveal(about, hsmkeys.Ref{Name: "b"}))
	must(k.Rotate(about, "a", ""))
	want := []string{"a test /file decrypt a@1", "a test /file reveal b@1", "a test /file rotate a"}
	if !slices.Equal(watch.saw, want) {
		t.Errorf("got  %q\nwant %q", watch.saw, want)
	}
}

// A watchedPair notes the uses that it is asked for.
type watchedPair struct {
	hsmkeys.Pair
	saw []string
}

func (w *watchedPair) note(ctx context.Context) {
	u := hsmkeys.UseOf(ctx)
	w.saw = append(w.saw, fmt.Sprintf("%s %s %s %s", u.Command, u.File, u.Operation, hsmkeys.Ref{Name: u.Key, Version: u.Version}))
}

func (w *watchedPair) Unwrap(ctx context.Context, key keyspec.WrappedKey) (keyspec.SessionKey, error) {
	w.note(ctx)
	return w.Pair.Unwrap(ctx, key)
}

func (w *watchedPair) Reveal(ctx context.Context, key keyspec.WrappedKey) ([]byte, error) {
	w.note(ctx)
	return w.Pair.Reveal(ctx, key)
}

func (w *watchedPair) Generate(ctx context.Context, key keyspec.Key) (keyspec.Transit, error) {
	w.note(ctx)
	return w.Pair.Generate(ctx, key)
}

// One identity may serve many files at once.
func TestAnIdentityForManyFiles(t *testing.T) {
	s := newRecordedSite(t)
	var log eventLog
	k := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: s.store, Pair: s.owner, Record: log.record}))
	files := [][]byte{s.file, encryptWith(t, k, "later", "text"), []byte("no file")}
	log.events = nil
	identity := k.Identity(ctx)
	var all sync.WaitGroup
	for range 10 {
		for _, file := range files {
			all.Go(func() { _, _ = age.Decrypt(bytes.NewReader(file), identity) })
		}
	}
	all.Wait()
	count := map[string]int{}
	for _, e := range log.events {
		count[e.Key+" "+string(e.Outcome)]++
	}
	if len(log.events) != 20 || count["a done"] != 10 || count["later done"] != 10 {
		t.Errorf("recorded: %v", count)
	}
}
