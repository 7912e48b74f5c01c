package s3test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Proxy passes requests on to a service, and does to them what its Fault says.
type Proxy struct {
	URL string // of its endpoint

	// Fault is called for each request with its number, from 0 on; nil for none.
	Fault func(n int, r *http.Request) Fault

	// Serve answers a request in the place of the service, or returns false; nil for none.
	Serve func(w http.ResponseWriter, r *http.Request) bool

	// Delay is how long each request takes at least.
	Delay time.Duration

	target   *url.URL
	requests atomic.Int64
	mu       sync.Mutex
	lists    map[string][]byte // the answers from before, for Lag
	seen     []string
}

// A Fault is what is done to one request. The zero value is nothing.
type Fault struct {
	Status     int           // answered in the place of the service; 0 for none
	Code       string        // of the error that is answered
	RetryAfter string        // the header of that answer
	Lose       bool          // the service does it, and nobody hears of that
	Reset      bool          // the connection is reset in the middle of the answer
	Cut        bool          // a list ends in its middle, as if that were all
	Slow       time.Duration // between the first bytes of an answer and the others
	Lag        bool          // a list is answered as it was the time before
}

// NewProxy starts a proxy in front of a service, until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: to, lists: map[string][]byte{}}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	p.URL = s.URL
	return p
}

// Requests returns how many requests have come.
func (p *Proxy) Requests() int { return int(p.requests.Load()) }

// Seen returns the requests since it was called last: method and path.
func (p *Proxy) Seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen
	p.seen = nil
	return seen
}

// ServeHTTP passes a request on.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := int(p.requests.Add(1)) - 1
	p.mu.Lock()
	p.seen = append(p.seen, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Range"))
	p.mu.Unlock()
	var f Fault
	if p.Fault != nil {
		f = p.Fault(n, r)
	}
	time.Sleep(p.Delay)
	if f.Status != 0 {
		_, _ = io.Copy(io.Discard, r.Body)
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		w.WriteHeader(f.Status)
		if f.Code != "" {
			_, _ = io.WriteString(w, "<Error><Code>"+f.Code+"</Code><Message>as the test wants it</Message></Error>")
		}
		return
	}
	if p.Serve != nil && p.Serve(w, r) {
		return
	}
	answer, body, err := p.pass(r)
	if err != nil {
		drop(w)
		return
	}
	if f.Lose {
		drop(w)
		return
	}
	if isList(r) && answer.StatusCode == http.StatusOK {
		key := r.URL.RequestURI()
		p.mu.Lock()
		before, ok := p.lists[key]
		p.lists[key] = body
		p.mu.Unlock()
		if f.Lag && ok {
			body = before
		}
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	if isList(r) {
		if w.Header().Del("Content-Length"); f.Cut {
			body = body[:len(body)/2]
		}
	}
	w.WriteHeader(answer.StatusCode)
	half := len(body) / 2
	_, _ = w.Write(body[:half])
	if f.Reset {
		_ = http.NewResponseController(w).Flush()
		drop(w)
		return
	}
	if f.Slow > 0 {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(f.Slow):
		case <-r.Context().Done():
			return
		}
	}
	_, _ = w.Write(body[half:])
}

func isList(r *http.Request) bool { return strings.Contains(r.URL.RawQuery, "list-type=2") }

// pass sends a request to the service. Its signature covers the name of the host, which stays.
func (p *Proxy) pass(r *http.Request) (*http.Response, []byte, error) {
	in, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, err
	}
	to := *r.URL
	to.Scheme, to.Host = p.target.Scheme, p.target.Host
	out, err := http.NewRequestWithContext(r.Context(), r.Method, to.String(), bytes.NewReader(in))
	if err != nil {
		return nil, nil, err
	}
	out.Header, out.Host, out.ContentLength = r.Header.Clone(), r.Host, int64(len(in))
	answer, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer, body, err
}

// drop resets the connection.
func drop(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
