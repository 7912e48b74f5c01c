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

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/server"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/metrics"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/program"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/cmd/internal/unixsocket"
	"github.com/hsmkeys/hsmkeys/token"
)

// runAgent runs an agent: for a command, in the foreground, or in the background.
func runAgent(ctx context.Context, s *settings.Settings, o agentOptions) error {
	if len(o.command) == 0 && !o.foreground && os.Getenv("LISTEN_PID") == "" {
		return startAgent(ctx, s)
	}
	if err := hideMemory(); err != nil {
		return err
	}
	listener, release, err := agentListener(s, o)
	if err != nil {
		return err
	}
	defer release()
	defer listener.Close()
	a, unlock, err := newAgent(ctx, s, o)
	if err != nil {
		return err
	}
	var others net.Listener
	if o.policy != "" {
		if err := a.ReadPolicy(); err != nil {
			return err
		}
		var release func()
		if others, release, err = unixsocket.ListenForOthers(o.others); err != nil {
			return err
		}
		defer release()
		defer others.Close()
	}
	if !o.locked {
		if err := unlock(); err != nil {
			return err
		}
	}
	if len(o.command) > 0 {
		return serveCommand(ctx, a, listener, o.command)
	}
	if err := tellReady(); err != nil {
		return err
	}
	defer program.OnHangup(func() { reload(s, o, a) })()
	return a.Serve(ctx, listener, others)
}

// reload opens the records of use anew, and reads the policy again.
func reload(s *settings.Settings, o agentOptions, a *server.Server) {
	session.ReopenAudit(s)
	if o.policy != "" {
		if err := a.ReadPolicy(); err != nil {
			message.Warn(fmt.Errorf("the policy stays as it was: %w", err))
		}
	}
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

// agentListener returns the socket that systemd has passed, or makes one. The caller must call release at
// the end.
func agentListener(s *settings.Settings, o agentOptions) (l net.Listener, release func(), err error) {
	passed, err := activation.Listeners()
	switch {
	case err != nil:
		return nil, nil, err
	case len(passed) == 1:
		return passed[0], func() {}, nil
	case len(passed) > 1:
		return nil, nil, fmt.Errorf("systemd has passed %d sockets, and the agent takes one", len(passed))
	}
	path, remove, err := agentPlace(s, o)
	if err != nil {
		return nil, nil, err
	}
	l, unlock, err := unixsocket.Listen(path)
	if err != nil {
		remove()
		return nil, nil, err
	}
	return l, func() { unlock(); remove() }, nil
}

// newAgent returns an agent, which is locked, and what logs it in.
func newAgent(ctx context.Context, s *settings.Settings, o agentOptions) (a *server.Server, unlock func() error, err error) {
	records, err := session.AuditLog(s)
	if err != nil {
		return nil, nil, err
	}
	if err := session.Bind(ctx, s); err != nil {
		return nil, nil, err
	}
	sel, module, err := s.Selector()
	if err != nil {
		return nil, nil, err
	}
	if sel.PINValue != nil {
		message.Warn(settings.ErrPINValue)
	}
	info, err := session.Search(ctx, s, sel, module)
	if err != nil {
		return nil, nil, err
	}
	s.Stays = true
	s.TokenPatience = -1 // clients are told at once that the token is away
	readPIN := func(ctx context.Context, info token.Info) ([]byte, error) { return session.ReadPIN(ctx, s, sel, info) }
	config := server.Config{
		Policy: o.policy, Keyring: func(ctx context.Context, t *token.Token, record hsmkeys.RecordFunc) (*hsmkeys.Keyring, func() error, error) {
			return openNamed(ctx, s, t, sel, record)
		},
		Info: info, LockAfter: o.lockAfter, Allows: o.allow, RequiresToken: s.RequireToken, Warn: message.Warn,
		Open: func(ctx context.Context, pin server.PINFunc) (*token.Token, error) {
			return session.OpenToken(ctx, s, sel, info.Module, firstThen(pin, s.Unattended(sel), readPIN))
		},
	}
	if records != nil {
		config.Record = records.Write
	}
	if o.metrics != "" {
		config.Meter = metrics.New("hsmkeys_agent")
		if _, err := config.Meter.Serve(o.metrics); err != nil { // to the end of the program
			return nil, nil, err
		}
	}
	a = server.New(config)
	return a, func() error { return a.Unlock(ctx, readPIN) }, nil
}

// openNamed opens the keyring that other users use, with the agent's token.
func openNamed(ctx context.Context, s *settings.Settings, t *token.Token, sel token.Selector, record hsmkeys.RecordFunc) (*hsmkeys.Keyring, func() error, error) {
	store, err := session.OpenStore(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	k, err := openWith(ctx, s, t, sel, store, record)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return k, store.Close, nil
}

func openWith(ctx context.Context, s *settings.Settings, t *token.Token, sel token.Selector, store blob.Store, record hsmkeys.RecordFunc) (*hsmkeys.Keyring, error) {
	pair, err := session.FindPair(ctx, s, t, store, token.PairName{Label: sel.Object, ID: sel.ID})
	if err != nil {
		return nil, err
	}
	o, err := session.Options(s, store)
	if err != nil {
		return nil, err
	}
	o.Pair, o.Pins, o.Record = pair, session.Pins(t), record
	k, err := hsmkeys.Open(ctx, o)
	if err != nil {
		return nil, session.Explain(err)
	}
	return k, nil
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
	socket, err := filepath.Abs(socket) // the shell may go elsewhere
	if err != nil {
		return err
	}
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
