package hsmkeys_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	dirstore "github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/blob/store/s3"
	"github.com/hsmkeys/hsmkeys/blob/store/s3/s3test"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
)

const (
	bucketDelay  = 5 * time.Millisecond // of each request
	bucketRounds = 3
)

// BenchmarkBucket rewraps, recovers and lists keys in a bucket where each request takes 5 ms, beside the same in
// a directory. The service and the proxy that delays run on this machine too, and take of its processors.
func BenchmarkBucket(b *testing.B) {
	b.Run("rewrap", func(b *testing.B) {
		inPlaces(b, func(b *testing.B, newStore func() blob.Store, p *token.KeyPair) func() iter.Seq[hsmkeys.Result] {
			ctx := context.Background()
			k, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: newStore(), Pair: p}, "bench")
			if err != nil {
				b.Fatal(err)
			}
			createMany(b, k, int(benchOps))
			authority := softMember(b, blob.BackupAuthority, "vault")
			named := false
			return func() iter.Seq[hsmkeys.Result] {
				if named {
					err = k.RemoveMember(ctx, blob.BackupAuthority, "vault", func(err error) { b.Error(err) })
				} else {
					err = k.AddMember(ctx, authority)
				}
				if err != nil {
					b.Fatal(err)
				}
				named = !named
				return k.Rewrap(ctx, versions(b, k), "")
			}
		})
	})
	b.Run("recover", func(b *testing.B) {
		inPlaces(b, func(b *testing.B, newStore func() blob.Store, p *token.KeyPair) func() iter.Seq[hsmkeys.Result] {
			ctx := context.Background()
			authority := newSite(b, "vault-"+filepath.Base(b.TempDir()))
			return func() iter.Seq[hsmkeys.Result] {
				store := newStore()
				k, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: p}, "bench")
				if err != nil {
					b.Fatal(err)
				}
				add(b, k, authority.member(blob.BackupAuthority, "vault"))
				createMany(b, k, int(benchOps))
				owner, err := k.Certificate()
				if err != nil {
					b.Fatal(err)
				}
				r, err := authority.joinWith(b, store, owner).BeginRecovery(ctx, owner, softMember(b, blob.Owner, "spare"), "a benchmark")
				if err != nil {
					b.Fatal(err)
				}
				return r.Keys(ctx, versions(b, r.Keyring))
			}
		})
	})
	b.Run("list", func(b *testing.B) {
		inPlaces(b, func(b *testing.B, newStore func() blob.Store, p *token.KeyPair) func() iter.Seq[hsmkeys.Result] {
			store := newStore()
			k, err := hsmkeys.Init(context.Background(), hsmkeys.Options{Store: store, Pair: p}, "bench")
			if err != nil {
				b.Fatal(err)
			}
			createMany(b, k, int(benchOps))
			at := k.State().At
			l, _, err := ledger.Open(context.Background(), store, ledger.Trust{Checkpoint: &at})
			if err != nil {
				b.Fatal(err)
			}
			pin := l.Pin()
			return func() iter.Seq[hsmkeys.Result] {
				return func(yield func(hsmkeys.Result) bool) { // with nothing in memory
					l, _, err := ledger.Open(context.Background(), store, ledger.Trust{Pins: []ledger.Pin{pin}, Quick: true})
					if err != nil {
						b.Fatal(err)
					}
					if f, ok := store.(blob.Forgetter); ok {
						f.Forget()
					}
					for _, err := range l.Entries(context.Background(), "") {
						if !yield(hsmkeys.Result{Done: true, Err: err}) {
							return
						}
					}
				}
			}
		})
	})
}

// inPlaces runs an operation over many keys in a directory and in a bucket, in turns.
func inPlaces(b *testing.B, prepare func(*testing.B, func() blob.Store, *token.KeyPair) func() iter.Seq[hsmkeys.Result]) {
	b.Helper()
	_, p := benchKeyring(b)
	delay, newBucket := benchBucket(b)
	here := prepare(b, func() blob.Store {
		store, err := dirstore.Create(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { store.Close() })
		return store
	}, p)
	there := prepare(b, newBucket, p)
	run := func(operation func() iter.Seq[hsmkeys.Result]) float64 {
		keys := operation()
		delay.Set(bucketDelay)
		defer delay.Set(0)
		began, done := time.Now(), 0
		for r := range keys {
			if r.Err != nil || !r.Done {
				b.Fatalf("%+v", r)
			}
			done++
		}
		return float64(done) / time.Since(began).Seconds()
	}
	for b.Loop() {
		var near, far, ratios []float64
		for range bucketRounds {
			n, f := run(here), run(there)
			near, far, ratios = append(near, n), append(far, f), append(ratios, f/n)
		}
		b.ReportMetric(median(near), "directory/s")
		b.ReportMetric(median(far), "bucket/s")
		b.ReportMetric(median(ratios), "ratio")
	}
}

// benchBucket returns what makes stores in a bucket, and the delay before it.
func benchBucket(b *testing.B) (*s3test.Delay, func() blob.Store) {
	b.Helper()
	server, err := s3test.New(context.Background(), s3test.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Close() })
	for name, value := range server.Environment() {
		b.Setenv(name, value)
	}
	delay := s3test.NewDelay(b, server.URL)
	b.Setenv("AWS_ENDPOINT_URL", delay.URL)
	if err := os.Mkdir(filepath.Join(server.Data(), "bench"), 0o700); err != nil {
		b.Fatal(err)
	}
	n := 0
	return delay, func() blob.Store {
		n++
		store, err := s3.Open(context.Background(), s3.Location{Bucket: "bench", Prefix: fmt.Sprint(n), PathStyle: true}, s3.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { store.Close() })
		return store
	}
}
