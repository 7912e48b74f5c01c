package s3

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/s3/s3test"
)

func isVersions(r *http.Request) bool { return r.URL.Query().Has("versions") }

// A list of versions that lacks the object does not make Purge believe that it is gone, and one that does not end
// does not keep Purge.
func TestListsOfVersionsThatLie(t *testing.T) {
	for name, page := range map[string]string{
		"empty":       "<ListVersionsResult></ListVersionsResult>",
		"others":      "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>other</NextKeyMarker></ListVersionsResult>",
		"without end": "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>some/where/" + path(1) + "</NextKeyMarker></ListVersionsResult>",
	} {
		s, proxy := behind(t, Options{})
		if err := s.Put(t.Context(), path(1), []byte("secret")); err != nil {
			t.Fatal(err)
		}
		proxy.Serve = func(w http.ResponseWriter, r *http.Request) bool {
			return isVersions(r) && answers(page)(w, r)
		}
		before := proxy.Requests()
		err := s.Purge(t.Context(), path(1))
		if _, there := s.Get(t.Context(), path(1)); !errors.Is(there, blob.ErrNotFound) && err == nil {
			t.Errorf("%s: purged, and %v", name, there)
		}
		if n := proxy.Requests() - before; n > 2*maxVersionPages {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

// Lists are asked for in a form that can have any key: one that XML cannot represent breaks nothing.
func TestAKeyThatXMLCannotRepresent(t *testing.T) {
	s, proxy := behind(t, Options{})
	proxy.Serve = func(w http.ResponseWriter, r *http.Request) bool {
		encoding, bad := "", "some/where/state/0000000/&#x1;"
		if r.URL.Query().Get("encoding-type") == "url" {
			encoding, bad = "<EncodingType>url</EncodingType>", "some%2Fwhere/state/0000000/%01+"
		}
		return answers("<ListBucketResult>"+encoding+"<Contents><Key>"+bad+"</Key></Contents><Contents><Key>some/where/"+path(1)+"</Key></Contents></ListBucketResult>")(w, r)
	}
	var got []string
	for path, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, path)
	}
	if len(got) != 1 || got[0] != path(1) {
		t.Errorf("%q", got)
	}
}

// A list that leads in a circle of any length is an error.
func TestAListInACircle(t *testing.T) {
	s, proxy := behind(t, Options{})
	var n atomic.Int64
	proxy.Serve = func(w http.ResponseWriter, r *http.Request) bool {
		return answers(fmt.Sprintf("<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken></ListBucketResult>", n.Add(1)%3))(w, r)
	}
	var failed error
	for _, err := range s.List(t.Context(), "") {
		failed = err
	}
	if !errors.Is(failed, blob.ErrUnavailable) || n.Load() > 10 {
		t.Errorf("%v after %d pages", failed, n.Load())
	}
}

// A response takes as long as it takes, while bytes come.
func TestASlowLine(t *testing.T) {
	t.Parallel()
	s, proxy := behind(t, Options{Attempt: 2 * time.Second, Total: 3 * time.Second})
	proxy.Serve = func(w http.ResponseWriter, _ *http.Request) bool {
		for range 10 {
			_, _ = io.WriteString(w, "0123456789")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(500 * time.Millisecond)
		}
		return true
	}
	if got, err := s.Get(t.Context(), path(1)); len(got) != 100 || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Those who wait for one block share its error.
func TestWaitersShareAnError(t *testing.T) {
	s, proxy := behind(t, Options{})
	release := make(chan struct{})
	proxy.Serve = func(w http.ResponseWriter, _ *http.Request) bool {
		<-release
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	var all, begun sync.WaitGroup
	for range 16 {
		begun.Add(1)
		all.Go(func() {
			begun.Done()
			if _, err := s.GetRange(t.Context(), blob.PackPath(blob.PackID{1}), 0, 10); !errors.Is(err, ErrDenied) {
				t.Error(err)
			}
		})
	}
	begun.Wait()
	time.Sleep(100 * time.Millisecond) // most of them wait by now
	close(release)
	all.Wait()
	if n := proxy.Requests(); n > 8 {
		t.Errorf("%d requests", n)
	}
}

// What was being read when something was found to be wrong is not kept.
func TestForgetWhileReading(t *testing.T) {
	s, proxy := behind(t, Options{Cache: t.TempDir()})
	pack := blob.PackPath(blob.PackID{1})
	asked, release := make(chan struct{}), make(chan struct{})
	var n atomic.Int64
	proxy.Serve = func(w http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) == 1 {
			close(asked)
			<-release
			return answers("a wrong pack")(w, r)
		}
		return answers("a right pack")(w, r)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.GetRange(t.Context(), pack, 0, 12)
	}()
	<-asked
	s.Forget()
	close(release)
	<-done
	for _, store := range []*Store{s, s} {
		if got, err := store.GetRange(t.Context(), pack, 0, 12); string(got) != "a right pack" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// What is compared with what somebody else has put there does not come from the cache.
func TestWhatIsThereIsNotTheCaches(t *testing.T) {
	s := newBucket(t, Options{Cache: t.TempDir()})
	data := []byte("a list of members")
	members := digestPath(data)
	if err := s.Put(t.Context(), members, data); err != nil {
		t.Fatal(err)
	}
	other := open(t, s.place, Options{}) // the storage replaces it
	if err := errors.Join(other.Delete(t.Context(), members), other.Put(t.Context(), members, []byte("garbage"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), members, data); !errors.Is(err, blob.ErrExists) {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), members); string(got) != "garbage" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A service that does not keep metadata cannot tell who has stored an object.
func TestAServiceWithoutMetadata(t *testing.T) {
	s, proxy := behind(t, Options{})
	proxy.Fault = func(int, *http.Request) s3test.Fault { return s3test.Fault{NoMetadata: true} }
	if err := s.TryWrite(t.Context()); !errors.Is(err, blob.ErrNotExclusive) || !strings.Contains(err.Error(), "metadata") {
		t.Error(err)
	}
}

func digestPath(data []byte) string { return blob.MembersPath(sha256.Sum256(data)) }
