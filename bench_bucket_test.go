package hsmkeys_test

import (
	"context"
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
		inPlaces(b, func(b *testing.B, store blob.Store, p *token.KeyPair) func() iter.Seq[hsmkeys.Result] {
			ctx := context.Background()
			k, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: p}, "bench")
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
		inPlaces(b, func(b *testing.B, store blob.Store, p *token.KeyPair) func() iter.Seq[hsmkeys.Result] {
			ctx := context.Background()
			k, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: p}, "bench")
			if err != nil {
				b.Fatal(err)
			}
			// Each round recovers an owner of its own, from the same keys.
			authority := newSite(b, "vault-"+filepath.Base(b.TempDir()))
			add(b, k, authority.member(blob.BackupAuthority, "vault"))
			createMany(b, k, int(benchOps))
			owner, err := k.Certificate()
			if err != nil {
				b.Fatal(err)
			}
			a := authority.joinWith(b, store, owner)
			from := owner
			return func() iter.Seq[hsmkeys.Result] {
				to := softMember(b, blob.Owner, "spare")
				r, err := a.BeginRecovery(ctx, from, to, "a benchmark")
				if err != nil {
					b.Fatal(err)
				}
				from = to.Certificate
				return r.Keys(ctx, versions(b, r.Keyring))
			}
		})
	})
	b.Run("list", func(b *testing.B) {
		inPlaces(b, func(b *testing.B, store blob.Store, p *token.KeyPair) func() iter.Seq[hsmkeys.Result] {
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
func inPlaces(b *testing.B, prepare func(*testing.B, blob.Store, *token.KeyPair) func() iter.Seq[hsmkeys.Result]) {
	b.Helper()
	_, p := benchKeyring(b)
	local, err := dirstore.Create(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer local.Close()
	far, proxy := benchBucket(b)
	defer far.Close()
	here, there := prepare(b, local, p), prepare(b, far, p)
	run := func(operation func() iter.Seq[hsmkeys.Result]) float64 {
		keys := operation()
		proxy.Delay = bucketDelay
		before := proxy.Requests()
		defer func() { b.Logf("%d requests", proxy.Requests()-before) }()
		defer func() { proxy.Delay = 0 }()
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

// benchBucket returns a store in an empty bucket, and the proxy that is before it.
func benchBucket(b *testing.B) (*s3.Store, *s3test.Proxy) {
	b.Helper()
	server, err := s3test.New(context.Background(), s3test.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Close() })
	for name, value := range server.Environment() {
		b.Setenv(name, value)
	}
	proxy := s3test.NewProxy(b, server.URL)
	b.Setenv("AWS_ENDPOINT_URL", proxy.URL)
	if err := os.Mkdir(filepath.Join(server.Data(), "bench"), 0o700); err != nil {
		b.Fatal(err)
	}
	store, err := s3.Open(context.Background(), s3.Location{Bucket: "bench", PathStyle: true}, s3.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return store, proxy
}
