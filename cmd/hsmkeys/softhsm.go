package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/softhsm"
)

func softhsmCommand() *cli.Command {
	return &cli.Command{
		Name: "softhsm", Usage: "throw-away SoftHSM tokens for tests, which can be lost and broken",
		Subcommands: []*cli.Command{softhsmRunCommand(), softhsmLoseCommand(), softhsmRestoreCommand(), softhsmBreakCommand()},
	}
}

func softhsmRunCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run a command with throw-away tokens", ArgsUsage: "-- COMMAND [ARGUMENT…]",
		Description: "Makes SoftHSM tokens with random PINs, sets the environment so that COMMAND uses them, runs it, and removes\n" +
			"everything. Nothing of the user's is touched: options of hsmkeys in the environment are replaced, and so are the\n" +
			"configuration file, store and pins. The exit status is the command's; 127 if it was not found, 126 if it\n" +
			"cannot be run, 128 and the signal's number if a signal ended it.\n" +
			"\n" +
			"Beside the options of hsmkeys, COMMAND finds SOFTHSM2_CONF, HSMKEYS_SOFTHSM_TOKENS with the labels, and for each\n" +
			"token HSMKEYS_SOFTHSM_OFFICE_SERIAL, _PIN and _SO_PIN: the label in capitals, with _ for whatever is neither a\n" +
			"letter nor a digit. HSMKEYS_MODULE is the PKCS #11 module, which stands in front of SoftHSM: hsmkeys softhsm\n" +
			"lose, restore and break, which COMMAND can call, change what it does.",
		Flags: []cli.Flag{&cli.StringFlag{Name: "tokens", Value: "office", Usage: "the `LABELS` of the tokens, separated by commas"}},
		Action: action(func(ctx context.Context, _ *settings.Settings, c *cli.Context) error {
			if !slices.Contains(os.Args, "--") || !c.Args().Present() {
				return failure.UsageHint("hsmkeys softhsm run -- COMMAND", "softhsm run needs a command, after --")
			}
			labels, err := softhsmLabels(c.String("tokens"))
			if err != nil {
				return err
			}
			return runSoftHSM(ctx, labels, c.Args().Slice())
		}),
	}
}

func softhsmLoseCommand() *cli.Command {
	return &cli.Command{
		Name: "lose", Usage: "take a token away, also under programs that have it open", ArgsUsage: "LABEL",
		Description: "Works within hsmkeys softhsm run. The token is in no list of slots with tokens, its slot returns\n" +
			"CKR_TOKEN_NOT_PRESENT, and its sessions return CKR_DEVICE_REMOVED. What is on it stays, for softhsm restore.\n" +
			"A program that loads SoftHSM itself, in place of $HSMKEYS_MODULE, does not notice.",
		Action: action(func(_ context.Context, s *settings.Settings, c *cli.Context) error {
			return changeToken(s, c, "lost", softhsm.Token.Lose)
		}),
	}
}

func softhsmRestoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", Usage: "put a lost token back, and mend what is broken", ArgsUsage: "LABEL",
		Description: "Undoes softhsm lose and every softhsm break. As with hardware, sessions from before the loss stay gone\n" +
			"(CKR_SESSION_HANDLE_INVALID), and a program has to log in again. A call that hangs goes on hanging.",
		Action: action(func(_ context.Context, s *settings.Settings, c *cli.Context) error {
			return changeToken(s, c, "restored", softhsm.Token.Restore)
		}),
	}
}

func softhsmBreakCommand() *cli.Command {
	return &cli.Command{
		Name: "break", Usage: "make a token fail, lie, hang or crash", ArgsUsage: "LABEL",
		Description: "Works within hsmkeys softhsm run, until softhsm restore. Calls of all processes count, from now on, that use\n" +
			"this token and in which there is something to do: to flip a bit in the first wrapped key is not for the call\n" +
			"that asks for its length. A function that uses no token, such as C_Initialize, has to be named.\n" +
			"\n" +
			"FAULT is a return value by its name or number, or: hang, crash, abort, exit, quick-exit; skip, to return CKR_OK\n" +
			"without doing anything; print, on stdout; hog, a gigabyte of memory; or a lie about what the function returns:\n" +
			"flip (a bit), zeros, ones, repeat (what it returned before), shorten, lengthen, empty, huge, missing (an\n" +
			"attribute), invalid (a handle), double and endless (objects), foreign and short-key (another key), drop (an\n" +
			"attribute of the template).",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "with", Usage: "the `FAULT`, such as CKR_DEVICE_REMOVED, hang, crash or flip"},
			&cli.StringFlag{Name: "function", Usage: "only in this `FUNCTION`, such as C_Sign", DefaultText: "any"},
			&cli.UintFlag{Name: "after", Usage: "let `N` calls go well before"},
			&cli.BoolFlag{Name: "once", Usage: "in one call, not in all that follow"},
			&cli.BoolFlag{Name: "done", Usage: "do what is called for, and return the value all the same"},
		},
		Action: action(func(_ context.Context, s *settings.Settings, c *cli.Context) error {
			fault, err := faultOf(c)
			if err != nil {
				return err
			}
			return changeToken(s, c, "broken", func(t softhsm.Token) error { return t.Break(fault) })
		}),
	}
}

// faultOf returns the fault that the options of softhsm break describe.
func faultOf(c *cli.Context) (softhsm.Fault, error) {
	const mostCalls = 1 << 30
	f := softhsm.Fault{Function: c.String("function"), Onward: !c.Bool("once")}
	if f.Function == "" {
		f.Function = "*"
	} else if !slices.Contains(softhsm.Functions(), f.Function) {
		return f, failure.UsageHint(failure.DidYouMean(f.Function, softhsm.Functions(), func(name string) string { return name }),
			"--function is a function of PKCS #11 v2.40, such as C_Sign, not %q", f.Function)
	}
	if c.Uint("after") > mostCalls {
		return f, failure.Usage("--after is a number up to %d", mostCalls)
	}
	f.Call = int(c.Uint("after")) + 1
	with := c.String("with")
	if with == "" {
		return f, failure.UsageHint("hsmkeys help softhsm break", "softhsm break needs --with FAULT")
	}
	if slices.Contains(faultWords("*"), with) {
		f.Action, f.Arg = softhsm.Action(with), softhsm.AnyAttribute
		if f.Action == softhsm.Exit || f.Action == softhsm.QuickExit {
			f.Arg = failure.StatusFailed
		}
		switch {
		case c.Bool("done"):
			return f, failure.Usage("--done goes with a return value, not with %s", with)
		case !slices.Contains(faultWords(f.Function), with):
			return f, failure.UsageHint("what it can do: "+strings.Join(faultWords(f.Function), ", "), "%s returns nothing for %s to spoil", f.Function, with)
		}
		return f, nil
	}
	result, err := softhsm.ParseResult(with)
	switch {
	case err != nil:
		known := append(softhsm.Results(), faultWords("*")...)
		return f, failure.UsageHint(failure.DidYouMean(with, known, func(word string) string { return word }),
			"--with is a return value, such as CKR_DEVICE_REMOVED, or what help names; not %q", with)
	case result == 0:
		return f, failure.UsageHint("skip returns CKR_OK without doing anything", "CKR_OK is no fault")
	}
	f.Action, f.Arg = softhsm.Fail, result
	if c.Bool("done") {
		f.Action = softhsm.FailAfter
	}
	return f, nil
}

// faultWords are the values of --with that are no return values.
func faultWords(function string) []string {
	var words []string
	for _, a := range softhsm.Actions(function) {
		words = append(words, string(a))
	}
	return words
}

// changeToken does something to the token that the command names, and prints what has become of it.
func changeToken(s *settings.Settings, c *cli.Context, state string, f func(softhsm.Token) error) error {
	label, err := oneArgument(c, "the LABEL of a token")
	if err != nil {
		return err
	}
	env, err := softhsm.Current()
	if errors.Is(err, softhsm.ErrNoEnvironment) {
		return failure.UsageHint("hsmkeys softhsm run -- COMMAND, and call it from COMMAND", "%s works only within softhsm run: there are no throw-away tokens here", commandline.CommandName(c.Command))
	} else if err != nil {
		return err
	}
	t, err := tokenLabelled(env, label)
	if err != nil {
		return err
	}
	if err := f(t); err != nil {
		return err
	}
	if s.JSON {
		return output.JSON(map[string]string{"token": t.Label, "serial": t.Serial, "state": state})
	}
	return output.Line("token %s is %s", text.Printable(t.Label), state)
}

// tokenLabelled returns the only token with a label.
func tokenLabelled(env *softhsm.Env, label string) (softhsm.Token, error) {
	tokens, err := env.Tokens()
	if err != nil {
		return softhsm.Token{}, err
	}
	var found []softhsm.Token
	var labels []string
	for _, t := range tokens {
		labels = append(labels, text.Printable(t.Label))
		if t.Label == label {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return softhsm.Token{}, failure.WithHint(failure.NotFound("throw-away token %q", label), "there are: "+strings.Join(labels, ", "))
	case 1:
		return found[0], nil
	}
	return softhsm.Token{}, fmt.Errorf("%d tokens are called %q", len(found), label)
}

// errNoSoftHSM is for systems on which nobody has tried a PKCS #11 module.
func errNoSoftHSM() error {
	if runtime.GOOS == "windows" {
		return errors.New("throw-away tokens do not work on Windows")
	}
	return nil
}
