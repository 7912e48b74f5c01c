package main

import (
	"context"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/blob/store/s3"
	"github.com/hsmkeys/hsmkeys/blob/store/s3/s3test"
	"github.com/hsmkeys/hsmkeys/scripts/bench/storegen"
)

// A bucketSite is an S3 service with a bucket, and a proxy in front of it.
type bucketSite struct {
	*s3test.Server
	proxy *s3test.Proxy
	store string   // its URL
	vars  []string // with which the program uses it, through the proxy
}

func newBucketSite(t *testing.T) *bucketSite {
	t.Helper()
	server, err := s3test.New(t.Context(), s3test.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	bucket, err := server.MakeBucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := &bucketSite{Server: server, proxy: s3test.NewProxy(t, server.URL), store: s3.Scheme + bucket + "/keys"}
	for name, value := range server.Environment() {
		b.vars = append(b.vars, name+"="+value)
	}
	b.vars = append(b.vars, "AWS_ENDPOINT_URL="+b.proxy.URL, "HSMKEYS_STORE="+b.store)
	return b
}

// dir returns the directory in which the service keeps the objects of the store, each in a file.
func (b *bucketSite) dir() string {
	return filepath.Join(b.Data(), strings.TrimPrefix(b.store, s3.Scheme))
}

// TestRequestsAmongAMillionKeys counts what a command asks of the bucket when it has nothing in its
// cache, with a pin that is the newest checkpoint. The million is made with HSMKEYS_TEST_FAULTS=all; otherwise it
// is a twentieth of that, which has as many levels.
func TestRequestsAmongAMillionKeys(t *testing.T) {
	b := newBucketSite(t)
	for name, value := range b.Environment() {
		t.Setenv(name, value)
	}
	owner, err := rsa.GenerateKey(cryptorand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	place, err := s3.Parse(b.store)
	if err != nil {
		t.Fatal(err)
	}
	store, err := s3.Open(t.Context(), place, s3.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const batches, single, blobs = 2, 50, 12
	batch := 25_000
	if os.Getenv("HSMKEYS_TEST_FAULTS") == "all" {
		batch = 500_000
	}
	made := new(mem.Store)
	g, err := storegen.Init(t.Context(), made, storegen.Options{Owner: owner, Versions: 1, Members: 2, Blobs: blobs})
	for i := 0; i < batches+single && err == nil; i++ {
		n := 1
		if i < batches {
			n = batch
		}
		err = g.Add(t.Context(), n)
	}
	if err != nil {
		t.Fatal(err)
	}
	for path, err := range made.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		data, err := made.Get(t.Context(), path)
		if err := errors.Join(err, store.Put(t.Context(), path, data)); err != nil {
			t.Fatal(err)
		}
	}

	s := newEmptySite(t, b.vars...)
	der, err := x509.MarshalPKCS8PrivateKey(owner)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "owner.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	s.write(t, "owner.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: storegen.Certificate(owner, "owner").Raw})))
	s.must(t, "", "token", "init", "office", "--so-pin-source", "file:pin")
	s.must(t, "office", "token", "import-pair", "owner.key")
	s.must(t, "office", "join", "--yes", "--vouched-by", "owner.pem")
	for i := range blobs {
		if err := os.RemoveAll(filepath.Join(s.dir, ".cache")); err != nil {
			t.Fatal(err)
		}
		b.proxy.Seen()
		s.must(t, "office", "encrypt", "-k", storegen.Name(i), "-o", "out.age", "in")
		if seen := b.proxy.Seen(); len(seen) > 10 {
			t.Errorf("%d requests:\n%s", len(seen), strings.Join(seen, "\n"))
		} else if i == 0 {
			t.Log(strings.Join(seen, "\n"))
		}
		if err := os.Remove(filepath.Join(s.dir, "out.age")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBucketScripts runs the sessions under testdata/bucket, each with a store in a bucket of its own.
// $BUCKETDIR is where the service keeps its objects.
func TestBucketScripts(t *testing.T) {
	server, err := s3test.New(t.Context(), s3test.Options{Versioning: true, Users: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	runScriptsWith(t, "testdata/bucket", func(e *testscript.Env) error {
		if err := setup(e); err != nil {
			return err
		}
		bucket, err := server.MakeBucket(context.Background())
		if err != nil {
			return err
		}
		for name, value := range server.Environment() {
			e.Setenv(name, value)
		}
		e.Setenv("BUCKET", bucket)
		e.Setenv("BUCKETDIR", filepath.Join(server.Data(), bucket, "keys"))
		e.Setenv("HSMKEYS_STORE", s3.Scheme+bucket+"/keys")
		e.Values[bucketKey{}] = server
		return nil
	})
}

// bucketKey is where a script has its server.
type bucketKey struct{}

// bucketuser NAME FILE: a user with this name and secret whose rights in the bucket are those of a policy in
// which BUCKET and USER stand for the names.
func bucketUser(ts *testscript.TestScript, _ bool, args []string) {
	server := ts.Value(bucketKey{}).(*s3test.Server)
	ctx := context.Background()
	ts.Check(server.AddUser(ctx, args[0], args[0]+"-secret"))
	ts.Check(server.SetPolicy(ctx, ts.Getenv("BUCKET"), strings.NewReplacer("BUCKET", ts.Getenv("BUCKET"), "USER", args[0]).Replace(ts.ReadFile(args[1]))))
}

// bucketversions: the bucket keeps versions from now on.
func bucketVersions(ts *testscript.TestScript, _ bool, _ []string) {
	client, err := ts.Value(bucketKey{}).(*s3test.Server).Client(context.Background())
	ts.Check(err)
	bucket := ts.Getenv("BUCKET")
	_, err = client.PutBucketVersioning(context.Background(), &awss3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	ts.Check(err)
}

// TestEightMachines has eight machines, four for each of two owners, create and rotate in one bucket through a
// network that loses, delays and cuts what it can, and with lists that lag. Each has pins and a cache of its
// own. Each key that was reported is there, and there is one chain. With HSMKEYS_TEST_KILLS=all it takes a
// minute.
func TestEightMachines(t *testing.T) {
	const machines = 8
	within := 4 * time.Second
	if os.Getenv("HSMKEYS_TEST_KILLS") == "all" {
		within = time.Minute
	}
	b := newBucketSite(t)
	s := newFaultSite(t, "p256", b.vars...)
	s.must(t, "office", "owner", "add", "--yes", "spare.pem")
	s.must(t, "spare", "join", "--yes", "--vouched-by", "office.pem")
	s.must(t, "office", "rewrap")

	b.proxy.Fault = func(_ int, r *http.Request) s3test.Fault {
		f := s3test.Fault{Lag: rand.IntN(3) == 0}
		switch rand.IntN(100) {
		case 0:
			f.Status, f.Code = 500, "InternalError"
		case 1:
			f.Status, f.Code = 503, "SlowDown"
		case 2:
			f.Status, f.RetryAfter = 503, "1"
		case 3:
			f.Lose = true
		case 4:
			f.Reset = true
		case 5:
			f.Cut = true
		case 6:
			f.Slow = 200 * time.Millisecond
		}
		return f
	}
	end := time.Now().Add(within)
	var printed [machines][]reportedKey
	var all sync.WaitGroup
	for i := range machines {
		m, token := s.clone(t), []string{"office", "spare"}[i%2]
		all.Go(func() {
			for n := 0; n == 0 || time.Now().Before(end); n++ { // each does something, however busy this machine is
				for _, args := range [][]string{{"create", fmt.Sprintf("of-%d/%d", i, n)}, {"rotate", "a"}, {"encrypt", "-k", "a", "-o", fmt.Sprintf("%d.age", n), "in"}} {
					r := m.honest(token, args...)
					keys := reported(r.stdout)
					printed[i] = append(printed[i], keys...)
					if r.status != 0 || args[0] != "encrypt" && len(keys) != 1 {
						t.Errorf("machine %d: %v", i, r)
					}
				}
				if err := m.opens(token, fmt.Sprintf("%d.age", n)); err != nil {
					t.Errorf("machine %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	b.proxy.Fault = nil

	var keys []reportedKey
	for _, some := range printed {
		keys = append(keys, some...)
	}
	if err := os.CopyFS(filepath.Join(s.dir, "store"), os.DirFS(b.dir())); err != nil {
		t.Fatal(err)
	}
	l, err := s.chain()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(hasReported(l, keys), noOthers(l, keys)); err != nil {
		t.Error(err)
	}
	for _, token := range []string{"office", "spare"} {
		s.must(t, token, "rewrap")
		s.must(t, token, "verify")
		if err := s.opens(token, "a1.age", "a2.age", "b.age"); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d keys in %d checkpoints, %d requests", len(keys), l.At().Number, b.proxy.Requests())
}
