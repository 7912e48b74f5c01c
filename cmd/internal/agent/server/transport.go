package server

import (
	"io"
	"net"
	"sync"
	"time"
)

// A transport is the socket of a connection, as DRPC reads it. DRPC stops reading at a frame that belongs
// to no call, and would then not see that the client has gone: its session keys would stay. So the
// transport reads ahead by one chunk, and calls lost when the client has gone, or when nobody has taken
// the chunk for a time.
type transport struct {
	net.Conn
	lost   func()
	chunks chan []byte
	rest   []byte // of the last chunk
	closed chan struct{}
	close  sync.Once
}

// stalled is how long a chunk may wait to be taken.
const stalled = 10 * time.Second

func newTransport(socket net.Conn, lost func()) *transport {
	t := &transport{Conn: socket, lost: lost, chunks: make(chan []byte), closed: make(chan struct{})}
	go t.read()
	return t
}

func (t *transport) read() {
	defer t.lost()
	defer close(t.chunks)
	for {
		chunk := make([]byte, 4<<10)
		n, err := t.Conn.Read(chunk)
		if n > 0 {
			select {
			case t.chunks <- chunk[:n]:
			case <-t.closed:
				return
			case <-time.After(stalled):
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Read returns what the client has sent, or io.EOF when it has gone.
func (t *transport) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		chunk, ok := <-t.chunks
		if !ok {
			return 0, io.EOF
		}
		t.rest = chunk
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// Close closes the socket.
func (t *transport) Close() error {
	t.close.Do(func() { close(t.closed) })
	return t.Conn.Close()
}
