package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

// newApp returns the whole command line. Each command is in the file of its name.
func newApp() *cli.App {
	app := &cli.App{
		Name:    "hsmkeys",
		Usage:   "session keys, wrapped and signed by a PKCS #11 token, stored anywhere",
		Version: version(),
		Flags:   append(commandline.GlobalFlags(), cli.HelpFlag),
		Before: func(c *cli.Context) error {
			if slices.Contains([]string{"help", "h", "completion"}, c.Args().First()) {
				return nil // they work also when the configuration is wrong
			}
			return loadSettings(c)
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return commandline.NoCommand("", c.Args().First(), c.App.Commands)
			}
			return failure.UsageHint("hsmkeys help", "a command is needed")
		},
		Commands: []*cli.Command{
			tokenCommand(), initCommand(), joinCommand(), certificateCommand(),
			createCommand(), rotateCommand(), describeCommand(), renameCommand(),
			activateCommand(), deactivateCommand(), compromisedCommand(), destroyCommand(), listCommand(), showCommand(), historyCommand(), logCommand(), verifyCommand(),
			encryptCommand(), decryptCommand(), fileCommand(), filesCommand(), reencryptCommand(), loadCommand(), unloadCommand(), revealCommand(), importCommand(), exportCommand(), deriveCommand(),
			authorityCommand(), ownerCommand(), rewrapCommand(), drillCommand(), recoverCommand(), acceptCommand(),
			quorumCommand(), policyCommand(), approveCommand(),
			checkpointCommand(), mergeCommand(), storeCommand(),
			ageCommand(), agentCommand(), softhsmCommand(), doctorCommand(), completionCommand(), versionCommand(), helpCommand(),
		},
		OnUsageError:   commandline.OnUsageError,
		ExitErrHandler: func(*cli.Context, error) {}, // message.Report does that
	}
	commandline.Adapt(app.Commands)
	commandline.NameInFull(app.Name, app.Commands)
	cli.HelpPrinter = commandline.HelpPrinter
	cli.FlagStringer = commandline.OptionHelp
	cli.VersionPrinter = func(c *cli.Context) {
		_ = loadSettings(c) // on error it is printed as text
		if err := printVersion(settingsOf(c)); err != nil {
			if out, ok := c.App.Writer.(*output.Checked); ok {
				out.Err = err
			}
		}
	}
	return app
}

// loadSettings reads the settings of a command line, and applies those that concern the whole
// program.
func loadSettings(c *cli.Context) error {
	s, err := commandline.Settings(c)
	if err != nil {
		return err
	}
	c.App.Metadata = map[string]any{settingsKey: s}
	return nil
}

const settingsKey = "settings"

// settingsOf returns the settings of a command line, or empty ones for commands that work also when
// the settings are wrong.
func settingsOf(c *cli.Context) *settings.Settings {
	if s, ok := c.App.Metadata[settingsKey].(*settings.Settings); ok {
		return s
	}
	return &settings.Settings{}
}

// action returns the action of a command whose function takes the settings.
func action(f func(context.Context, *settings.Settings, *cli.Context) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		return f(hsmkeys.WithUse(c.Context, commandUse(c)), settingsOf(c), c)
	}
}
