package session

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/token"
)

// connectAgent connects to the agent that the settings name, or returns nil if there is none.
func connectAgent(ctx context.Context, s *settings.Settings) (*agent.Client, error) {
	path := s.AgentSocket()
	if s.NoAgent || path == "" {
		return nil, nil
	}
	client, err := agent.Dial(ctx, path)
	if errors.Is(err, agent.ErrPolicy) && s.Agent != "" {
		return nil, err
	}
	if err != nil {
		if s.Agent != "" || !errors.Is(err, agent.ErrNone) {
			message.Warn(fmt.Errorf("%w; the token is used without it", err))
		}
		return nil, ctx.Err()
	}
	return client, nil
}

// dialAgent connects to the agent if there is one that has the token the settings want, and does what
// the command needs; otherwise it returns nil. It puts the section of the configuration file in force
// that is for the agent's token. An agent that is locked is an error: the command would ask for the PIN
// that the agent was locked for.
func dialAgent(ctx context.Context, s *settings.Settings) (*agent.Client, error) {
	client, err := connectAgent(ctx, s)
	if err != nil || client == nil {
		return nil, err
	}
	return useAgent(s, client)
}

// useAgent returns the client if its agent has the token that the settings want. Otherwise it closes the
// client, and returns nil or an error.
func useAgent(s *settings.Settings, client *agent.Client) (*agent.Client, error) {
	serves, err := agentServes(s, client)
	if err == nil && serves && client.Locked != "" {
		err = &token.Error{Op: "use the token through the agent", Token: client.Info.Label, Kind: agent.ErrLocked, Err: errors.New(client.Locked)}
	}
	if err != nil || !serves {
		_ = client.Close()
		return nil, err
	}
	return client, nil
}

// agentServes reports whether the agent has the token that the settings want, and does what the
// command needs.
func agentServes(s *settings.Settings, client *agent.Client) (bool, error) {
	sel, module, err := s.Selector()
	clear(sel.PINValue)
	if err != nil {
		return false, err
	}
	info := client.Info
	if client.NamedOnly || !sel.Matches(info) || module != "" && !sameModule(module, info.Module) {
		return false, nil
	}
	if err := s.BindTo(token.Selector{Label: info.Label, Serial: info.Serial, Manufacturer: info.Manufacturer, Model: info.Model}); err != nil {
		return false, err
	}
	if s.RequireToken && !client.RequiresToken {
		return false, nil
	}
	if s.NeedsAllowed != "" && !slices.Contains(client.Allows, s.NeedsAllowed) {
		message.Note("the agent was started without --allow %s: the token is used without it", s.NeedsAllowed)
		return false, nil
	}
	return true, nil
}

// sameModule reports whether two names are of the same module: the agent has resolved its own.
func sameModule(named, resolved string) bool {
	if named == resolved || filepath.Base(named) == named && named == filepath.Base(resolved) {
		return true
	}
	path, err := filepath.EvalSymlinks(named)
	other, err2 := filepath.EvalSymlinks(resolved)
	return err == nil && err2 == nil && path == other
}
