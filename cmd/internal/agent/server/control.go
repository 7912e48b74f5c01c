package server

import (
	"bytes"
	"context"
	"os"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
	"github.com/hsmkeys/hsmkeys/token"
)

// Status returns what the agent does at the moment. It asks the token whether it is there.
func (c *conn) Status(ctx context.Context, _ *wire.Empty) (*wire.StatusReply, error) {
	s := c.server
	idle := s.login.idle()
	err := s.noteLoss(s.login.check(ctx))
	info, reason := s.login.state()
	reply := &wire.StatusReply{
		Lock: wire.FromLock(reason), Token: wire.FromInfo(info), Pid: int64(os.Getpid()),
		LockAfterSeconds: int64(s.config.LockAfter.Seconds()), IdleSeconds: int64(idle.Seconds()),
		Clients: int64(len(s.all())) - 1, SessionKeys: s.keys.Load(), Allows: s.config.Allows,
	}
	if err != nil {
		reply.Away = []byte(err.Error())
	}
	return reply, nil
}

// Lock destroys all session keys and logs out.
func (c *conn) Lock(context.Context, *wire.Empty) (*wire.Empty, error) {
	return &wire.Empty{}, c.server.Lock("hsmkeys agent lock")
}

// Unlock logs in with the PIN that the client sends. The PIN is tried once.
func (c *conn) Unlock(ctx context.Context, in *wire.UnlockRequest) (*wire.Empty, error) {
	if c.sealer == nil {
		return nil, errNoHello
	}
	pin, err := c.sealer.Open(in.GetPin())
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	err = c.server.Unlock(ctx, func(context.Context, token.Info) ([]byte, error) { return bytes.Clone(pin), nil })
	if err != nil {
		err = c.used(ctx, &wire.UnwrapRequest{}, audit.OpLogin, err)
	}
	return &wire.Empty{}, err
}

// Stop ends the agent, after it has answered.
func (c *conn) Stop(context.Context, *wire.Empty) (*wire.Empty, error) {
	c.server.Stop()
	return &wire.Empty{}, nil
}
