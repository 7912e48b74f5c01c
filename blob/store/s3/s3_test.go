package s3

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/s3/s3test"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

// server is what the tests of the package use, each in a bucket of its own.
var server *s3test.Server

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if server, err = s3test.New(context.Background(), s3test.Options{Versioning: true, Users: true}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer server.Close()
		for name, value := range server.Environment() {
			os.Setenv(name, value)
		}
		firstWait = 2 * time.Millisecond
		return m.Run()
	}())
}

// newBucket returns a store in an empty bucket.
func newBucket(t *testing.T, o Options) *Store {
	t.Helper()
	bucket, err := server.MakeBucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return open(t, Location{Bucket: bucket, Prefix: "some/where", PathStyle: true}, o)
}

func open(t *testing.T, l Location, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), l, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// withEndpoint returns a client that asks somebody else.
func withEndpoint(c *s3.Client, url string) *s3.Client {
	o := c.Options()
	o.BaseEndpoint = aws.String(url)
	return s3.New(o)
}

func TestStore(t *testing.T) {
	for _, cached := range []bool{false, true} {
		t.Run(fmt.Sprintf("with a cache: %v", cached), func(t *testing.T) {
			storetest.Test(t, func(t *testing.T) blob.Store {
				var o Options
				if cached {
					o.Cache = t.TempDir()
				}
				return newBucket(t, o)
			})
		})
	}
}
