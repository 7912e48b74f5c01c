package server

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"storj.io/drpc"
	"storj.io/drpc/drpcmux"
	"storj.io/drpc/drpcserver"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/token"
)

// A conn is a connection of a process of the agent's own user. It makes one call at a time.
type conn struct {
	wire.DRPCAgentUnimplementedServer

	server *Server
	socket net.Conn
	peer   peer
	sealer *wire.Sealer // nil before Hello

	mu   sync.Mutex // locking the agent destroys keys, too
	keys map[uint32]openKey
	last uint32
}

// An openKey is a session key that a client has opened: either in use or in transit.
type openKey struct {
	key     keyspec.SessionKey
	transit keyspec.Transit
	pair    *wire.Pair // with which it was opened
}

func (k openKey) close() error {
	if k.key != nil {
		return k.key.Close()
	}
	return k.transit.Close()
}

// maxKeys is how many session keys a connection may have open.
const maxKeys = 64

func (s *Server) uid() int { return os.Geteuid() }

// serve serves one connection to its end.
func (s *Server) serve(ctx context.Context, socket net.Conn) {
	defer socket.Close()
	from, err := peerOf(socket)
	if err != nil || from.uid != s.uid() {
		return // others cannot reach the socket, unless the agent was started in a directory of theirs
	}
	c := &conn{server: s, socket: socket, peer: from, keys: map[uint32]openKey{}}
	if !s.admit(c, from.uid) {
		return
	}
	defer s.leave(c, from.uid)
	defer c.destroyKeys()
	mux := drpcmux.New()
	if err := wire.DRPCRegisterAgent(mux, c); err != nil {
		s.config.Warn(err)
		return
	}
	s.serveRPC(ctx, socket, mux)
}

// helloWithin is how long a client may take to say hello.
const helloWithin = 10 * time.Second

// serveRPC serves the calls of a connection. Its errors are of no interest: a client that ended, or sends
// what is no call.
func (s *Server) serveRPC(ctx context.Context, socket net.Conn, calls drpc.Handler) {
	_ = socket.SetReadDeadline(time.Now().Add(helloWithin)) // Hello clears it
	ctx, lost := context.WithCancel(ctx)
	defer lost()
	server := drpcserver.NewWithOptions(handler{calls, s.config.Meter}, drpcserver.Options{Manager: wire.Limits()})
	_ = server.ServeOne(ctx, newTransport(socket, lost))
}

// hello does what every connection begins with.
func (s *Server) hello(socket net.Conn, in *wire.HelloRequest) (*wire.Sealer, *wire.HelloReply, error) {
	handshake, err := wire.NewHandshake(true)
	if err != nil {
		return nil, nil, err
	}
	sealer, err := handshake.Finish(in.GetX25519())
	if err != nil {
		return nil, nil, err
	}
	_ = socket.SetReadDeadline(time.Time{})
	info, reason := s.login.state()
	return sealer, &wire.HelloReply{X25519: handshake.Public(), Token: wire.FromInfo(info), Lock: wire.FromLock(reason)}, nil
}

var errTwice = errors.New("hello was said before")

// Hello is the first call of a connection.
func (c *conn) Hello(_ context.Context, in *wire.HelloRequest) (*wire.HelloReply, error) {
	if c.sealer != nil {
		return nil, errTwice
	}
	sealer, reply, err := c.server.hello(c.socket, in)
	if err != nil {
		return nil, err
	}
	c.sealer = sealer
	reply.Allows, reply.RequiresToken = c.server.config.Allows, c.server.config.RequiresToken
	return reply, nil
}

var errNoHello = errors.New("the first call of a connection is Hello")

// withToken calls f with the token, after Hello.
func (c *conn) withToken(f func(*token.Token) error) error {
	if c.sealer == nil {
		return errNoHello
	}
	return c.server.noteLoss(c.server.login.with(f))
}

// withPair calls f with a pair that FindPair has found.
func (c *conn) withPair(ctx context.Context, ref *wire.Pair, f func(*token.KeyPair) error) error {
	return c.withToken(func(t *token.Token) error {
		pair, err := c.server.login.pair(ctx, t, ref)
		if err != nil {
			return err
		}
		return f(pair)
	})
}

// noteLoss locks the agent if the token went away and only a person has its PIN.
func (s *Server) noteLoss(err error) error {
	if errors.Is(err, token.ErrLost) && (errors.Is(err, token.ErrPINNeeded) || errors.Is(err, token.ErrPIN) || errors.Is(err, token.ErrPINLocked) || errors.Is(err, token.ErrFinalTry)) {
		if failed := s.Lock("the token went away: " + err.Error()); failed != nil {
			s.config.Warn(failed)
		}
	}
	return err
}

// add takes a session key into the connection's care.
func (c *conn) add(k openKey, where keyspec.Residence) (*wire.OpenedKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.keys) >= maxKeys {
		return nil, errors.Join(wire.ErrTooMany, k.close())
	}
	c.last++
	c.keys[c.last] = k
	c.server.keys.Add(1)
	return &wire.OpenedKey{Handle: c.last, Residence: string(where)}, nil
}

var errNoKey = errors.New("the session key is not open: the agent was locked, or the key was closed")

// withKey calls f with a session key that is open.
func (c *conn) withKey(handle uint32, f func(*token.Token, openKey) error) error {
	return c.withToken(func(t *token.Token) error {
		c.mu.Lock()
		k, ok := c.keys[handle]
		c.mu.Unlock()
		if !ok {
			return &token.Error{Op: "use the session key", Kind: token.ErrClosed, Err: errNoKey}
		}
		return f(t, k)
	})
}

// CloseKey destroys a session key.
func (c *conn) CloseKey(_ context.Context, in *wire.KeyRequest) (*wire.Empty, error) {
	c.mu.Lock()
	k, ok := c.keys[in.GetHandle()]
	delete(c.keys, in.GetHandle())
	c.mu.Unlock()
	if !ok {
		return &wire.Empty{}, nil
	}
	c.server.keys.Add(-1)
	return &wire.Empty{}, k.close()
}

// destroyKeys destroys all session keys of the connection.
func (c *conn) destroyKeys() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for handle, k := range c.keys {
		if err := k.close(); err != nil && !errors.Is(err, token.ErrLost) {
			c.server.config.Warn(err)
		}
		delete(c.keys, handle)
		c.server.keys.Add(-1)
	}
}
