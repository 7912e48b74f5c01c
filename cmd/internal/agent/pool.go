package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"storj.io/drpc"
	"storj.io/drpc/drpcconn"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/token"
)

// A conn is one connection to the agent, for one call at a time.
type conn struct {
	rpc    *drpcconn.Conn
	sealer *wire.Sealer

	// Guarded by the pool.
	calls int // under way
	open  int // keys
}

func (n *conn) agent() wire.DRPCAgentClient { return wire.NewDRPCAgentClient(n.rpc) }

func (n *conn) keys() wire.DRPCKeysClient { return wire.NewDRPCKeysClient(n.rpc) }

// closed reports whether the connection has ended.
func (n *conn) closed() bool {
	select {
	case <-n.rpc.Closed():
		return true
	default:
		return false
	}
}

// maxConns is how many connections a client opens: as many as a token makes calls at the same time.
const maxConns = token.MaxSessions

// A pool lends connections, each to one call at a time if there are enough. A session key belongs to the
// connection over which it was opened.
type pool struct {
	mu   sync.Mutex
	all  []*conn
	dial func(context.Context) (*conn, error)
}

func (p *pool) start(first *conn, dial func(context.Context) (*conn, error)) {
	p.all, p.dial = []*conn{first}, dial
}

// get returns a connection without a call under way, of those the one with the fewest keys, or a new
// one. The caller must release it.
func (p *pool) get(ctx context.Context) (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var least *conn
	alive := p.all[:0]
	for _, n := range p.all {
		if n.closed() {
			continue
		}
		alive = append(alive, n)
		if least == nil || n.calls < least.calls || n.calls == least.calls && n.open < least.open {
			least = n
		}
	}
	p.all = alive
	if least == nil || least.calls > 0 && len(p.all) < maxConns {
		another, err := p.dial(ctx)
		switch {
		case err == nil:
			least, p.all = another, append(p.all, another)
		case least == nil:
			return nil, err
		} // or else the agent has no room for another connection
	}
	least.calls++
	return least, nil
}

// enter counts a call on a connection that get has not returned, and leaves it to release.
func (p *pool) enter(n *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.calls++
}

// hold counts an open key, or with -1 one that was closed.
func (p *pool) hold(n *conn, keys int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.open += keys
}

func (p *pool) release(n *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.calls--
}

func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	for _, n := range p.all {
		err = errors.Join(err, n.rpc.Close())
	}
	return err
}

// fromAgent returns the error of a call: what the agent has sent, or [ErrGone].
func fromAgent(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if remote, ok := wire.UnmarshalError(err.Error()); ok {
		return remote
	}
	if drpc.ClosedError.Has(err) || drpc.ProtocolError.Has(err) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return &token.Error{Op: "use the token through the agent", Kind: token.ErrLost, Err: fmt.Errorf("%w: %w", ErrGone, err)}
	}
	return err
}

// call makes a call over any connection.
func call[T any](ctx context.Context, c *Client, f func(*conn) (T, error)) (T, error) {
	n, err := c.pool.get(ctx)
	if err != nil {
		var none T
		return none, err
	}
	defer c.pool.release(n)
	reply, err := f(n)
	return reply, fromAgent(ctx, err)
}
