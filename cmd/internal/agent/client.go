// Package agent is the client of the agent, a process that is logged in to a token and serves its key
// exchange pairs on a Unix socket. To its clients a pair behind the socket is like one on a token of
// their own.
//
// Package server is the agent itself, and package wire what both say to each other.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"storj.io/drpc/drpcconn"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// Errors of the agent, for [errors.Is].
var (
	ErrLocked     = wire.ErrLocked
	ErrNotAllowed = wire.ErrNotAllowed
	ErrPolicy     = wire.ErrPolicy

	// ErrNone means that no agent listens on the socket.
	ErrNone = errors.New("no agent listens")
	// ErrGone means that the agent ended, or ended the connection.
	ErrGone = errors.New("the agent ended the connection")
	// ErrNamedOnly means that the socket is for other users, and serves named keys alone.
	ErrNamedOnly = errors.New("this socket serves other users, and only the use of named keys")
	// ErrOtherUser means that the agent belongs to another user.
	ErrOtherUser = errors.New("the agent belongs to another user")
)

// A Client is connected to an agent. It opens more connections when it makes several calls at once.
type Client struct {
	path string
	pool pool

	// Info is what the agent's token states about itself: module, slot, label, serial number,
	// manufacturer and model.
	Info token.Info
	// Locked is why the agent is locked, or "" if it is not.
	Locked string
	// Allows are those of reveal, load and export that the agent does.
	Allows []string
	// RequiresToken is set if the agent keeps session keys nowhere but on the token.
	RequiresToken bool
	// NamedOnly is set if the socket is for other users: it serves the use of named keys alone, see
	// [Client.NamedKeys].
	NamedOnly bool
}

// Dial connects to the agent that listens on a socket. The errors are [ErrNone] and [ErrOtherUser].
func Dial(ctx context.Context, path string) (*Client, error) {
	c := &Client{path: path}
	first, reply, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	c.Info = reply.GetToken().Info()
	if reply.GetLock().GetLocked() {
		c.Locked = string(reply.GetLock().GetReason())
	}
	c.Allows, c.RequiresToken, c.NamedOnly = reply.GetAllows(), reply.GetRequiresToken(), reply.GetNamedKeys()
	c.pool.start(first, func(ctx context.Context) (*conn, error) {
		another, _, err := c.connect(ctx)
		return another, err
	})
	return c, nil
}

// Close ends all connections. The agent destroys the session keys that they have opened.
func (c *Client) Close() error { return c.pool.close() }

// patience is how long an agent may take to answer that a client is there.
const patience = 10 * time.Second

// connect opens a connection and says hello.
func (c *Client) connect(ctx context.Context) (*conn, *wire.HelloReply, error) {
	fail := func(err error) (*conn, *wire.HelloReply, error) {
		return nil, nil, fmt.Errorf("agent at %q: %w", c.path, err)
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	socket, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path)
	if err != nil {
		if absent(err) {
			return fail(fmt.Errorf("%w: %w", ErrNone, err))
		}
		return fail(err)
	}
	handshake, err := wire.NewHandshake(false)
	if err != nil {
		_ = socket.Close()
		return fail(err)
	}
	user, _, _, err := Peer(socket)
	if err != nil {
		_ = socket.Close()
		return fail(err)
	}
	n := &conn{rpc: drpcconn.NewWithOptions(socket, drpcconn.Options{Manager: wire.Limits()})}
	reply, err := n.agent().Hello(ctx, &wire.HelloRequest{X25519: handshake.Public()})
	if err == nil && user != os.Geteuid() {
		err = c.believes(user, reply)
	}
	if err == nil {
		n.sealer, err = handshake.Finish(reply.GetX25519())
	}
	if err != nil {
		_ = n.rpc.Close()
		if ctx.Err() == context.DeadlineExceeded {
			return fail(fmt.Errorf("it does not answer within %v", patience))
		}
		return fail(fromAgent(ctx, err))
	}
	return n, reply, nil
}

// believes returns an error unless the agent of another user is the one that this user has named: it gets
// file keys, and decides what a file is encrypted under.
func (c *Client) believes(user int, reply *wire.HelloReply) error {
	if !reply.GetNamedKeys() {
		return ErrOtherUser
	}
	if err := ownfile.CheckPlaceOf(c.path, user); err != nil { // anybody may have made the socket
		return fmt.Errorf("%w, user %d: %w", ErrOtherUser, user, err)
	}
	return nil
}
