package agent

import (
	"context"
	"errors"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
)

// Status returns what the agent does at the moment.
func (c *Client) Status(ctx context.Context) (*wire.StatusReply, error) {
	return call(ctx, c, func(n *conn) (*wire.StatusReply, error) { return n.agent().Status(ctx, &wire.Empty{}) })
}

// Lock makes the agent log out and destroy the session keys. It is no error if it is locked already.
func (c *Client) Lock(ctx context.Context) error {
	_, err := call(ctx, c, func(n *conn) (*wire.Empty, error) { return n.agent().Lock(ctx, &wire.Empty{}) })
	return err
}

// Unlock makes the agent log in with a PIN, which the caller must overwrite. It is no error if the agent
// is not locked; the PIN is not tried then.
func (c *Client) Unlock(ctx context.Context, pin []byte) error {
	_, err := call(ctx, c, func(n *conn) (*wire.Empty, error) {
		return n.agent().Unlock(ctx, &wire.UnlockRequest{Pin: n.sealer.Seal(pin)})
	})
	return err
}

// Stop ends the agent, and waits until it has ended the connection.
func (c *Client) Stop(ctx context.Context) error {
	_, err := call(ctx, c, func(n *conn) (*wire.Empty, error) {
		reply, err := n.agent().Stop(ctx, &wire.Empty{})
		if err == nil {
			select {
			case <-n.rpc.Closed():
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		return reply, err
	})
	if errors.Is(err, ErrGone) {
		return nil
	}
	return err
}
