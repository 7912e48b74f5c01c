// Package ageplugin is the age plugin: the same program under the name age-plugin-hsmkeys. Its
// stdin and stdout belong to age, by the protocol of age-encryption.org/plugin, and so does the
// terminal: prompts and messages go through age.
package ageplugin

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/hint"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/secret"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

// Program is the name under which age runs the plugin.
const Program = "age-plugin-" + hsmkeys.PluginName

// IsPlugin reports whether the program was called as the plugin.
func IsPlugin(args []string) bool {
	return len(args) > 0 && filepath.Base(args[0]) == Program
}

// Main serves age until it is done, and returns the exit status.
func Main(ctx context.Context, args []string) int {
	p, err := plugin.New(hsmkeys.PluginName)
	if err != nil {
		return message.Report(ctx, err)
	}
	flags := flag.NewFlagSet(Program, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	p.RegisterFlags(flags)
	err = flags.Parse(args)
	if machine := flags.Lookup("age-plugin").Value.String(); err != nil || flags.NArg() > 0 || machine != "recipient-v1" && machine != "identity-v1" {
		return message.Report(ctx, failure.Usage("%s is run by age; hsmkeys help age explains recipients and identities", Program))
	}
	// Whatever relative path is left, in a command or a module's own configuration, does not lead to
	// another user's file there; see [settings.Source].
	if err := os.Chdir("/"); err != nil {
		return message.Report(ctx, err)
	}
	ctx = hsmkeys.WithUse(ctx, hsmkeys.Use{Command: Program})
	client := &ageClient{Plugin: p}
	secret.Ask, message.Print = client.ask, client.tell
	p.HandleRecipient(func(data []byte) (age.Recipient, error) {
		r, err := hsmkeys.ParsePluginRecipient(data)
		if err != nil {
			return nil, inOneLine(err)
		}
		if r, ok := r.(*hsmkeys.RSARecipient); ok {
			return r, nil // with no token
		}
		return &pluginRecipient{ctx: ctx, client: client, to: r.(hsmkeys.KeyRecipient)}, nil
	})
	p.HandleIdentityAsRecipient(func(data []byte) (age.Recipient, error) {
		i, err := Decode(data)
		if err != nil {
			return nil, inOneLine(err)
		}
		return &pluginRecipient{ctx: ctx, client: client, from: i, to: hsmkeys.KeyRecipient{Name: i.Key}}, nil
	})
	identities := &pluginIdentities{client: client}
	p.HandleIdentity(func(data []byte) (age.Identity, error) {
		i, err := Decode(data)
		if err != nil {
			return nil, inOneLine(err)
		}
		return identities.add(&pluginIdentity{ctx, client, i}), nil
	})
	return p.Main()
}

// pluginRecipient encrypts with the token: under the key of a keyring, or to the key exchange pair
// if to has no name, as for an identity without a key.
type pluginRecipient struct {
	ctx    context.Context
	client *ageClient
	from   Identity // for where token and store are; empty for a recipient
	to     hsmkeys.KeyRecipient
}

func (r *pluginRecipient) Wrap(fileKey []byte) (stanzas []*age.Stanza, err error) {
	err = r.client.waiting(func() error {
		return r.from.withSettings(func(s *settings.Settings) error {
			if r.to.Name == "" {
				return session.WithPair(r.ctx, s, func(_ session.Token, pair session.Pair) error {
					to, err := hsmkeys.NewPairRecipient(pair.Public())
					if err != nil {
						return err
					}
					stanzas, err = to.Wrap(fileKey)
					return err
				})
			}
			return session.WithKeyring(r.ctx, s, func(k *hsmkeys.Keyring) error {
				if r.to.Keyring != (blob.ID{}) && r.to.Keyring != k.ID() {
					return fmt.Errorf("the recipient is key %q of keyring %s, and the store %q has keyring %s; choose the store with HSMKEYS_STORE or in the configuration file",
						r.to.Name, r.to.Keyring, s.StorePath(), k.ID())
				}
				key, err := k.Open(r.ctx, hsmkeys.Ref{Name: r.to.Name})
				if err != nil {
					return err
				}
				defer key.Close()
				show.WarnFormer(r.ctx, k, hsmkeys.Ref{Name: r.to.Name})
				stanzas, err = key.Recipient(r.ctx).Wrap(fileKey)
				return err
			})
		})
	})
	if err != nil {
		return nil, inOneLine(err)
	}
	return stanzas, nil
}

// pluginIdentities are the identities of one run, which are tried in turn. One that fails must not
// keep a later one from being tried, but in the protocol an error is the end.
//
// age runs the plugin once for each identity: then the reason is a message, and age goes on to the
// next. Other clients pass all identities at once: then the last one that fails reports why each
// did. A refused PIN ends it in both cases, since the next identity might send it again.
type pluginIdentities struct {
	client  *ageClient
	all     []*pluginIdentity
	failed  []error // for the file that is being tried
	refused error   // a PIN
}

func (ids *pluginIdentities) add(id *pluginIdentity) age.Identity {
	ids.all = append(ids.all, id)
	return &oneOfIdentities{ids, id}
}

type oneOfIdentities struct {
	ids *pluginIdentities
	id  *pluginIdentity
}

func (o *oneOfIdentities) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	ids := o.ids
	if o.id == ids.all[0] {
		ids.failed = nil
	}
	if ids.refused != nil {
		return nil, ids.refused
	}
	fileKey, err := o.id.Unwrap(stanzas)
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) {
		ids.failed = append(ids.failed, inOneLine(err))
	}
	switch {
	case err == nil:
		return fileKey, nil
	case errors.Is(err, token.ErrPIN), errors.Is(err, context.Canceled):
		ids.refused = ids.reasons()
		return nil, ids.refused
	case len(ids.failed) > 0 && len(ids.all) == 1:
		ids.client.tell(ids.failed[0].Error())
	case len(ids.failed) > 0 && o.id == ids.all[len(ids.all)-1]:
		return nil, ids.reasons()
	}
	return nil, age.ErrIncorrectIdentity
}

// reasons returns one error, in one line.
func (ids *pluginIdentities) reasons() error {
	var reasons []string
	for _, err := range ids.failed {
		reasons = append(reasons, err.Error())
	}
	return errors.New(strings.Join(reasons, "; "))
}

// pluginIdentity decrypts with the token. It asks for a PIN only for stanzas that can be its own.
type pluginIdentity struct {
	ctx    context.Context
	client *ageClient
	from   Identity
}

func (i *pluginIdentity) Unwrap(stanzas []*age.Stanza) (fileKey []byte, err error) {
	keys, pairs := i.from.own(stanzas)
	if len(keys)+len(pairs) == 0 {
		return nil, age.ErrIncorrectIdentity
	}
	err = i.client.waiting(func() error {
		return i.from.withSettings(func(s *settings.Settings) error {
			return session.WithPair(i.ctx, s, func(t session.Token, pair session.Pair) (err error) {
				fileKey, err = i.unwrap(s, t, pair, keys, pairs)
				return err
			})
		})
	})
	return fileKey, err
}

// unwrap tries the pair first: its stanzas are known by their tag, and need no store.
func (i *pluginIdentity) unwrap(s *settings.Settings, t session.Token, pair session.Pair, keys, pairs []*age.Stanza) ([]byte, error) {
	if len(pairs) > 0 {
		fileKey, err := i.unwrapPair(s, t, pair, pairs)
		if len(keys) == 0 || !errors.Is(err, age.ErrIncorrectIdentity) {
			return fileKey, err
		}
	}
	return i.unwrapKey(s, pair, keys)
}

func (i *pluginIdentity) unwrapPair(s *settings.Settings, t session.Token, pair session.Pair, stanzas []*age.Stanza) ([]byte, error) {
	own, err := hsmkeys.PairTagOf(pair.Public())
	if err != nil {
		return nil, err
	}
	if len(i.from.Pair) > 0 && !bytes.Equal(own, i.from.Pair) {
		return nil, fmt.Errorf("token %q holds another key exchange pair than the one that the identity names", t.Info().Label)
	}
	record, err := session.Record(s)
	if err != nil {
		return nil, err
	}
	return hsmkeys.PairIdentity(i.ctx, hsmkeys.RecordedPair{Decrypter: pair, Record: record}).Unwrap(stanzas)
}

func (i *pluginIdentity) unwrapKey(s *settings.Settings, pair session.Pair, keys []*age.Stanza) ([]byte, error) {
	store, err := session.OpenStore(i.ctx, s)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	k, err := session.OpenKeyring(i.ctx, s, pair, store)
	if err != nil {
		return nil, err
	}
	return k.Identity(i.ctx).Unwrap(keys)
}

// inOneLine returns an error with its hint in one line, which is what age shows of it.
func inOneLine(err error) error {
	line := text.Line(err.Error())
	if hint := hint.For(err); hint != "" {
		line += " (" + text.Line(hint) + ")"
	}
	return errors.New(line)
}

// An ageClient is age at the other end. It handles one message at a time.
type ageClient struct {
	*plugin.Plugin
	mu    sync.Mutex
	busy  bool      // with what age has asked for
	since time.Time // nobody has been asked anything
	slow  *time.Timer
}

// ask makes age ask for a secret. The string that the protocol returns cannot be cleared.
func (a *ageClient) ask(_ context.Context, what string) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	value, err := a.RequestValue(what+":", true)
	a.since = time.Now()
	if err != nil {
		return nil, failure.Usage("age could not ask for the %s; use HSMKEYS_PIN_SOURCE, or for a password HSMKEYS_PASSWORD_SOURCE: env:NAME, file:PATH or exec:COMMAND", what)
	}
	if value == "" {
		return nil, errors.New("nothing was typed")
	}
	return []byte(value), nil
}

// tell makes age show a line. Failures are ignored: only the line is lost.
func (a *ageClient) tell(line string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.DisplayMessage(line)
}

// slowAfter is how long a token may take before age shows a reminder: no module reports that a key
// has to be touched.
const slowAfter = 2 * time.Second

// waiting calls f, and shows a reminder if the token takes long. Messages are sent before f
// returns, since the protocol has no other order.
func (a *ageClient) waiting(f func() error) error {
	a.mu.Lock()
	a.busy, a.since = true, time.Now()
	a.slow = time.AfterFunc(slowAfter, a.remind)
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.busy = false
		a.slow.Stop()
	}()
	return f()
}

// remind shows the reminder, unless age is not waiting or a person has just typed.
func (a *ageClient) remind() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.busy {
		return
	}
	if left := slowAfter - time.Since(a.since); left > 0 { // somebody has just typed
		a.slow.Reset(left)
		return
	}
	_ = a.DisplayMessage("waiting for the token; if it blinks, touch it")
}
