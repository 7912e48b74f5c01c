package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/server"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

// runAgent runs an agent: for a command, in the foreground, or in the background.
func runAgent(ctx context.Context, s *settings.Settings, o agentOptions) error {
	if len(o.command) == 0 && !o.foreground && os.Getenv("LISTEN_PID") == "" {
		return startAgent(ctx, s)
	}
	socket, remove, err := agentPlace(s, o)
	if err != nil {
		return err
	}
	defer remove()
	listener, release, err := agentListener(socket)
	if err != nil {
		return err
	}
	defer release()
	defer listener.Close()
	a, err := newAgent(ctx, s, o)
	if err != nil {
		return err
	}
	if len(o.command) > 0 {
		return serveCommand(ctx, a, listener, socket, o.command)
	}
	if err := tellReady(); err != nil {
		return err
	}
	return a.Serve(ctx, listener)
}

// agentPlace returns the path of the socket: for a command one of its own, in a directory that remove
// removes.
func agentPlace(s *settings.Settings, o agentOptions) (path string, remove func(), err error) {
	if len(o.command) == 0 {
		path, err = agentSocket(s)
		return path, func() {}, err
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(dir) {
		dir = os.TempDir()
	}
	if dir, err = os.MkdirTemp(dir, "hsmkeys-agent-"); err != nil {
		return "", nil, err
	}
	return filepath.Join(dir, "agent.sock"), func() { _ = os.RemoveAll(dir) }, nil
}

// agentListener returns the socket that systemd has passed, or makes one.
func agentListener(path string) (net.Listener, func(), error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, nil, err
	}
	switch len(passed) {
	case 0:
		return server.Listen(path)
	case 1:
		return passed[0], func() {}, nil
	}
	return nil, nil, fmt.Errorf("systemd has passed %d sockets, and the agent takes one", len(passed))
}

// newAgent returns an agent, which has logged in unless it is to begin locked.
func newAgent(ctx context.Context, s *settings.Settings, o agentOptions) (*server.Server, error) {
	if err := session.Bind(ctx, s); err != nil {
		return nil, err
	}
	sel, module, err := s.Selector()
	if err != nil {
		return nil, err
	}
	if sel.PINValue != nil {
		message.Warn(settings.ErrPINValue)
	}
	info, err := session.Search(ctx, s, sel, module)
	if err != nil {
		return nil, err
	}
	s.TokenPatience = -1 // clients are told at once that the token is away
	readPIN := func(ctx context.Context, info token.Info) ([]byte, error) { return session.ReadPIN(ctx, s, sel, info) }
	a := server.New(server.Config{
		Info: info, LockAfter: o.lockAfter, Allows: o.allow, RequiresToken: s.RequireToken, Warn: message.Warn,
		Open: func(ctx context.Context, pin server.PINFunc) (*token.Token, error) {
			return session.OpenToken(ctx, s, sel, info.Module, firstThen(pin, s.Unattended(sel), readPIN))
		},
	})
	if o.locked {
		return a, nil
	}
	return a, a.Unlock(ctx, readPIN)
}

// firstThen returns a function that gets the PIN with first when it is called first. The agent keeps no
// PIN: a token that came back, or a key that asks for the PIN at each use, has to have it from its
// source again.
func firstThen(first server.PINFunc, unattended bool, later server.PINFunc) server.PINFunc {
	asked := false
	return func(ctx context.Context, info token.Info) ([]byte, error) {
		switch {
		case !asked:
			asked = true
			return first(ctx, info)
		case unattended:
			return later(ctx, info)
		}
		return nil, failure.Secret(failure.WithHint(errors.New("the token asks for its PIN again, and the agent keeps none"),
			"start the agent with a --pin-source that asks nobody"))
	}
}

// printAgentEnvironment prints the commands that make a shell's commands use the agent.
func printAgentEnvironment(socket string) error {
	return output.Line("%s=%s; export %s;", agent.Variable, text.ShellQuote(socket), agent.Variable)
}

// tellReady tells systemd, or the command that has started this agent in the background, that the agent
// has logged in and listens.
func tellReady() error {
	if _, err := daemon.SdNotify(true, daemon.SdNotifyReady); err != nil {
		message.Warn(err)
	}
	return leaveForeground()
}
