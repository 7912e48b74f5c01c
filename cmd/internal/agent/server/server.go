// Package server is the agent: a process that is logged in to a token, and serves the operations of its
// key exchange pairs, and of session keys, to other processes on a Unix socket.
//
// Each connection is one goroutine, which owns the session keys that were opened over the connection
// and destroys them at its end. Processes of the agent's own user get the operations of the pairs;
// those of other users, on a second socket, the named keys that a policy allows them.
package server

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
	"github.com/hsmkeys/hsmkeys/cmd/internal/metrics"
	"github.com/hsmkeys/hsmkeys/token"
)

// A PINFunc returns a PIN, which the caller clears.
type PINFunc = func(context.Context, token.Info) ([]byte, error)

// A Config is how an agent is started.
type Config struct {
	// Info is what the token states about itself.
	Info token.Info
	// Open logs in to the token with a PIN, which it asks for once.
	Open func(context.Context, PINFunc) (*token.Token, error)

	// LockAfter is how long the token may be unused before the agent locks itself; 0 means for ever.
	LockAfter time.Duration
	// Allows are the operations of reveal, load and export that the agent does.
	Allows []string
	// RequiresToken is set if session keys may live on the token alone.
	RequiresToken bool

	// Record records each session key that is opened, before the client gets it, and each signature. It
	// may be nil.
	Record func(audit.Record) error

	// Policy is a file that says which other users may use which keys, see [ReadPolicy]. It may be empty.
	Policy string
	// Keyring opens the keyring that these use.
	Keyring KeyringFunc

	// Meter counts calls; it may be nil.
	Meter *metrics.Meter

	// Warn is called with errors that do not end the agent.
	Warn func(error)
}

// A Server is an agent.
type Server struct {
	config Config
	login  *login
	policy atomic.Pointer[Policy]

	mu      sync.Mutex
	conns   map[*conn]struct{}
	perUser map[int]int // connections by user

	keys    atomic.Int64 // session keys that are open
	stop    chan struct{}
	stopped sync.Once
}

// New returns an agent that is locked.
func New(config Config) *Server {
	s := &Server{
		config: config, login: newLogin(config.Open, config.Info, "nobody has unlocked it since it was started"),
		conns: map[*conn]struct{}{}, perUser: map[int]int{}, stop: make(chan struct{}),
	}
	config.Meter.Gauge("sessions", func() float64 { return float64(s.login.sessions()) })
	config.Meter.Gauge("session_keys", func() float64 { return float64(s.keys.Load()) })
	config.Meter.Gauge("clients", func() float64 { return float64(len(s.all())) })
	config.Meter.Gauge("locked", func() float64 {
		if _, reason := s.login.state(); reason != "" {
			return 1
		}
		return 0
	})
	return s
}

// Unlock logs in with a PIN. It is no error if the agent is not locked.
func (s *Server) Unlock(ctx context.Context, pin PINFunc) error { return s.login.unlock(ctx, pin) }

// Lock destroys all session keys and logs out.
func (s *Server) Lock(reason string) error { return s.lockUnused(reason, 0) }

// lockUnused is Lock if the token has not been used for a time.
func (s *Server) lockUnused(reason string, unused time.Duration) error {
	return s.login.lock(reason, unused, func() {
		for _, c := range s.all() {
			c.destroyKeys()
		}
	})
}

// Stop makes Serve return.
func (s *Server) Stop() { s.stopped.Do(func() { close(s.stop) }) }

// The limits on connections: each has at most a message in memory, see wire.MaxMessage, and its
// session keys.
const (
	maxConns        = 512
	maxConnsOfOther = 32  // of one other user
	maxConnsOthers  = 448 // of all other users, so that its own can always lock it
)

// ReadPolicy reads the policy, also again. If it cannot be read, the one before it stays in force.
func (s *Server) ReadPolicy() error {
	p, err := ReadPolicy(s.config.Policy)
	if err == nil {
		s.policy.Store(p)
	}
	return err
}

// Serve accepts connections of this user, and on another socket of others if that is not nil, until ctx is
// done or Stop is called. Then it ends all connections and logs out.
func (s *Server) Serve(ctx context.Context, own, others net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	if s.config.LockAfter > 0 {
		go s.lockWhenIdle(ctx)
	}
	var accepting, serving sync.WaitGroup
	accept := func(l net.Listener, serve func(context.Context, net.Conn)) error {
		context.AfterFunc(ctx, func() { _ = l.Close() })
		defer cancel()
		return s.accept(ctx, l, func(c net.Conn) {
			serving.Go(func() { serve(ctx, c) })
		})
	}
	var failed error
	if others != nil {
		accepting.Go(func() { failed = accept(others, s.serveNamed) })
	}
	err := accept(own, s.serve)
	accepting.Wait()
	for _, c := range s.all() {
		_ = c.socket.Close()
	}
	serving.Wait()
	return errors.Join(err, failed, s.Lock("it was stopped"))
}

// accept accepts connections until ctx is done. While there is no room for another file it waits: the
// clients that have one go on.
func (s *Server) accept(ctx context.Context, l net.Listener, serve func(net.Conn)) error {
	const least, most = 5 * time.Millisecond, time.Second
	pause := least
	for {
		socket, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = socket.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ECONNABORTED):
			if pause == least {
				s.config.Warn(err)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, most)
		case err != nil:
			return err
		default:
			pause = least
			serve(socket)
		}
	}
}

// lockWhenIdle locks the agent when the token was not used for the configured time.
func (s *Server) lockWhenIdle(ctx context.Context) {
	after := s.config.LockAfter
	for {
		if err := s.lockUnused("the token was not used for "+after.String(), after); err != nil {
			s.config.Warn(err)
		}
		select {
		case <-time.After(max(after-s.login.idle(), after/16)):
		case <-ctx.Done():
			return
		}
	}
}

// admit counts a connection of a user, unless there are too many.
func (s *Server) admit(c *conn, uid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxConns {
		return false
	}
	if others := len(s.conns) - s.perUser[s.uid()]; uid != s.uid() && (s.perUser[uid] >= maxConnsOfOther || others >= maxConnsOthers) {
		return false
	}
	s.conns[c] = struct{}{}
	s.perUser[uid]++
	return true
}

func (s *Server) leave(c *conn, uid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.perUser[uid]--; s.perUser[uid] == 0 {
		delete(s.perUser, uid)
	}
}

// all returns the connections.
func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// A peer is the process at the other end of a connection.
type peer struct {
	uid, pid int
	gids     []int
}

func peerOf(socket net.Conn) (peer, error) {
	uid, pid, gids, err := agent.Peer(socket)
	return peer{uid, pid, gids}, err
}
