package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

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
			if err := readConfig(c, flags); err != nil {
				return err
			}
			if n := c.Int("sessions"); c.IsSet("sessions") && (n < 1 || n > token.MaxSessions) {
				return usage("--sessions is a number from 1 to %d", token.MaxSessions)
			}
			return nil
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("no command %q; hsmkeys help lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{
			tokenCommand(), initCommand(), joinCommand(), certificateCommand(),
			createCommand(), rotateCommand(), listCommand(), showCommand(), historyCommand(), verifyCommand(),
			encryptCommand(), decryptCommand(), loadCommand(), revealCommand(), importCommand(), exportCommand(), deriveCommand(),
			authorityCommand(), ownerCommand(), rewrapCommand(), drillCommand(), recoverCommand(),
			ageCommand(), doctorCommand(), completionCommand(), versionCommand(), helpCommand(), manCommand(),
		},
		Suggest:        true,
		OnUsageError:   onUsageError,
		ExitErrHandler: func(*cli.Context, error) {}, // report does that
	}
	tame(app.Commands)
	nameInFull(app.Name, app.Commands)
	cli.HelpPrinter = helpPrinter
	cli.VersionPrinter = func(c *cli.Context) { _ = printVersion(c) }
	return app
}

// onUsageError keeps the cli package from printing a page of help for one wrong
// option.
func onUsageError(_ *cli.Context, err error, _ bool) error { return &usageError{err.Error()} }

// tame does to every command what the cli package wants done to each. One
// without subcommands must not have the subcommand "help" either, or keys and
// files called help or h would print help in place of being verified.
func tame(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = onUsageError
		c.HideHelpCommand = len(c.Subcommands) == 0
		tame(c.Subcommands)
	}
}

// globalFlags can each be given as an option, in the environment and in the
// configuration file, and are taken in that order.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "read options from this TOML `FILE`", EnvVars: []string{"HSMKEYS_CONFIG"}, DefaultText: "$XDG_CONFIG_HOME/hsmkeys/config.toml"},
		altsrc.NewStringFlag(&cli.StringFlag{Name: "module", Usage: "the PKCS #11 `LIBRARY` of the token", EnvVars: []string{"HSMKEYS_MODULE"}, DefaultText: "those that p11-kit knows"}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: "token", Usage: "the token, a label or an RFC 7512 `URI`", EnvVars: []string{"HSMKEYS_TOKEN"}, DefaultText: "the only one"}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: "store", Usage: "the `DIRECTORY` of the key blobs", EnvVars: []string{"HSMKEYS_STORE"}, DefaultText: "$XDG_DATA_HOME/hsmkeys"}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: "pin-source", Usage: "where the PIN comes from: prompt, env:`NAME`, file:PATH or exec:COMMAND", EnvVars: []string{"HSMKEYS_PIN_SOURCE"}, DefaultText: "prompt"}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: passwordOption, Usage: "where the passwords of keys and files come from, as --pin-source", EnvVars: []string{"HSMKEYS_PASSWORD_SOURCE"}, DefaultText: "prompt"}),
		altsrc.NewBoolFlag(&cli.BoolFlag{Name: "json", Usage: "print one JSON document", EnvVars: []string{"HSMKEYS_JSON"}}),
		altsrc.NewStringFlag(&cli.StringFlag{Name: "signing-key", Usage: "the pair that signs, where the key exchange pair must not: a label, or an RFC 7512 `URI` with object or id", EnvVars: []string{"HSMKEYS_SIGNING_KEY"}}),
		altsrc.NewBoolFlag(&cli.BoolFlag{Name: "require-token", Usage: "refuse session keys outside the token, where it can hold none", EnvVars: []string{"HSMKEYS_REQUIRE_TOKEN"}}),
		altsrc.NewIntFlag(&cli.IntFlag{Name: "sessions", Usage: "give the token `N` calls at a time, at most 16", EnvVars: []string{"HSMKEYS_SESSIONS"}, DefaultText: "as many as it takes"}),
		&cli.BoolFlag{Name: "final-try", Usage: "log in even when one more wrong PIN locks the token"},
		&cli.BoolFlag{Name: "any-pin-length", Usage: "send a PIN that is shorter or longer than the token says that it takes"},
	}
}

// readConfig reads the configuration file. One that was named must be there. A key
// that is no option is refused: with a word misspelt the keys would go to another
// store than the one that was meant.
func readConfig(c *cli.Context, flags []cli.Flag) error {
	path := c.String("config")
	if path == "" {
		path = xdg("XDG_CONFIG_HOME", ".config", "config.toml")
		if _, err := os.Stat(path); path == "" || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	var file map[string]any
	if _, err := toml.DecodeFile(path, &file); err != nil {
		return usage("configuration file %q: %v", path, err)
	}
	values := map[any]any{}
	for name, value := range file {
		if _, ok := lookup(flags, name).(altsrc.FlagInputSourceExtension); !ok {
			return usage("configuration file %q: %q is not an option that it can set", path, name)
		}
		if n, ok := value.(int64); ok { // as TOML has them, and options do not
			value = int(n)
		}
		values[name] = value
	}
	if err := altsrc.ApplyInputSourceValues(c, altsrc.NewMapInputSource(path, values), flags); err != nil {
		return usage("configuration file %q: %v", path, err)
	}
	return nil
}

// xdg is a directory or file of this program below one of the XDG Base Directory
// Specification, or empty where the environment names none. Then there is none: the current
// directory may be anybody's, and for a plugin of age it is the one for temporary files.
func xdg(variable, below string, names ...string) string {
	dir := os.Getenv(variable)
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil || !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, below)
	}
	return filepath.Join(append([]string{dir, "hsmkeys"}, names...)...)
}
