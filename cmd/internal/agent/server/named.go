package server

import (
	"context"
	"errors"
	"fmt"
	"net"

	"filippo.io/age"
	"storj.io/drpc/drpcmux"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/token"
)

// A KeyringFunc opens the keyring of named keys with the agent's token, and records uses with record. The
// caller must call release at the end.
type KeyringFunc func(ctx context.Context, t *token.Token, record hsmkeys.RecordFunc) (k *hsmkeys.Keyring, release func() error, err error)

// A named is the keyring of named keys. It is opened when it is needed first, and released when the agent
// is locked.
type named struct {
	turn    chan struct{} // capacity 1; guards the fields below, as a mutex whose Lock can be cancelled
	keyring *hsmkeys.Keyring
	release func() error
	dropped []func() error // of keyrings that were opened before, called when the agent is locked
}

func (n *named) get(ctx context.Context, t *token.Token, open KeyringFunc, record hsmkeys.RecordFunc) (*hsmkeys.Keyring, error) {
	select {
	case n.turn <- struct{}{}:
		defer func() { <-n.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if n.keyring == nil {
		k, release, err := open(ctx, t, record)
		if err != nil {
			return nil, err
		}
		n.keyring, n.release = k, release
	}
	return n.keyring, nil
}

// drop makes the next call open the keyring anew. Other calls may still use this one.
func (n *named) drop(k *hsmkeys.Keyring) {
	n.turn <- struct{}{}
	defer func() { <-n.turn }()
	if n.keyring == k {
		n.dropped, n.keyring = append(n.dropped, n.release), nil
	}
}

func (n *named) close() error {
	n.turn <- struct{}{}
	defer func() { <-n.turn }()
	if n.keyring != nil {
		n.dropped, n.keyring = append(n.dropped, n.release), nil
	}
	var err error
	for _, release := range n.dropped {
		err = errors.Join(err, release())
	}
	n.dropped = nil
	return err
}

// A namedConn is a connection of a process that gets the use of named keys and nothing else.
type namedConn struct {
	wire.DRPCAgentUnimplementedServer // but for Hello

	server *Server
	socket net.Conn
	peer   peer
	sealer *wire.Sealer // nil before Hello
}

// serveNamed serves one connection of the socket for other users to its end.
func (s *Server) serveNamed(ctx context.Context, socket net.Conn) {
	defer socket.Close()
	from, err := peerOf(socket)
	if err != nil {
		return // and the client is told that the connection has ended
	}
	c := &conn{socket: socket} // to be counted, and ended with the agent
	if !s.admit(c, from.uid) {
		return
	}
	defer s.leave(c, from.uid)
	n := &namedConn{server: s, socket: socket, peer: from}
	mux := drpcmux.New()
	if err := errors.Join(wire.DRPCRegisterAgent(mux, n), wire.DRPCRegisterKeys(mux, namedCalls{n})); err != nil {
		s.config.Warn(err)
		return
	}
	s.serveRPC(ctx, socket, mux)
}

// Hello is the first call of a connection.
func (n *namedConn) Hello(_ context.Context, in *wire.HelloRequest) (*wire.HelloReply, error) {
	if n.sealer != nil {
		return nil, errTwice
	}
	if !n.server.policy.Load().knows(n.peer) { // the deadline of the connection stays
		return nil, fmt.Errorf("%w: no rule names user %d", wire.ErrPolicy, n.peer.uid)
	}
	sealer, reply, err := n.server.hello(n.socket, in)
	if err != nil {
		return nil, err
	}
	n.sealer, reply.NamedKeys = sealer, true
	return reply, nil
}

// namedCalls are the calls of a namedConn.
type namedCalls struct{ *namedConn }

var errTooManyKeys = fmt.Errorf("a file is encrypted under 1 to %d keys", maxRefs)

const maxRefs = 16

// Wrap wraps a file key under the keys that the policy allows the client to encrypt with.
func (n namedCalls) Wrap(ctx context.Context, in *wire.WrapFileKeyRequest) (*wire.Stanzas, error) {
	if len(in.GetRefs()) == 0 || len(in.GetRefs()) > maxRefs {
		return nil, errTooManyKeys
	}
	var refs []hsmkeys.Ref
	for _, m := range in.GetRefs() {
		ref := hsmkeys.Ref{Name: m.GetName(), Version: int(m.GetVersion())}
		if err := n.server.policy.Load().check(n.peer, opEncrypt, ref.Name); err != nil {
			return nil, n.refused(ctx, in.GetUse(), hsmkeys.Use{Operation: hsmkeys.OpEncrypt, Key: ref.Name, Version: ref.Version}, err)
		}
		refs = append(refs, ref)
	}
	reply := &wire.Stanzas{}
	err := n.withKeyring(ctx, in.GetUse(), func(ctx context.Context, k *hsmkeys.Keyring) error {
		fileKey, err := n.sealer.Open(in.GetFileKey())
		if err != nil {
			return err
		}
		defer clear(fileKey)
		for _, ref := range refs {
			stanzas, err := wrapUnder(ctx, k, ref, fileKey)
			if err != nil {
				return err
			}
			reply.Stanzas = append(reply.Stanzas, wire.FromStanzas(stanzas)...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func wrapUnder(ctx context.Context, k *hsmkeys.Keyring, ref hsmkeys.Ref, fileKey []byte) (stanzas []*age.Stanza, err error) {
	key, err := k.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, key.Close()) }()
	return key.Recipient(ctx).Wrap(fileKey)
}

// Unwrap opens a file key, if the policy allows the client to decrypt with one of the file's keys.
func (n namedCalls) Unwrap(ctx context.Context, in *wire.UnwrapFileKeyRequest) (*wire.Sealed, error) {
	var sealed *wire.Sealed
	err := n.withKeyring(ctx, in.GetUse(), func(ctx context.Context, k *hsmkeys.Keyring) error {
		identity := k.IdentityIf(ctx, func(key string) error { return n.server.policy.Load().check(n.peer, opDecrypt, key) })
		fileKey, err := identity.Unwrap(wire.ToStanzas(in.GetStanzas()))
		defer clear(fileKey)
		if err == nil {
			sealed = n.sealer.Seal(fileKey)
		}
		return err
	})
	return sealed, err
}

// withKeyring calls f with the keyring, and with a context in which the client is the one who uses it.
func (n namedCalls) withKeyring(ctx context.Context, use *wire.Use, f func(context.Context, *hsmkeys.Keyring) error) error {
	if n.sealer == nil {
		return errNoHello
	}
	s := n.server
	ctx, stop := s.login.untilLock(ctx)
	defer stop()
	err := s.noteLoss(s.login.with(func(t *token.Token) error {
		k, err := s.login.named.get(ctx, t, s.config.Keyring, s.recordByContext())
		if err != nil {
			return err
		}
		err = f(n.by(ctx, use), k)
		if errors.Is(err, dir.ErrExchanged) {
			s.login.named.drop(k)
		}
		return err
	}))
	if errors.Is(err, wire.ErrLocked) {
		return failure.WithHint(err, "the user of the agent unlocks it, with hsmkeys agent unlock")
	}
	return err
}

// by returns a context for what the client does. Of what it says, command and files are taken; the
// keyring knows the rest.
func (n namedCalls) by(ctx context.Context, use *wire.Use) context.Context {
	said := use.Spec(nil)
	return hsmkeys.WithUse(context.WithValue(ctx, peerKey{}, n.peer), hsmkeys.Use{Command: said.Command, File: said.File, Output: said.Output, Request: said.Request})
}

// refused records what the policy has refused, and returns why.
func (n namedCalls) refused(ctx context.Context, use *wire.Use, u hsmkeys.Use, err error) error {
	return hsmkeys.RecordUse(hsmkeys.WithUse(n.by(ctx, use), u), n.server.recordFor(n.peer), err)
}

type peerKey struct{}

// recordByContext returns the function that records for the client in the context, or nil.
func (s *Server) recordByContext() hsmkeys.RecordFunc {
	if s.config.Record == nil {
		return nil
	}
	return func(ctx context.Context, e hsmkeys.Event) error {
		by, ok := ctx.Value(peerKey{}).(peer)
		if !ok { // the agent itself opens the keyring
			return s.config.Record(audit.Record{Process: audit.ThisProcess(), Event: e})
		}
		return s.recordFor(by)(ctx, e)
	}
}
