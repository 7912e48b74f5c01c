package s3test

import (
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// A Delay is a TCP proxy that delays each request. It does not parse HTTP, so it uses almost no CPU time and does
// not distort a benchmark of the client.
type Delay struct {
	URL string // of its endpoint

	delay atomic.Int64
}

// NewDelay starts a Delay, initially of zero. It is closed when the test ends.
func NewDelay(t testing.TB, target string) *Delay {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := &Delay{URL: "http://" + l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go d.pass(client, to.Host)
		}
	}()
	return d
}

// Set sets the delay of each request.
func (d *Delay) Set(delay time.Duration) { d.delay.Store(int64(delay)) }

// pass forwards one connection. The first data from the client after a response starts a request.
func (d *Delay) pass(client net.Conn, to string) {
	defer client.Close()
	service, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer service.Close()
	var answered atomic.Bool
	answered.Store(true)
	go func() {
		defer client.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := service.Read(buffer)
			answered.Store(true)
			if _, failed := client.Write(buffer[:n]); err != nil || failed != nil {
				return
			}
		}
	}()
	_, _ = io.Copy(writerFunc(func(b []byte) (int, error) {
		if answered.Swap(false) {
			time.Sleep(time.Duration(d.delay.Load()))
		}
		return service.Write(b)
	}), client)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
