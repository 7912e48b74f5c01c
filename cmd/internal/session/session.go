// Package session opens what commands work with, as the settings say: the token, its key exchange
// pair, the store and the keyring.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/binding"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/hint"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/proposal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/secret"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/cmd/internal/trial"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
)

// Bind puts the section of the configuration file in force that is for the token.
func Bind(ctx context.Context, s *settings.Settings) error {
	return s.Bind(ctx, trial.Search(s.ModuleTimeout))
}

// WithToken logs in, calls f and closes the token. The PIN in the selector is cleared afterwards.
func WithToken(ctx context.Context, s *settings.Settings, f func(*token.Token, token.Selector) error) error {
	if _, err := AuditLog(s); err != nil {
		return err
	}
	if err := Bind(ctx, s); err != nil {
		return err
	}
	sel, module, err := s.Selector()
	if err != nil {
		return err
	}
	defer clear(sel.PINValue)
	if sel.PINValue != nil {
		message.Warn(settings.ErrPINValue)
	}
	t, err := OpenToken(ctx, s, sel, module, func(ctx context.Context, info token.Info) ([]byte, error) {
		return ReadPIN(ctx, s, sel, info)
	})
	if err != nil {
		return loginFailed(ctx, s, err)
	}
	return errors.Join(f(t, sel), t.Close())
}

// A PINFunc returns the PIN of a token, which the caller clears.
type PINFunc func(context.Context, token.Info) ([]byte, error)

// OpenToken logs in to the token that a selector names, with a PIN. If no module is named, it searches
// those that are known. The caller must close the token.
func OpenToken(ctx context.Context, s *settings.Settings, sel token.Selector, module string, pin PINFunc) (*token.Token, error) {
	if module == "" {
		info, err := Search(ctx, s, sel, "")
		if err != nil {
			return nil, err
		}
		module = info.Module
	}
	return token.Open(ctx, token.Config{
		Module: module, Token: sel, Sessions: s.Sessions, MakePairs: s.MakePairs, Patience: s.TokenPatience,
		Cache: settings.XDG("XDG_CACHE_HOME", ".cache"), TryAgain: s.IgnoreCache, FinalTry: s.FinalTry, AnyPINLength: s.AnyPINLength, RequireToken: s.RequireToken, Unattended: s.Unattended(sel),
		PINPad: func(info token.Info) {
			message.Note("type the PIN on the reader of token %s", text.Printable(info.Label))
		},
		PIN: pin,
	})
}

// Search finds the token that a selector names in a module, or if that is empty in those that are known.
// It needs no PIN.
func Search(ctx context.Context, s *settings.Settings, sel token.Selector, module string) (token.Info, error) {
	known := []token.ModuleConfig{{Path: module}}
	if module == "" {
		var err error
		if known, err = s.Modules(); err != nil {
			return token.Info{}, err
		}
	}
	return token.Find(ctx, known, sel, trial.Search(s.ModuleTimeout))
}

// ReadPIN reads the PIN of the token's user from its source, and warns of what the token's flags say
// before it is tried. The caller must clear it.
func ReadPIN(ctx context.Context, s *settings.Settings, sel token.Selector, info token.Info) ([]byte, error) {
	warnPIN(info)
	return s.ReadUserPIN(ctx, sel, info, fmt.Sprintf("PIN of token %s", text.Printable(info.Label)), secret.Ask)
}

// warnPIN warns of what the token's flags say before a PIN is tried.
func warnPIN(info token.Info) {
	if info.PIN.CountLow {
		message.Warn(fmt.Errorf("token %q: a wrong PIN was entered since the last login; the token does not say how many tries are left", info.Label))
	}
	if info.PIN.ToBeChanged {
		message.Warn(fmt.Errorf("token %q: its PIN is one that has to be changed (pkcs11-tool --change-pin)", info.Label))
	}
}

// WithStorePair opens the store, and calls f with the token and its key exchange pair as [WithPair].
func WithStorePair(ctx context.Context, s *settings.Settings, f func(Token, Pair, place.Store) error) error {
	if err := checkSelector(s); err != nil {
		return err // before the disk is touched
	}
	client, err := dialAgent(ctx, s)
	if err != nil {
		return err
	}
	return withStorePair(ctx, s, client, f)
}

// withStorePair is [WithStorePair] with an agent, or without one if client is nil. It closes the client.
func withStorePair(ctx context.Context, s *settings.Settings, client *agent.Client, f func(Token, Pair, place.Store) error) error {
	if client != nil {
		defer client.Close()
	}
	if _, err := AuditLog(s); err != nil {
		return err
	}
	if client == nil {
		if err := Bind(ctx, s); err != nil {
			return err // before the store is known
		}
	}
	store, err := OpenStore(ctx, s)
	if err != nil {
		return err // before anybody is asked for a PIN
	}
	defer store.Close()
	return withPair(ctx, s, client, store, func(t Token, pair Pair) error { return f(t, pair, store) })
}

func checkSelector(s *settings.Settings) error {
	sel, _, err := s.Selector()
	clear(sel.PINValue)
	return err
}

// WithKeyring opens the keyring with its token, and calls f.
func WithKeyring(ctx context.Context, s *settings.Settings, f func(*hsmkeys.Keyring) error) error {
	return WithStorePair(ctx, s, openFor(ctx, s, f))
}

func openFor(ctx context.Context, s *settings.Settings, f func(*hsmkeys.Keyring) error) func(Token, Pair, place.Store) error {
	return func(_ Token, pair Pair, store place.Store) error {
		k, err := OpenKeyring(ctx, s, pair, store)
		if err != nil {
			return err
		}
		return f(k)
	}
}

// FileKeys encrypt and decrypt files: a keyring, or the keys of one that the agent of another user
// allows this user.
type FileKeys interface {
	Encrypt(ctx context.Context, dst io.Writer, refs []hsmkeys.Ref, others ...age.Recipient) (io.WriteCloser, error)
	Decrypt(ctx context.Context, src io.Reader) (io.Reader, error)
	DecryptFile(ctx context.Context, dst io.Writer, src io.ReaderAt, size int64) error
}

// WithFileKeys calls f with the keys that the agent of another user allows, if its socket is the one that
// the settings name, or else with the keyring as [WithKeyring]. Such an agent has to be named: it decides
// what a file is encrypted under, so one that only lies in the usual place is not believed.
func WithFileKeys(ctx context.Context, s *settings.Settings, f func(FileKeys) error) error {
	if err := checkSelector(s); err != nil {
		return err
	}
	client, err := connectAgent(ctx, s)
	if err != nil {
		return err
	}
	if client != nil && client.NamedOnly && s.Agent != "" {
		defer client.Close()
		record, err := Record(s)
		if err != nil {
			return err
		}
		return f(client.NamedKeys(record))
	}
	if client != nil {
		if client, err = useAgent(s, client); err != nil {
			return err
		}
	}
	return withStorePair(ctx, s, client, openFor(ctx, s, func(k *hsmkeys.Keyring) error { return f(k) }))
}

// OpenKeyring opens the keyring of a store with its token, and prints what a person should know about
// its state.
func OpenKeyring(ctx context.Context, s *settings.Settings, pair hsmkeys.Pair, store blob.Store) (*hsmkeys.Keyring, error) {
	o, err := Options(s, store)
	if err != nil {
		return nil, err
	}
	o.Pair, o.Pins = pair, Pins(pair.Records())
	k, err := hsmkeys.Open(ctx, o)
	if err != nil {
		return nil, ExplainCheckpoint(o, err)
	}
	Announce(k)
	return k, nil
}

// WithReading opens the keyring with its token, or with the certificate in a file if one is named,
// and calls f.
func WithReading(ctx context.Context, s *settings.Settings, certificate string, f func(*hsmkeys.Keyring) error) error {
	if certificate == "" {
		return WithKeyring(ctx, s, f)
	}
	voucher, err := keyfile.ReadCertificate(certificate)
	if err != nil {
		return err
	}
	store, err := OpenStore(ctx, s)
	if err != nil {
		return err
	}
	defer store.Close()
	o, err := Options(s, store)
	if err != nil {
		return err
	}
	o.Voucher, o.Pins = voucher, Pins(nil)
	k, err := hsmkeys.OpenWithCertificate(ctx, o)
	if err != nil {
		return ExplainCheckpoint(o, err)
	}
	Announce(k)
	return f(k)
}

// Rehearsal is set in a process that works in the copy of a rehearsal.
var Rehearsal bool

// Options returns how the settings want a keyring opened.
func Options(s *settings.Settings, store blob.Store) (hsmkeys.Options, error) {
	if Rehearsal && store != nil {
		store = ledger.RehearsalStore{Store: store}
	}
	o := hsmkeys.Options{
		Store: store, Once: !s.WholeStore && !s.Stays, OlderState: s.OlderState, MaxAge: s.MaxAge,
		Password: password(s), Warn: warn, Progress: terminal.CountKey, NoReadBack: !s.ReadBack,
	}
	if s.ProposeTo != "" {
		o.ProposeFor = s.ProposeFor
		o.Propose = func(p blob.Proposal) error { return proposal.Write(context.Background(), s.ProposeTo, p) }
	}
	var err error
	if o.Record, err = Record(s); err != nil {
		return o, err
	}
	if o.Keyring, err = expected(s); err != nil {
		return o, err
	}
	if s.Checkpoint != "" {
		at, err := ledger.ParsePoint(s.Checkpoint)
		if err != nil {
			return o, failure.Usage("--checkpoint: %v", err)
		}
		o.Checkpoint = &at
	}
	return o, nil
}

// warn prints a warning, and what to do about it.
func warn(err error) {
	if help := hint.For(err); help != "" {
		err = fmt.Errorf("%w; %s", err, help)
	}
	message.Warn(err)
}

// expected returns the keyring that the store must hold: that of --keyring, or else the one that init
// or join has remembered.
func expected(s *settings.Settings) (blob.ID, error) {
	if s.Keyring != "" {
		id, err := binding.ParseKeyring(s.Keyring)
		if err != nil {
			return id, failure.Usage("--keyring: %v", err)
		}
		return id, nil
	}
	path, err := s.NamedStore()
	if err != nil {
		return blob.ID{}, err
	}
	return binding.Of(path)
}

// Pins returns where checkpoints are pinned: in files below $XDG_STATE_HOME, and in the records of
// a token unless they are nil.
func Pins(records keyspec.Records) *hsmkeys.Pins {
	return hsmkeys.NewPins(records, settings.XDG("XDG_STATE_HOME", ".local/state", "pins"))
}

// OpenStore opens the store.
func OpenStore(ctx context.Context, s *settings.Settings) (place.Store, error) {
	path, err := s.NamedStore()
	if err != nil {
		return nil, err
	}
	cache := ""
	if !s.WholeStore {
		cache = settings.XDG("XDG_CACHE_HOME", ".cache", "store")
	}
	store, err := place.Open(ctx, path, cache)
	if errors.Is(err, failure.ErrNoStore) {
		return nil, noStore(path, err)
	}
	return store, err
}

// noStore returns the error for a directory without a store. If a keyring belongs there, init would
// refuse to found another one.
func noStore(path string, err error) error {
	if id, e := binding.Of(path); e == nil && id != (blob.ID{}) {
		return failure.WithHint(fmt.Errorf("%w; keyring %s belongs there", err, id), "mount the file system that has it, or put the store back from a copy; if it was moved, hsmkeys store move")
	}
	return failure.WithHint(err, "hsmkeys init makes a store and founds a keyring in it; is this the right --store?")
}
