package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/secret"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/cmd/internal/trial"
	"github.com/hsmkeys/hsmkeys/token"
)

func tokenCommand() *cli.Command {
	return &cli.Command{
		Name: "token", Usage: "list and initialise tokens of a PKCS #11 module",
		Subcommands: []*cli.Command{tokenListCommand(), tokenInitCommand(), importPairCommand()},
	}
}

func tokenListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list slots, tokens, and what each can do; needs no PIN",
		Description: "Without --module, lists those of every module that p11-kit knows. With --token on the command line,\n" +
			"lists only what that names.",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			sel, module, err := s.Selector()
			if err != nil {
				return err
			}
			clear(sel.PINValue)
			named := s.OnLine("token") // HSMKEYS_TOKEN is for all commands
			var all []token.Info
			if module != "" {
				all, err = trial.List(s.ModuleTimeout)(ctx, module)
			} else {
				all, err = listEverywhere(ctx, s)
			}
			if err != nil {
				return err
			}
			if named {
				all = slices.DeleteFunc(all, func(info token.Info) bool { return !sel.Matches(info) })
				if len(all) == 0 {
					return &token.Error{Op: "list the tokens", Token: sel.String(), Kind: token.ErrNoToken}
				}
			}
			if s.JSON {
				return output.JSON(all)
			}
			rows := [][]string{{"SLOT", "LABEL", "SERIAL", "MODEL", "FIRMWARE", "PIN", "CAN", "TRIED"}}
			if module == "" {
				rows[0] = append(rows[0], "MODULE")
			}
			for _, t := range all {
				label := text.Printable(t.Label)
				switch {
				case t.Problem != "":
					label = "(unusable)"
				case !t.Initialized:
					label = "(blank)"
				}
				row := []string{fmt.Sprint(t.Slot), label, text.Printable(t.Serial), text.Printable(t.Model), t.Firmware, show.PINState(t), show.Can(t.Mechanisms), show.Tried(t.Probe)}
				if module == "" {
					row = append(row, text.Printable(t.Module))
				}
				rows = append(rows, row)
			}
			for _, t := range all {
				if t.Problem != "" {
					message.Warn(fmt.Errorf("the token in slot %d of module %s cannot be used: %s", t.Slot, text.Printable(t.Module), t.Problem))
				}
				if t.Probe.Leaks {
					message.Warn(fmt.Errorf("token %q reveals the value of a sensitive key: session keys on it are no safer than in memory (--require-token refuses it)", t.Label))
				}
			}
			for _, t := range all {
				for _, key := range t.Legacy {
					message.Note("token %s: %s", text.Printable(t.Label), show.Legacy(key))
				}
			}
			return output.Table(rows)
		}),
	}
}

// listEverywhere lists the tokens of every module that p11-kit knows, and warns of each module that
// fails.
func listEverywhere(ctx context.Context, s *settings.Settings) ([]token.Info, error) {
	known, err := s.Modules()
	if err != nil {
		return nil, err
	}
	all, failed := token.ListAll(ctx, known, trial.List(s.ModuleTimeout))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, err := range failed {
		message.Warn(err)
	}
	if all == nil {
		all = []token.Info{} // not null in JSON
	}
	return all, nil
}

func tokenInitCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "initialise a blank token", ArgsUsage: "LABEL",
		Description: "Sets the PINs of the security officer and of the user. An initialised token is never touched.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "so-pin-source", Usage: "where the security officer's PIN comes from: prompt, env:`NAME`, file:PATH or exec:COMMAND"},
			&cli.UintFlag{Name: "slot", Usage: "the blank token in this slot", DefaultText: "the first"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			label, err := oneArgument(c, "the LABEL of the token")
			if err != nil {
				return err
			}
			if err := token.ValidTokenLabel(label); err != nil {
				return failure.Usage("token label %q: %w", label, err)
			}
			made := token.Info{Label: label, Initialized: true} // for the section of the configuration file
			if err := s.BindTo(token.Selector{Label: label}); err != nil {
				return err
			}
			sel, module, err := s.Selector()
			if err != nil {
				return err
			}
			defer clear(sel.PINValue)
			if module == "" { // never guess which blank token is meant
				return failure.Usage("token init needs the module named; use --module, HSMKEYS_MODULE or a URI's module-path")
			}
			if sel.PINValue != nil {
				message.Warn(settings.ErrPINValue)
			}
			var slot *uint
			if c.IsSet("slot") {
				n := c.Uint("slot")
				slot = &n
			}
			if _, err := session.AuditLog(s); err != nil {
				return err
			}
			if err := token.MayInitialize(module, token.NewToken{Slot: slot, Label: label}); err != nil {
				return err // before somebody thinks up PINs in vain
			}
			if err := s.CheckSource(c.String("so-pin-source"), made); err != nil {
				return err
			}
			so, err := secret.Read(ctx, "so-pin-source", c.String("so-pin-source"), "new PIN of the security officer", secret.AskNew)
			if err != nil {
				return err
			}
			user, err := s.ReadUserPIN(ctx, sel, made, "new PIN of the user", secret.AskNew)
			if err != nil {
				clear(so)
				return err
			}
			var info token.Info
			err = session.Changing(ctx, s, hsmkeys.Use{Operation: audit.OpInitToken, To: label}, func(context.Context) (err error) {
				info, err = token.Initialize(module, token.NewToken{Slot: slot, Label: label, SOPIN: so, UserPIN: user, AnyPINLength: s.AnyPINLength})
				return err
			})
			if err != nil {
				return err
			}
			if s.JSON {
				return output.JSON(info)
			}
			// Not the slot: SoftHSM moves a new token to another one at the next start.
			return output.Line("token %s initialised, serial %s", text.Printable(info.Label), text.Printable(info.Serial))
		}),
	}
}
