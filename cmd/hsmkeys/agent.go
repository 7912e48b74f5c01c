package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/secret"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

func agentCommand() *cli.Command {
	return &cli.Command{
		Name: "agent", Usage: "log in once, and serve the token to other commands", ArgsUsage: "[-- COMMAND [ARGUMENT…]]",
		Description: "Asks for the PIN, goes to the background and prints the environment for a shell. Every command that wants\n" +
			"the same token then uses the agent and asks for no PIN. With COMMAND it serves that command alone, on a socket\n" +
			"of its own, and ends with it. The socket is only for processes of this user, who can do with it what the PIN\n" +
			"allows; reveal, load and export, which move keys out of the agent's reach, only with --allow.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "lock-after", Usage: "log out when the token was not used for this `TIME`, such as 15m", DefaultText: "never"},
			&cli.BoolFlag{Name: "locked", Usage: "do not log in before hsmkeys agent unlock"},
			&cli.StringFlag{Name: "allow", Usage: "what else the agent does: `LIST` of reveal, load, export"},
			&cli.StringFlag{Name: "policy", Usage: "serve other users as this TOML `FILE` allows"},
			&cli.StringFlag{Name: "policy-socket", Usage: "the `SOCKET` for other users"},
			&cli.StringFlag{Name: "metrics", Usage: "serve metrics in Prometheus' format on this `ADDRESS`, such as 127.0.0.1:9463", DefaultText: "no metrics"},
			&cli.BoolFlag{Name: "foreground", Usage: "stay in the foreground, as for systemd"},
		},
		Subcommands: []*cli.Command{agentStatusCommand(), agentLockCommand(), agentUnlockCommand(), agentStopCommand()},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			separated := slices.Contains(os.Args, "--")
			if c.Args().Present() && !separated {
				return commandline.NoCommand("agent", c.Args().First(), c.Command.Subcommands)
			}
			if !c.Args().Present() && separated {
				return failure.Usage("there is no command after --")
			}
			o, err := agentOptionsOf(c)
			if err != nil {
				return err
			}
			return runAgent(ctx, s, o)
		}),
	}
}

// agentOptions are what the command line asks of an agent.
type agentOptions struct {
	lockAfter          time.Duration
	allow              []string
	policy, others     string // file and socket for other users
	metrics            string // address
	locked, foreground bool
	command            []string
}

func agentOptionsOf(c *cli.Context) (agentOptions, error) {
	o := agentOptions{locked: c.Bool("locked"), foreground: c.Bool("foreground"), command: c.Args().Slice()}
	if c.IsSet("lock-after") {
		var err error
		if o.lockAfter, err = settings.ParseDuration(c.String("lock-after")); err != nil || o.lockAfter < time.Second {
			return o, failure.Usage("--lock-after is a time of a second at least, such as 15m, not %q", c.String("lock-after"))
		}
	}
	if c.IsSet("allow") {
		for allowed := range strings.SplitSeq(c.String("allow"), ",") {
			if !slices.Contains([]string{"reveal", "load", "export"}, allowed) {
				return o, failure.Usage("--allow is a list of reveal, load and export, such as reveal,load; not %q", allowed)
			}
			o.allow = append(o.allow, allowed)
		}
	}
	o.metrics = c.String("metrics")
	o.policy, o.others = c.String("policy"), c.String("policy-socket")
	if (o.policy == "") != (o.others == "") {
		return o, failure.Usage("--policy FILE and --policy-socket SOCKET go together")
	}
	if len(o.command) > 0 && o.policy != "" {
		return o, failure.Usage("--policy and a COMMAND do not go together: the agent of a command serves that alone")
	}
	if len(o.command) > 0 && o.foreground {
		return o, failure.Usage("--foreground and a COMMAND do not go together: with a command the agent ends when that does")
	}
	return o, nil
}

// withAgent connects to the agent, for commands that are about it.
func withAgent(ctx context.Context, s *settings.Settings, f func(*agent.Client) error) error {
	path, err := agentSocket(s)
	if err != nil {
		return err
	}
	client, err := agent.Dial(ctx, path)
	if err != nil {
		return err
	}
	defer client.Close()
	if client.NamedOnly {
		return fmt.Errorf("agent at %q: %w", path, agent.ErrNamedOnly)
	}
	return f(client)
}

// agentSocket returns the path of the agent's socket, or an error if there is no place for it.
func agentSocket(s *settings.Settings) (string, error) {
	path := s.AgentSocket()
	if path == "" {
		return "", failure.Usage("no --agent, and $XDG_RUNTIME_DIR is not an absolute path")
	}
	return path, nil
}

// An agentStatus is what the agent does. The JSON form is stable.
type agentStatus struct {
	Socket      string   `json:"socket"`
	PID         int64    `json:"pid"`
	Token       string   `json:"token"`
	Serial      string   `json:"serial"`
	Module      string   `json:"module"`
	Locked      bool     `json:"locked"`
	Reason      string   `json:"reason,omitempty"` // why it is locked
	Away        string   `json:"away,omitempty"`   // why the token does not answer
	LockAfter   int64    `json:"lock_after_seconds"`
	Idle        int64    `json:"idle_seconds"`
	Clients     int64    `json:"clients"`
	SessionKeys int64    `json:"session_keys"`
	Allows      []string `json:"allows"`
}

func agentStatusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show what the agent does",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			return withAgent(ctx, s, func(client *agent.Client) error {
				r, err := client.Status(ctx)
				if err != nil {
					return err
				}
				info := r.GetToken().Info()
				return printAgentStatus(s, agentStatus{
					Socket: s.AgentSocket(), PID: r.GetPid(), Token: info.Label, Serial: info.Serial, Module: info.Module,
					Locked: r.GetLock().GetLocked(), Reason: string(r.GetLock().GetReason()), Away: string(r.GetAway()), LockAfter: r.GetLockAfterSeconds(), Idle: r.GetIdleSeconds(),
					Clients: r.GetClients(), SessionKeys: r.GetSessionKeys(), Allows: slices.Concat([]string{}, r.GetAllows()),
				})
			})
		}),
	}
}

func printAgentStatus(s *settings.Settings, a agentStatus) error {
	if s.JSON {
		return output.JSON(a)
	}
	state := "logged in"
	switch {
	case a.Locked:
		state = "locked: " + text.Printable(a.Reason)
	case a.Away != "":
		state = "the token does not answer: " + text.Printable(a.Away)
	case a.LockAfter > 0:
		state += fmt.Sprintf(", locks after %v without use, last used %v ago", time.Duration(a.LockAfter)*time.Second, time.Duration(a.Idle)*time.Second)
	}
	allows := "nothing beyond the operations of the pair"
	if len(a.Allows) > 0 {
		allows = strings.Join(a.Allows, ", ")
	}
	return output.Table([][]string{
		{"socket", text.Printable(a.Socket)},
		{"pid", fmt.Sprint(a.PID)},
		{"token", fmt.Sprintf("%s (serial %s)", text.Printable(a.Token), text.Printable(a.Serial))},
		{"state", state},
		{"clients", fmt.Sprintf("%d, with %s", a.Clients, text.Plural(int(a.SessionKeys), "session key", "session keys"))},
		{"allows", allows},
	})
}

func agentLockCommand() *cli.Command {
	return &cli.Command{
		Name: "lock", Usage: "make the agent log out and destroy its session keys",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			return withAgent(ctx, s, func(client *agent.Client) error { return client.Lock(ctx) })
		}),
	}
}

func agentUnlockCommand() *cli.Command {
	return &cli.Command{
		Name: "unlock", Usage: "make the agent log in again",
		Description: "The PIN is asked for, or comes from the --pin-source of this command. It is tried once.",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			return withAgent(ctx, s, func(client *agent.Client) error { return unlockAgent(ctx, s, client) })
		}),
	}
}

func unlockAgent(ctx context.Context, s *settings.Settings, client *agent.Client) error {
	if client.Locked == "" {
		return nil
	}
	info := client.Info
	if err := s.BindTo(token.Selector{Label: info.Label, Serial: info.Serial, Manufacturer: info.Manufacturer, Model: info.Model}); err != nil {
		return err
	}
	sel, _, err := s.Selector()
	if err != nil {
		return err
	}
	defer clear(sel.PINValue)
	if !sel.Matches(info) {
		return failure.Usage("the agent has the token %q, not %q", info.Label, sel.String())
	}
	var pin []byte
	if !info.PINPad {
		pin, err = s.ReadUserPIN(ctx, sel, info, fmt.Sprintf("PIN of token %s", text.Printable(info.Label)), secret.Ask)
		if err != nil {
			return err
		}
		defer clear(pin)
	}
	return client.Unlock(ctx, pin)
}

func agentStopCommand() *cli.Command {
	return &cli.Command{
		Name: "stop", Usage: "end the agent",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			return withAgent(ctx, s, func(client *agent.Client) error { return client.Stop(ctx) })
		}),
	}
}
