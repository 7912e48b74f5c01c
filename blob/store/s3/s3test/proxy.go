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

// A Proxy is an HTTP proxy that injects faults.
type Proxy struct {
	URL string // of its endpoint

	// Fault returns the fault for request n, counting from 0. Nil means no faults.
	Fault func(n int, r *http.Request) Fault

	// Serve may respond to a request in place of the service, and reports whether it did. It may be nil.
	Serve func(w http.ResponseWriter, r *http.Request) bool

	// Delay is the minimum duration of each request.
	Delay time.Duration

	target   *url.URL
	requests atomic.Int64
	mu       sync.Mutex
	lists    map[string][]byte // previous responses to lists, for Lag
	seen     []string
}

// A Fault describes what happens to one request. The zero value is no fault.
type Fault struct {
	Status     int           // HTTP status returned instead of forwarding the request; 0 to forward it
	Code       string        // error code in that response
	RetryAfter string        // header of that response
	Lose       bool          // the request is forwarded and the response is dropped
	Reset      bool          // the connection is reset in the middle of the response
	Cut        bool          // a list is truncated without an error of HTTP
	Slow       time.Duration // pause in the middle of the response
	NoMetadata bool          // the response has no metadata of the object
	Lag        bool          // the previous response to the same list is returned
}

// NewProxy starts a Proxy. It is closed when the test ends.
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

// Requests returns the number of requests received.
func (p *Proxy) Requests() int { return int(p.requests.Load()) }

// Seen returns the requests received since the last call: method, path and range.
func (p *Proxy) Seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen
	p.seen = nil
	return seen
}

// ServeHTTP forwards a request.
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
	if f.NoMetadata {
		for name := range w.Header() {
			if strings.HasPrefix(name, "X-Amz-Meta-") {
				w.Header().Del(name)
			}
		}
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

// pass forwards a request to the service. It keeps the Host header, which the signature covers.
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
