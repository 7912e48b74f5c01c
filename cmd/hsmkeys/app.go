package main

import (
	"slices"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/terminal"
	"github.com/hsmkeys/hsmkeys/token"
)

// newApp is the whole command line. Each command is in the file of its name.
func newApp() *cli.App {
	flags := globalFlags()
	app := &cli.App{
		Name:    "hsmkeys",
		Usage:   "session keys, wrapped and signed by a PKCS #11 token, stored anywhere",
		Version: version(),
		Flags:   append(flags, cli.HelpFlag),
		Before: func(c *cli.Context) error {
			if slices.Contains([]string{"help", "h", "completion", "man"}, c.Args().First()) {
				return nil // they are there also when the configuration is wrong
			}
			if err := configure(c, flags); err != nil {
				return err
			}
			message.JSON = c.Bool("json")
			if n := c.Int("sessions"); c.IsSet("sessions") && (n < 1 || n > token.MaxSessions) {
				return failure.Usage("--sessions is a number from 1 to %d", token.MaxSessions)
			}
			if moduleTimeout(c) < time.Second {
				return failure.Usage("--module-timeout is a second at least, such as 90s or 5m")
			}
			watchModules(moduleTimeout(c))
			if how := c.String("read-back"); how != "all" && how != "none" {
				return failure.Usage("--read-back is all or none, not %q", how)
			}
			return nil
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return noCommand("", c.Args().First(), c.App.Commands)
			}
			return failure.UsageHint("hsmkeys help", "a command is needed")
		},
		Commands: []*cli.Command{
			tokenCommand(), initCommand(), joinCommand(), certificateCommand(),
			createCommand(), rotateCommand(), listCommand(), showCommand(), historyCommand(), logCommand(), verifyCommand(),
			encryptCommand(), decryptCommand(), fileCommand(), loadCommand(), unloadCommand(), revealCommand(), importCommand(), exportCommand(), deriveCommand(),
			authorityCommand(), ownerCommand(), rewrapCommand(), drillCommand(), recoverCommand(), acceptCommand(),
			checkpointCommand(), mergeCommand(), storeCommand(),
			ageCommand(), doctorCommand(), completionCommand(), versionCommand(), helpCommand(), manCommand(),
		},
		OnUsageError:   onUsageError,
		ExitErrHandler: func(*cli.Context, error) {}, // report does that
	}
	tame(app.Commands)
	nameInFull(app.Name, app.Commands)
	cli.HelpPrinter = helpPrinter
	cli.FlagStringer = optionHelp
	cli.VersionPrinter = func(c *cli.Context) {
		if err := printVersion(c); err != nil {
			if out, ok := c.App.Writer.(*output.Checked); ok {
				out.Err = err
			}
		}
	}
	return app
}

// tame does to every command what the cli package wants done to each. One
// without subcommands must not have the subcommand "help" either, or keys and
// files called help or h would print help in place of being verified.
func tame(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = onUsageError
		c.HideHelpCommand = len(c.Subcommands) == 0
		if len(c.Subcommands) > 0 {
			c.Action = groupAction
		} else {
			c.Before = refuseEmpty
		}
		tame(c.Subcommands)
	}
}

// globalFlags can each be given as an option, in the environment and in the
// configuration file, and are taken in that order.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&configFlag{StringFlag: &cli.StringFlag{Name: "config", Usage: "read options from this TOML `FILE`", EnvVars: []string{"HSMKEYS_CONFIG"}, DefaultText: "$XDG_CONFIG_HOME/hsmkeys/config.toml"}},
		altsrc.NewStringFlag(&cli.StringFlag{Name: "module", Usage: "the PKCS #11 `LIBRARY` of the token", EnvVars: []string{"HSMKEYS_MODULE"}, DefaultText: "those that p11-kit knows"}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: "token", Usage: "the token, a label or an RFC 7512 `URI`", EnvVars: []string{"HSMKEYS_TOKEN"}, DefaultText: "the only one"}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: "store", Usage: "the `DIRECTORY` of the key blobs", EnvVars: []string{"HSMKEYS_STORE"}, DefaultText: "$XDG_DATA_HOME/hsmkeys"}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: "pin-source", Usage: "where the PIN comes from: prompt, env:`NAME`, file:PATH or exec:COMMAND", EnvVars: []string{"HSMKEYS_PIN_SOURCE"}, DefaultText: "prompt"}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: passwordOption, Usage: "where the passwords of keys and files come from, as --pin-source", EnvVars: []string{"HSMKEYS_PASSWORD_SOURCE"}, DefaultText: "prompt"}),
		altsrc.NewBoolFlag(&cli.BoolFlag{Name: "json", Usage: "print one JSON document, and messages in JSON; data such as reveal prints stays as it is", EnvVars: []string{"HSMKEYS_JSON"}}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: "signing-key", Usage: "the pair that signs, where the key exchange pair must not: a label, or an RFC 7512 `URI` with object or id", EnvVars: []string{"HSMKEYS_SIGNING_KEY"}}),
		altsrc.NewBoolFlag(&cli.BoolFlag{Name: "require-token", Usage: "refuse session keys outside the token, where it can hold none", EnvVars: []string{"HSMKEYS_REQUIRE_TOKEN"}}),
		altsrc.NewIntFlag(&cli.IntFlag{Name: "sessions", Usage: "give the token `N` calls at a time, at most 16", EnvVars: []string{"HSMKEYS_SESSIONS"}, DefaultText: "as many as it takes"}),
		altsrc.NewDurationFlag(&cli.DurationFlag{Name: "module-timeout", Value: time.Minute, Usage: "give up a module that does not return from a call within this `TIME`", EnvVars: []string{"HSMKEYS_MODULE_TIMEOUT"}, DefaultText: "1m"}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: "read-back", Value: "all", Usage: "open again what the token has wrapped to its own pair, before it is stored: `WHICH` is all or none", EnvVars: []string{"HSMKEYS_READ_BACK"}}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: "keyring", Usage: "the `ID` of the keyring that the store must hold", EnvVars: []string{"HSMKEYS_KEYRING"}, DefaultText: "the one that init or join has put or found there"}),
		&cli.StringFlag{Name: "checkpoint", Usage: "believe this checkpoint, `N:DIGEST`, as another member's hsmkeys checkpoint prints it", EnvVars: []string{"HSMKEYS_CHECKPOINT"}},
		altsrc.NewDurationFlag(&cli.DurationFlag{Name: "max-age", Usage: "encrypt nothing under a state of the keyring older than this `TIME`, such as 24h", EnvVars: []string{"HSMKEYS_MAX_AGE"}, DefaultText: "any"}),
		&cli.BoolFlag{Name: "older-state", Usage: "decrypt with what is there, where the store lacks the newest state of the keyring", EnvVars: []string{"HSMKEYS_OLDER_STATE"}},
		&cli.BoolFlag{Name: "wide", Aliases: []string{"w"}, Usage: "do not fit tables to the width of the terminal", Destination: &terminal.Wide},
		&cli.BoolFlag{Name: "final-try", Usage: "log in even when one more wrong PIN locks the token"},
		&cli.BoolFlag{Name: "any-pin-length", Usage: "send a PIN that is shorter or longer than the token says that it takes"},
	}
}
