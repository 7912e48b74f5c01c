package hsmkeys_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// all collects results, and expects none to have failed.
func all(t *testing.T, results iter.Seq[hsmkeys.Result]) (done []hsmkeys.Result) {
	t.Helper()
	for r := range results {
		if r.Err != nil {
			t.Fatalf("key %q: %v", r.Ref, r.Err)
		}
		if r.Done {
			done = append(done, r)
		}
	}
	return done
}

func keyRefs(names ...string) (refs []hsmkeys.Ref) {
	for _, name := range names {
		refs = append(refs, must(hsmkeys.ParseRef(name)))
	}
	return refs
}

// Whoever keeps a backup can put the blob of a destroyed key back: it opens nothing here.
func TestADestroyedKeyIsPutBack(t *testing.T) {
	ctx := context.Background()
	k, store, dir := found(t)
	create(t, k, "payroll")
	file := encrypt(t, k, "payroll", []byte("a letter"))
	must(k.Rotate(ctx, "payroll", ""))
	_, backup := copyOf(t, dir)
	backupStore, _ := copyOf(t, backup)
	if done := all(t, k.Destroy(ctx, keyRefs("payroll@1"), "no longer needed")); len(done) != 1 || done[0].Entry.Status != "destroyed" {
		t.Fatalf("destroyed %+v", done)
	}
	if unknown, left, err := k.CountUnnamed(ctx); err != nil || unknown+left != 0 {
		t.Errorf("%d unknown, %d left, %v", unknown, left, err)
	}
	for range 2 {
		_, err := decrypt(k, file)
		if !errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity) || !strings.Contains(err.Error(), `by "owner" (no longer needed)`) {
			t.Errorf("decrypted with a destroyed key: %v", err)
		}
		unite(t, store, backupStore, dir, false)
	}
	if unknown, left, err := k.CountUnnamed(ctx); err != nil || unknown != 0 || left != 1 {
		t.Errorf("%d unknown, %d left, %v", unknown, left, err)
	}
	// Destroyed once more, it is gone once more.
	if done := all(t, k.Destroy(ctx, keyRefs("payroll@1"), "once more")); len(done) != 0 {
		t.Errorf("destroyed twice: %+v", done)
	}
	if unknown, left, err := k.CountUnnamed(ctx); err != nil || unknown+left != 0 {
		t.Errorf("%d unknown, %d left, %v", unknown, left, err)
	}
	for name, err := range k.Verify(ctx) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that was begun is not completed once its key is destroyed, or encrypts no more.
func TestDestroyingWhileAFileIsEncrypted(t *testing.T) {
	ctx := context.Background()
	k, store, _ := found(t)
	for name, set := range map[string]func(*hsmkeys.Keyring, context.Context, []hsmkeys.Ref, string) iter.Seq[hsmkeys.Result]{
		"destroyed": (*hsmkeys.Keyring).Destroy, "compromised": (*hsmkeys.Keyring).Compromise, "deactivated": (*hsmkeys.Keyring).Deactivate,
	} {
		create(t, k, name)
		create(t, k, name+"/other")
		other := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: pair}))
		var out bytes.Buffer
		w := must(k.Encrypt(ctx, &out, keyRefs(name+"/other", name)))
		must(w.Write([]byte("a letter")))
		all(t, set(other, ctx, keyRefs(name), "meanwhile"))
		if err := w.Close(); !errors.Is(err, hsmkeys.ErrNotActive) {
			t.Errorf("a file under a key that was %s meanwhile: %v", name, err)
		}
		if plain, err := decrypt(k, out.Bytes()); err == nil {
			t.Errorf("it decrypts to %q", plain)
		}
		// A change of another key is none of its business.
		out.Reset()
		w = must(k.Encrypt(ctx, &out, keyRefs(name+"/other")))
		must(other.Rotate(ctx, name+"/other", ""))
		if err := w.Close(); err != nil {
			t.Errorf("a file under a key that was rotated meanwhile: %v", err)
		}
	}
}

// A noDelete is a store that cannot delete.
type noDelete struct{ blob.Store }

var errCannot = errors.New("this store cannot delete")

func (noDelete) Delete(context.Context, string) error { return errCannot }

func TestAStoreThatCannotDelete(t *testing.T) {
	ctx := context.Background()
	k, store, _ := found(t)
	create(t, k, "payroll")
	create(t, k, "other")
	file := encrypt(t, k, "payroll", []byte("a letter"))
	weak := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: noDelete{store}, Pair: pair}))
	for r := range weak.Destroy(ctx, keyRefs("payroll"), "test") {
		if !errors.Is(r.Err, hsmkeys.ErrBlobsLeft) || !errors.Is(r.Err, errCannot) {
			t.Errorf("%+v", r)
		}
	}
	if _, err := decrypt(k, file); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("it is not destroyed: %v", err)
	}
	if _, left, err := k.CountUnnamed(ctx); err != nil || left != 1 {
		t.Errorf("%d left, %v", left, err)
	}
	all(t, k.Destroy(ctx, keyRefs("payroll"), "test"))
	if _, left, err := k.CountUnnamed(ctx); err != nil || left != 0 {
		t.Errorf("%d left, %v", left, err)
	}
}

// However many keys: one checkpoint, and results in the order in which the keys were named.
func TestManyKeysAreOneCheckpoint(t *testing.T) {
	ctx := context.Background()
	hsmkeys.RecordEvery(time.Hour) // however slow the machine is
	defer hsmkeys.RecordEvery(10 * time.Second)
	k, _, _ := found(t)
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("k%02d", i))
	}
	step := func(what string, results iter.Seq[hsmkeys.Result]) {
		t.Helper()
		before := k.State().At.Number
		var got []string
		for _, r := range all(t, results) {
			got = append(got, r.Ref.Name)
		}
		if at := k.State().At.Number; at != before+1 || !slices.Equal(got, names) {
			t.Errorf("%s: %d checkpoints, %q", what, at-before, got)
		}
	}
	step("create", k.CreateMany(ctx, names, hsmkeys.NewKey{Algorithm: keyspec.AES128, Reason: "first"}))
	step("rotate", k.RotateMany(ctx, keyRefs(names...), "monthly"))
	text := "a description"
	step("describe", k.Describe(ctx, names, hsmkeys.NewDetails{Description: &text}, ""))
	step("deactivate", k.Deactivate(ctx, keyRefs(names...), "closed"))
	step("activate", k.Activate(ctx, keyRefs(names...), ""))
	step("compromise", k.Compromise(ctx, keyRefs(names...), "leak"))
	step("destroy", k.Destroy(ctx, keyRefs(names...), "done"))
	reasons := map[string]int{}
	for e, err := range k.Log(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		reasons[e.Change.Reason]++
	}
	for _, reason := range []string{"first", "monthly", "closed", "leak", "done"} {
		if reasons[reason] != len(names) {
			t.Errorf("%q is the reason of %d changes", reason, reasons[reason])
		}
	}
	if unknown, left, err := k.CountUnnamed(ctx); err != nil || unknown+left != 0 {
		t.Errorf("%d unknown, %d left, %v", unknown, left, err)
	}
}

// ^C in the middle of many: what was done is recorded, what was not is not.
func TestManyKeysAreInterrupted(t *testing.T) {
	k, store, _ := found(t)
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("k%03d", i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	progress := 0
	var mu sync.Mutex
	k.Options().Progress = func() {
		mu.Lock()
		defer mu.Unlock()
		if progress++; progress == 50 {
			cancel()
		}
	}
	reported := map[string]bool{}
	cancelled := false
	for r := range k.CreateMany(ctx, names, hsmkeys.NewKey{Algorithm: keyspec.AES256}) {
		switch {
		case r.Err == nil && r.Done:
			reported[r.Ref.Name] = true
		case errors.Is(r.Err, context.Canceled):
			cancelled = true
		default:
			t.Errorf("%+v", r)
		}
	}
	if !cancelled || len(reported) < 40 || len(reported) == len(names) {
		t.Errorf("interrupted: %v, %d keys", cancelled, len(reported))
	}
	again := must(hsmkeys.Open(context.Background(), hsmkeys.Options{Store: store, Pair: pair}))
	there := 0
	for e, err := range again.List(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		if there++; !reported[e.Name] {
			t.Errorf("%s is there, and was not reported", e.Name)
		}
	}
	if there != len(reported) {
		t.Errorf("%d keys are there, %d were reported", there, len(reported))
	}
}

// One process rotates, another sets the status of the whole key: none of the versions escapes.
func TestStatusAndRotationAtOnce(t *testing.T) {
	ctx := context.Background()
	k, store, _ := found(t)
	create(t, k, "payroll")
	var both sync.WaitGroup
	both.Go(func() {
		other := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: pair}))
		for range 10 {
			if _, err := other.Rotate(ctx, "payroll", ""); err != nil {
				t.Error(err)
			}
		}
	})
	for range 10 {
		for r := range k.Compromise(ctx, keyRefs("payroll"), "leak") {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}
	}
	both.Wait()
	done := all(t, k.Compromise(ctx, keyRefs("payroll"), "leak"))
	history := must(k.History(ctx, "payroll"))
	for _, e := range history {
		if e.Status != "compromised" {
			t.Errorf("version %d is %s", e.Version, e.Status)
		}
	}
	if len(history) != 11 {
		t.Errorf("%d versions, and %d results", len(history), len(done))
	}
}

// Two processes want the same new name: one gets it.
func TestRenamingAtOnce(t *testing.T) {
	ctx := context.Background()
	k, store, _ := found(t)
	files := map[string][]byte{}
	for i := range 6 {
		name := fmt.Sprintf("k%d", i)
		create(t, k, name)
		files[name] = encrypt(t, k, name, []byte(name))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var winners []string
	for name := range files {
		wg.Go(func() {
			other := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: pair}))
			_, err := other.Rename(ctx, name, "wanted", "")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				winners = append(winners, name)
			case !errors.Is(err, blob.ErrExists):
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	if len(winners) != 1 {
		t.Errorf("winners %q", winners)
	}
	for name, file := range files {
		if got, err := decrypt(k, file); err != nil || string(got) != name {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := k.Show(ctx, hsmkeys.Ref{Name: winners[0]}); !errors.As(err, new(*hsmkeys.KeyRenamed)) {
		t.Errorf("the old name: %v", err)
	}
}

// A key has at most so many names, and all of them open its files.
func TestAKeyOfManyNames(t *testing.T) {
	ctx := context.Background()
	k, _, _ := found(t)
	create(t, k, "n0")
	files := map[string][]byte{}
	for i := range ledger.MaxEarlier {
		from, to := fmt.Sprint("n", i), fmt.Sprint("n", i+1)
		files[from] = encrypt(t, k, from, []byte(from))
		must(k.Rotate(ctx, from, ""))
		must(k.Rename(ctx, from, to, ""))
	}
	if _, err := k.Rename(ctx, "n16", "n17", ""); !errors.Is(err, hsmkeys.ErrRenames) {
		t.Errorf("renamed once more: %v", err)
	}
	decrypts(t, k, files)
	for name, err := range k.Verify(ctx) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if unknown, left, err := k.CountUnnamed(ctx); err != nil || unknown+left != 0 {
		t.Errorf("%d unknown, %d left, %v", unknown, left, err)
	}
}

// One copy renames a key, the other rotates it, or renames it too.
func TestARenamedKeyIsMerged(t *testing.T) {
	for name, theirs := range map[string]func(*testing.T, *hsmkeys.Keyring) map[string][]byte{
		"rotated": func(t *testing.T, k *hsmkeys.Keyring) map[string][]byte {
			return map[string][]byte{"theirs": rotate(t, k, "payroll", "theirs")}
		},
		"renamed and rotated": func(t *testing.T, k *hsmkeys.Keyring) map[string][]byte {
			must(k.Rename(context.Background(), "payroll", "salaries", ""))
			return map[string][]byte{"theirs": rotate(t, k, "salaries", "theirs")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			office, branch := newSite(t, "office"), newSite(t, "branch")
			k, store, dir := office.found(t)
			add(t, k, branch.member(blob.Owner, "branch"))
			create(t, k, "payroll")
			branch.join(t, store, office)
			otherStore, _ := copyOf(t, dir)
			other := branch.reopen(t, otherStore)

			must(k.Rename(ctx, "payroll", "finance/payroll", ""))
			files := theirs(t, other)
			files["ours"] = rotate(t, k, "finance/payroll", "ours")
			m := must(k.BeginMerge(ctx, otherStore, nil))
			for merged := range m.Keys(ctx) {
				if merged.Err != nil || merged.Name != "finance/payroll" || merged.New {
					t.Errorf("%+v", merged)
				}
			}
			decrypts(t, k, files)
			if e := must(k.Show(ctx, hsmkeys.Ref{Name: "finance/payroll"})); e.Version != 2 {
				t.Errorf("the current version is %d", e.Version)
			}
			for name, err := range k.Verify(ctx) {
				if err != nil || name != "finance/payroll" {
					t.Errorf("%s: %v", name, err)
				}
			}
			// Again, nothing is new.
			m = must(k.BeginMerge(ctx, otherStore, nil))
			for merged := range m.Keys(ctx) {
				t.Errorf("merged again: %+v", merged)
			}
		})
	}
}

// What a program may ask for, and gets an error for.
func TestDetailsThatAreRefused(t *testing.T) {
	ctx := context.Background()
	k, _, _ := found(t)
	long, past, far, never := strings.Repeat("x", 257), time.Now().Add(-time.Hour), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), -1
	for name, key := range map[string]hsmkeys.NewKey{
		"a long description":           {Details: hsmkeys.Details{Description: long}},
		"a description with controls":  {Details: hsmkeys.Details{Description: "a\nb"}},
		"a date in the past":           {Details: hsmkeys.Details{Expires: past}},
		"a date that cannot be stored": {Details: hsmkeys.Details{Expires: far}},
		"a negative age":               {Details: hsmkeys.Details{RotateEvery: -1}},
		"an age of centuries":          {Details: hsmkeys.Details{RotateEvery: hsmkeys.MaxRotateEvery + 1}},
	} {
		key.Algorithm = keyspec.AES256
		for r := range k.CreateMany(ctx, []string{"a", "b"}, key) {
			if !errors.Is(r.Err, hsmkeys.ErrDetails) {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
	create(t, k, "a")
	for name, d := range map[string]hsmkeys.NewDetails{
		"a long description": {Description: &long}, "a date in the past": {Expires: &past}, "a negative age": {RotateEvery: &never},
	} {
		for r := range k.Describe(ctx, []string{"a"}, d, "") {
			if !errors.Is(r.Err, hsmkeys.ErrDetails) {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
	for r := range k.Deactivate(ctx, keyRefs("a"), "a reason\nof two lines") {
		if r.Err == nil {
			t.Error("a reason of two lines was recorded")
		}
	}
	if e := must(k.Show(ctx, hsmkeys.Ref{Name: "a"})); e.Description != "" || e.Status != "active" {
		t.Errorf("%+v", e)
	}
}

// From which status a key comes to which.
func TestTransitions(t *testing.T) {
	ctx := context.Background()
	k, _, _ := found(t)
	set := map[string]func(context.Context, []hsmkeys.Ref, string) iter.Seq[hsmkeys.Result]{
		"active": k.Activate, "deactivated": k.Deactivate, "compromised": k.Compromise, "destroyed": k.Destroy,
	}
	allowed := map[string][]string{
		"active":      {"deactivated", "compromised", "destroyed"},
		"deactivated": {"active", "compromised", "destroyed"},
		"compromised": {"destroyed"},
		"destroyed":   {},
	}
	for from := range allowed {
		for to, change := range set {
			name := from + "-" + to
			create(t, k, name)
			if from != "active" {
				all(t, set[from](ctx, keyRefs(name), "to begin with"))
			}
			for r := range change(ctx, keyRefs(name), "test") {
				switch {
				case from == to && (r.Err != nil || r.Done):
					t.Errorf("%s: %+v", name, r)
				case from != to && slices.Contains(allowed[from], to) != (r.Err == nil):
					t.Errorf("%s: %v", name, r.Err)
				case r.Err != nil && !errors.Is(r.Err, hsmkeys.ErrTransition):
					t.Errorf("%s: %v", name, r.Err)
				}
			}
		}
	}
}

// A key is destroyed between the moment when another process has wrapped it anew, or made its next
// version, and the moment when that is recorded: it stays destroyed, and the others of the batch are not
// held up.
func TestAKeyIsDestroyedMeanwhile(t *testing.T) {
	ctx := context.Background()
	for name, change := range map[string]func(*hsmkeys.Keyring) iter.Seq[hsmkeys.Result]{
		"rewrap": func(k *hsmkeys.Keyring) iter.Seq[hsmkeys.Result] { return k.Rewrap(ctx, keyRefs("one@1", "two@1"), "") },
		"rotate": func(k *hsmkeys.Keyring) iter.Seq[hsmkeys.Result] {
			return k.RotateMany(ctx, keyRefs("one", "two"), "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			office, vault := newSite(t, "office"), newSite(t, "vault")
			k, store, _ := office.found(t)
			create(t, k, "one")
			create(t, k, "two")
			add(t, k, vault.member(blob.BackupAuthority, "vault")) // something to rewrap
			other := office.reopen(t, store)
			k.Options().Progress = sync.OnceFunc(func() { all(t, other.Destroy(ctx, keyRefs("one"), "meanwhile")) })
			for r := range change(k) {
				switch r.Ref.Name {
				case "one":
					if !errors.Is(r.Err, blob.ErrNotFound) || errors.Is(r.Err, blob.ErrIntegrity) {
						t.Errorf("the destroyed key: %v", r.Err)
					}
				case "two":
					if r.Err != nil || !r.Done {
						t.Errorf("the other key: %+v", r)
					}
				default:
					t.Errorf("%+v", r)
				}
			}
			for _, e := range must(k.History(ctx, "one")) {
				if e.Status != "destroyed" || e.Version > 1 {
					t.Errorf("%+v", e)
				}
			}
			if unknown, left, err := k.CountUnnamed(ctx); err != nil || unknown+left != 0 {
				t.Errorf("%d unknown, %d left, %v", unknown, left, err)
			}
		})
	}
}

// Two jobs rotate what is due at the same time: each key gets one new version, and one that was
// deactivated since it was chosen gets none.
func TestTwoJobsRotateTheSame(t *testing.T) {
	ctx := context.Background()
	k, store, _ := found(t)
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("k%02d", i))
	}
	all(t, k.CreateMany(ctx, append(names, "closed"), hsmkeys.NewKey{Algorithm: keyspec.AES128}))
	chosen := append(keyRefs(names...), keyRefs("closed")...)
	for i := range chosen {
		chosen[i].Version = 1
	}
	all(t, k.Deactivate(ctx, keyRefs("closed"), "closed"))
	var both sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range 2 {
		both.Go(func() {
			other := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: pair}))
			for r := range other.RotateMany(ctx, chosen, "due") {
				mu.Lock()
				if r.Err != nil {
					t.Error(r.Err)
				}
				if r.Done {
					done++
				}
				mu.Unlock()
			}
		})
	}
	both.Wait()
	if done != len(names) {
		t.Errorf("%d rotations", done)
	}
	for _, name := range append(names, "closed") {
		want := 2
		if name == "closed" {
			want = 1
		}
		if n := len(must(k.History(ctx, name))); n != want {
			t.Errorf("%s has %d versions", name, n)
		}
	}
}

// lagging is a store whose lists have no blobs of keys yet.
type lagging struct{ blob.Store }

func (l *lagging) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for path, err := range l.Store.List(ctx, prefix) {
			if !strings.HasPrefix(path, blob.KeysPrefix) && !yield(path, err) {
				return
			}
		}
	}
}

// What the state names of a destroyed key is deleted also where the lists of the store lag.
func TestDestroyWhereListsLag(t *testing.T) {
	k, store, _ := found(t)
	o := *k.Options()
	o.Store = &lagging{store}
	k, err := hsmkeys.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	create(t, k, "payroll")
	for r := range k.Destroy(t.Context(), keyRefs("payroll"), "a test") {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	for path := range store.List(t.Context(), blob.KeysPrefix) {
		t.Errorf("%s is still there", path)
	}
}
