package server

import (
	"context"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
)

// A use is a request that uses a pair, as a client describes it. Of a record of use, the agent knows
// user, process, pair and, but for what a key is opened for, the operation; command, key and file are
// what the client says.
type use interface {
	GetPair() *wire.Pair
	GetUse() *wire.Use
}

// recordFor returns the function that records for a process, or nil.
func (s *Server) recordFor(by peer) hsmkeys.RecordFunc {
	if s.config.Record == nil {
		return nil
	}
	return func(_ context.Context, e hsmkeys.Event) error {
		return s.config.Record(audit.Record{Process: audit.ProcessOf(by.uid, by.pid), Event: e})
	}
}

// used records a use. It returns err, or if that is nil why the use could not be recorded: the client
// must not get the result then.
func (c *conn) used(ctx context.Context, in use, operation string, err error) error {
	return hsmkeys.RecordUse(hsmkeys.WithUse(ctx, useOf(in, operation)), c.server.recordFor(c.peer), err)
}

// changes records that a change is about to be made on the token, makes it, and records the outcome.
func (c *conn) changes(ctx context.Context, in use, operation string, do func() error) error {
	return hsmkeys.RecordChange(ctx, c.server.recordFor(c.peer), useOf(in, operation), "", func(context.Context) error { return do() })
}

func useOf(in use, operation string) hsmkeys.Use {
	u := in.GetUse().Spec(in.GetPair())
	if operation != hsmkeys.OpOpen || u.Operation == "" { // only the client knows what it opens a key for
		u.Operation = operation
	}
	return u
}
