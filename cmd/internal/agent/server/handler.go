package server

import (
	"path"
	"sync"
	"time"

	"storj.io/drpc"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/cmd/internal/hint"
	"github.com/hsmkeys/hsmkeys/cmd/internal/metrics"
)

// A handler handles the calls of a connection: it counts them, and encodes their errors.
type handler struct {
	calls drpc.Handler
	meter *metrics.Meter
}

// HandleRPC handles one call.
func (h handler) HandleRPC(stream drpc.Stream, rpc string) error {
	began := time.Now()
	err := h.calls.HandleRPC(stream, rpc)
	h.meter.Operation(callName(rpc), time.Since(began), err)
	if err != nil {
		return wire.MarshalError(err, hint.For(err))
	}
	return nil
}

// callName returns the name of a call, or "unknown": a client may name anything.
func callName(rpc string) string {
	if known()[rpc] {
		return path.Base(rpc)
	}
	return "unknown"
}

var known = sync.OnceValue(func() map[string]bool {
	all := map[string]bool{}
	for _, service := range []drpc.Description{wire.DRPCAgentDescription{}, wire.DRPCKeysDescription{}} {
		for n := range service.NumMethods() {
			rpc, _, _, _, _ := service.Method(n)
			all[rpc] = true
		}
	}
	return all
})
