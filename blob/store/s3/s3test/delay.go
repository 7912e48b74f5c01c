package s3test

import (
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// A Delay passes connections on to a service, and each request takes so much longer. It knows nothing of HTTP, and
// so takes next to no time of the processor: with it a benchmark measures the client.
type Delay struct {
	URL string // of its endpoint

	delay atomic.Int64
}

// NewDelay starts one, which delays nothing yet, until the test ends.
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

// Set sets how much longer each request takes.
func (d *Delay) Set(delay time.Duration) { d.delay.Store(int64(delay)) }

// pass passes one connection on. What comes after an answer is a request.
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
