package main

import (
	"context"
	"errors"
	"net"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/server"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

var errNoAgent = errors.New("the agent runs on Linux alone")

func startAgent(context.Context, *settings.Settings) error { return errNoAgent }

func leaveForeground() error { return nil }

func serveCommand(context.Context, *server.Server, net.Listener, []string) error {
	return errNoAgent
}
