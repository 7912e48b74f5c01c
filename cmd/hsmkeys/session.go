package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/secret"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
)

// defaultLabel is the label of the key exchange pair where none is named.
const defaultLabel = "hsmkeys"

// selector reads --token, and the module that goes with it: none where the user has
// named none.
func selector(c *cli.Context) (token.Selector, string, error) {
	sel, err := token.ParseSelector(c.String("token"))
	if err != nil {
		return sel, "", err
	}
	module := c.String("module")
	if module == "" {
		module = sel.ModulePath
	}
	if module == "" && sel.ModuleName != "" {
		module, err = token.ModuleNamed(sel.ModuleName)
	}
	return sel, module, err
}

// modules are those that the configuration file's sections name and p11-kit knows, where no
// module is named.
func modules(c *cli.Context) ([]token.ModuleConfig, error) {
	known, err := token.Modules()
	known = append(settingsOf(c).modules(), known...)
	if err == nil && len(known) == 0 {
		err = failure.Usage("no PKCS #11 module named, and p11-kit knows none; use --module, HSMKEYS_MODULE or a URI's module-path")
	}
	return known, err
}

// withToken logs in, runs f and closes the token.
func withToken(c *cli.Context, f func(*token.Token, token.Selector) error) error {
	if err := bind(c); err != nil {
		return err
	}
	sel, module, err := selector(c)
	if err != nil {
		return err
	}
	defer clear(sel.PINValue)
	if sel.PINValue != nil {
		message.Warn(errPINValue)
	}
	if module == "" {
		known, err := modules(c)
		if err != nil {
			return err
		}
		info, err := token.Find(c.Context, known, sel, search(c))
		if err != nil {
			return err
		}
		module = info.Module
	}
	tells := c.Command.Name == "doctor" || c.Command.Name == "show" // what is so, and what is in a file may be anybody's
	t, err := token.Open(c.Context, token.Config{
		Module: module, Token: sel, Sessions: c.Int("sessions"), MakePairs: c.Command.Name == "init",
		Cache: xdg("XDG_CACHE_HOME", ".cache"), TryAgain: tells, FinalTry: c.Bool("final-try"), AnyPINLength: c.Bool("any-pin-length"), RequireToken: c.Bool("require-token"), Unattended: unattended(c, sel),
		PINPad: func(info token.Info) {
			message.Note("type the PIN on the reader of token %s", text.Printable(info.Label))
		},
		PIN: func(ctx context.Context, info token.Info) ([]byte, error) {
			warnPIN(info)
			return readUserPIN(ctx, c, sel, info, fmt.Sprintf("PIN of token %s", text.Printable(info.Label)), secret.Ask)
		},
	})
	if err != nil {
		return err
	}
	return errors.Join(f(t, sel), t.Close())
}

// warnPIN tells what the token's flags say before a PIN is tried.
func warnPIN(info token.Info) {
	if info.PIN.CountLow {
		message.Warn(fmt.Errorf("token %q: a wrong PIN was entered since the last login; the token does not say how many tries are left", info.Label))
	}
	if info.PIN.ToBeChanged {
		message.Warn(fmt.Errorf("token %q: its PIN is one that has to be changed (pkcs11-tool --change-pin)", info.Label))
	}
}

// unattended reports whether the PIN comes from where no person is asked.
func unattended(c *cli.Context, sel token.Selector) bool {
	source, value := userPINSource(c, sel)
	return value != nil || source != "" && source != "prompt"
}

// withPair is withToken for commands that work with the key exchange pair.
func withPair(c *cli.Context, f func(*token.Token, *token.KeyPair) error) error {
	return withToken(c, func(t *token.Token, sel token.Selector) error {
		pair, err := findPair(c, t, token.PairName{Label: sel.Object, ID: sel.ID})
		if err != nil {
			return err
		}
		if err := warnStrays(c, pair); err != nil {
			return err
		}
		return f(t, pair)
	})
}

// findPair finds the pair that is named, or else the one that the keyring in the store
// knows, or else as [pairOn] does; and the one that signs for it.
func findPair(c *cli.Context, t *token.Token, name token.PairName) (*token.KeyPair, error) {
	if name.Label == "" && len(name.ID) == 0 {
		pair, err := pairOfStore(c, t)
		if err != nil {
			return nil, err
		}
		if pair != nil {
			return pair, signWith(c, t, pair)
		}
	}
	return pairOn(c, t, name)
}

// pairOn finds the pair that is named, or else ours, or else the only one there is, and
// the one that signs for it.
func pairOn(c *cli.Context, t *token.Token, name token.PairName) (*token.KeyPair, error) {
	unnamed := name.Label == "" && len(name.ID) == 0
	if unnamed {
		name.Label = defaultLabel
	}
	pair, err := t.KeyPair(c.Context, name)
	if unnamed && errors.Is(err, token.ErrNoPair) {
		pair, err = t.KeyPair(c.Context, token.PairName{})
	}
	if err == nil {
		err = pair.RefuseLegacy()
	}
	if err != nil {
		return nil, err
	}
	return pair, signWith(c, t, pair)
}

// pairOfStore is the pair that the keyring in the store knows; nil where it settles
// nothing, or there is none.
func pairOfStore(c *cli.Context, t *token.Token) (*token.KeyPair, error) {
	path := storePath(c)
	if path == "" {
		return nil, nil
	}
	store, err := dir.Open(path)
	if err != nil {
		return nil, nil // commands that need the store say so
	}
	defer store.Close()
	return hsmkeys.PairOf(c.Context, t, store, pins(t))
}

// warnStrays tells what on the token has the pair's id and is not its own.
func warnStrays(c *cli.Context, pair *token.KeyPair) error {
	strays, err := pair.Strays(c.Context)
	for _, s := range strays {
		message.Warn(fmt.Errorf("skipped, as it has the id of the pair %q and not its key: %s", pair.Label(), s.What))
	}
	return err
}

// signWith has the pair that --signing-key names sign for another.
func signWith(c *cli.Context, t *token.Token, pair *token.KeyPair) error {
	signing, err := pairNamed(c, t, "signing-key")
	if err != nil || signing == nil {
		return err
	}
	if err := signing.RefuseLegacy(); err != nil {
		return err
	}
	return pair.SignWith(signing)
}

// pairNamed finds the further pair that an option names, by its label or a URI; nil where
// it names none.
func pairNamed(c *cli.Context, t *token.Token, option string) (*token.KeyPair, error) {
	named := c.String(option)
	if named == "" {
		return nil, nil
	}
	name := token.PairName{Label: named}
	if sel, err := token.ParseSelector(named); err != nil {
		return nil, err
	} else if sel.Label != named { // a URI, not a label
		clear(sel.PINValue)
		if sel.Object == "" && len(sel.ID) == 0 {
			return nil, failure.Usage("--%s is the label of a pair, or a URI with object or id", option)
		}
		if sel.Label != "" && sel.Label != t.Info().Label || sel.Serial != "" && sel.Serial != t.Info().Serial {
			return nil, failure.Usage("--%s is on another token than the key exchange pair: both are on one", option)
		}
		name = token.PairName{Label: sel.Object, ID: sel.ID}
	}
	return t.KeyPair(c.Context, name)
}

// withStorePair opens the store and then logs in.
func withStorePair(c *cli.Context, f func(*token.Token, *token.KeyPair, *dir.Store) error) error {
	if _, _, err := selector(c); err != nil {
		return err // before the disk is touched
	}
	if err := bind(c); err != nil {
		return err // before the store is known
	}
	store, err := openStore(c)
	if err != nil {
		return err // before anybody is asked for a PIN
	}
	defer store.Close()
	return withPair(c, func(t *token.Token, pair *token.KeyPair) error { return f(t, pair, store) })
}

// withKeyring opens the keyring with its token.
func withKeyring(c *cli.Context, f func(*hsmkeys.Keyring) error) error {
	return withStorePair(c, func(t *token.Token, pair *token.KeyPair, store *dir.Store) error {
		k, err := openKeyring(c, t, pair, store)
		if err != nil {
			return err
		}
		return f(k)
	})
}

func openKeyring(c *cli.Context, t *token.Token, pair *token.KeyPair, store *dir.Store) (*hsmkeys.Keyring, error) {
	o, err := options(c, store)
	if err != nil {
		return nil, err
	}
	o.Token, o.Pair, o.Pins = t, pair, pins(t)
	k, err := hsmkeys.Open(c.Context, o)
	if err != nil {
		return nil, explainTold(o, err)
	}
	announce(k)
	settle(c, k)
	return k, nil
}

// options are how the command line wants a keyring opened.
func options(c *cli.Context, store *dir.Store) (hsmkeys.Options, error) {
	o := hsmkeys.Options{Store: store, OlderState: c.Bool("older-state"), MaxAge: c.Duration("max-age")}
	if o.MaxAge < 0 {
		return o, failure.Usage("--max-age is a time such as 24h, not %v", o.MaxAge)
	}
	var err error
	if o.Keyring, err = expected(c); err != nil {
		return o, err
	}
	if s := c.String("checkpoint"); s != "" {
		at, err := ledger.ParsePoint(s)
		if err != nil {
			return o, failure.Usage("--checkpoint: %v", err)
		}
		o.Checkpoint = &at
	}
	return o, nil
}

// settle sets what the options have to say about the work with a keyring.
func settle(c *cli.Context, k *hsmkeys.Keyring) {
	k.Passwords(password(c))
	k.Warnings(message.Warn)
	k.ReadBack(c.String("read-back") != "none")
}

// pins are in files under $XDG_STATE_HOME, and on the token where there is one.
func pins(t *token.Token) *hsmkeys.Pins {
	return hsmkeys.PinsOn(t, xdg("XDG_STATE_HOME", ".local/state", "pins"))
}

// withReading opens the keyring with its token, or without one where the command
// was given --certificate.
func withReading(c *cli.Context, f func(*hsmkeys.Keyring) error) error {
	path := c.String("certificate")
	if path == "" {
		return withKeyring(c, f)
	}
	certificate, err := keyfile.ReadCertificate(path)
	if err != nil {
		return err
	}
	store, err := openStore(c)
	if err != nil {
		return err
	}
	defer store.Close()
	o, err := options(c, store)
	if err != nil {
		return err
	}
	o.Voucher, o.Pins = certificate, pins(nil)
	k, err := hsmkeys.OpenWithCertificate(c.Context, o)
	if err != nil {
		return explainTold(o, err)
	}
	announce(k)
	return f(k)
}

// certificateFlag is for the commands that only verify.
func certificateFlag() cli.Flag {
	return &cli.StringFlag{Name: "certificate", Usage: "use the certificate in this `FILE`, of an owner in force who has signed a checkpoint, in place of the token"}
}

func storePath(c *cli.Context) string {
	if path := c.String("store"); path != "" {
		return path
	}
	return xdg("XDG_DATA_HOME", ".local/share")
}

// namedStore is storePath, which has to be known.
func namedStore(c *cli.Context) (string, error) {
	path := storePath(c)
	if path == "" {
		return "", failure.Usage("no --store, and neither $XDG_DATA_HOME nor $HOME is an absolute path")
	}
	return path, nil
}

func openStore(c *cli.Context) (*dir.Store, error) {
	path, err := namedStore(c)
	if err != nil {
		return nil, err
	}
	store, err := dir.Open(path)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", failure.ErrNoStore, err)
	}
	return store, err
}

// oneArgument is the argument of commands that take exactly one.
func oneArgument(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", failure.Usage("%s takes one argument, %s", commandName(c.Command), what)
	}
	return c.Args().First(), nil
}

// nameArgument is the NAME of commands that take a key, whatever its version.
func nameArgument(c *cli.Context) (string, error) {
	name, err := oneArgument(c, "the NAME of the key")
	if err != nil {
		return "", err
	}
	return name, validName(c, name)
}

// validName looks at the name of a key where no version may follow it.
func validName(c *cli.Context, name string) error {
	if key, _, versioned := strings.Cut(name, "@"); versioned && blob.ValidName(key) == nil {
		return failure.UsageHint(fmt.Sprintf("hsmkeys %s %s", commandName(c.Command), key), "%s takes the NAME of a key, without a version", commandName(c.Command))
	}
	return blob.ValidName(name)
}

// newNameArgument is nameArgument for a key that is to be made.
func newNameArgument(c *cli.Context) (string, error) {
	name, err := nameArgument(c)
	if err != nil {
		return "", err
	}
	return name, blob.ValidNewName(name)
}

// keyArgument is the NAME[@VERSION] of commands that take one key.
func keyArgument(c *cli.Context) (hsmkeys.Ref, error) {
	arg, err := oneArgument(c, "NAME or NAME@VERSION")
	if err != nil {
		return hsmkeys.Ref{}, err
	}
	return hsmkeys.ParseRef(arg)
}

func noArgument(c *cli.Context) error {
	if c.NArg() != 0 {
		return failure.Usage("%s takes no argument, but there is %q", commandName(c.Command), c.Args().First())
	}
	return nil
}

// validLabel looks at --label, of an object that is to be made on the token, before
// anything else is done.
func validLabel(c *cli.Context) error {
	if label := c.String("label"); label != "" && token.ValidLabel(label) != nil {
		return failure.Usage("--label %q: %v", label, token.ValidLabel(label))
	}
	return nil
}
