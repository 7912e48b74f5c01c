package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
	"github.com/hsmkeys/hsmkeys/cmd/internal/binding"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

var keyTypes = map[string]token.KeyType{
	"rsa2048": token.RSA2048, "rsa3072": token.RSA3072, "rsa4096": token.RSA4096,
	"p256": token.P256, "p384": token.P384, "p521": token.P521,
}

type initOptions struct {
	kind       token.KeyType
	named      bool // the command line names the kind
	label      string
	newKeyring bool
	adopt      bool
	pair       string // to adopt: a label or a URI; "" for the one of --token or --label, or the only one
}

func initCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "make the key exchange pair and found the keyring", ArgsUsage: "[--adopt [URI]]",
		Description: "Makes an RSA or EC pair and its certificate on the token, and signs the first checkpoint, with the first list of members.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key-type", Value: "rsa3072", Usage: "rsa2048, rsa3072, rsa4096, p256, p384 or p521"},
			&cli.StringFlag{Name: "label", Usage: "`LABEL` of the pair on the token", DefaultText: session.DefaultLabel},
			&cli.BoolFlag{Name: "new-keyring", Usage: "found a keyring even if another one was in this place before"},
			&cli.BoolFlag{Name: "pair-only", Usage: "make the pair and its certificate, and found no keyring: for a token that will join one"},
			&cli.BoolFlag{Name: "adopt", Usage: "use a pair that is already on the token: the one of the URI or label that follows, of --token or --label, or the only one"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			kind, ok := keyTypes[c.String("key-type")]
			if !ok {
				return failure.Usage("--key-type is rsa2048, rsa3072, rsa4096, p256, p384 or p521, not %q", c.String("key-type"))
			}
			if !c.Bool("adopt") || c.NArg() > 1 {
				if err := noArgument(c); err != nil {
					return err
				}
			}
			if !c.Bool("adopt") { // an adopted pair may have any label
				if err := validLabel(c); err != nil {
					return err
				}
			}
			o := initOptions{kind: kind, named: c.IsSet("key-type"), label: c.String("label"), newKeyring: c.Bool("new-keyring"), adopt: c.Bool("adopt"), pair: c.Args().First()}
			s.MakePairs = true
			record, err := session.Record(s)
			if err != nil {
				return err
			}
			if c.Bool("pair-only") {
				return makePair(ctx, s, o)
			}
			if err := session.Bind(ctx, s); err != nil {
				return err // before the store is known
			}
			path, err := s.NamedStore()
			if err != nil {
				return err
			}
			if _, err := os.Stat(path); !place.IsBucket(path) && errors.Is(err, fs.ErrNotExist) {
				if err := refuseBound(s, o); err != nil {
					return err // before the directory is made
				}
			}
			store, err := place.Create(ctx, path) // before the token makes a pair in vain
			if err != nil {
				return err
			}
			defer store.Close()
			founded := refuseKeyring(ctx, s, o, store)
			if founded != nil && !mayFinish(ctx, store, founded) {
				return founded
			}
			if err := store.TryWrite(ctx); err != nil { // check that the store can be written
				return err
			}
			return session.WithToken(ctx, s, func(t *token.Token, sel token.Selector) error {
				if founded != nil {
					return finishFounding(ctx, s, o, t, sel, store, founded)
				}
				pair, err := pairFor(ctx, s, o, t, sel)
				if err != nil {
					return err
				}
				k, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: pair, Pins: session.Pins(t), Record: record}, t.Info().Label)
				if err != nil {
					return fmt.Errorf("the pair %q is on the token, but founding the keyring failed; use --adopt once that is mended: %w", pair.Label(), err)
				}
				return printFounded(s, k, pair, store)
			})
		}),
	}
}

// makePair makes the pair and its certificate, and does not touch the store.
func makePair(ctx context.Context, s *settings.Settings, o initOptions) error {
	return session.WithToken(ctx, s, func(t *token.Token, sel token.Selector) error {
		pair, err := pairFor(ctx, s, o, t, sel)
		if err != nil {
			return err
		}
		certificate, err := hsmkeys.CertificateOf(ctx, pair, t.Info().Label)
		if err != nil {
			return err
		}
		if _, err := pair.SigningCertificate(ctx); err != nil {
			return err
		}
		if s.JSON {
			return output.JSON(show.MemberOf(blob.Member{Role: blob.Owner, Label: pair.Label(), Certificate: certificate}))
		}
		return output.Line("key exchange pair %s, id %x%s\n"+
			"fingerprint SHA-256 %s\n"+
			"send the certificate to an owner, and confirm the fingerprint over another channel: hsmkeys certificate > new.pem",
			labelOf(pair), pair.ID(), howToName(pair), show.Fingerprint(certificate))
	})
}

// mayFinish reports whether an interrupted init may have left the keyring in the store.
func mayFinish(ctx context.Context, store blob.Store, founded error) bool {
	if !errors.Is(founded, blob.ErrExists) {
		return false
	}
	begun, err := hsmkeys.InitInterrupted(ctx, store)
	return err == nil && begun
}

// finishFounding completes an interrupted init, or returns founded if the keyring in the store is
// not one that this token was founding.
func finishFounding(ctx context.Context, s *settings.Settings, o initOptions, t *token.Token, sel token.Selector, store place.Store, founded error) error {
	name := token.PairName{Label: cmp.Or(o.label, sel.Object), ID: sel.ID}
	if o.adopt {
		var err error
		if name, err = o.adopted(t, name); err != nil {
			return err
		}
	}
	pair, err := session.PairOn(ctx, s, t, name)
	if errors.Is(err, token.ErrNoPair) || errors.Is(err, token.ErrAmbiguous) {
		return founded
	}
	if err != nil {
		return err
	}
	record, err := session.Record(s)
	if err != nil {
		return err
	}
	k, err := hsmkeys.ResumeInit(ctx, hsmkeys.Options{Store: store, Pair: pair, Pins: session.Pins(t), Record: record})
	if errors.Is(err, blob.ErrExists) {
		return founded
	}
	if err != nil {
		return err
	}
	if k.State().Before.Number > 0 {
		message.Note("an earlier init has founded this keyring, and it is complete")
	} else {
		message.Note("took over the keyring that an interrupted init has left in the store, and pinned it")
	}
	return printFounded(s, k, pair, store)
}

// makeOrTakeOver makes the pair, or takes over the one that an interrupted init has left. Other
// leftovers are removed first.
func makeOrTakeOver(ctx context.Context, t *token.Token, label string, o initOptions) (*token.KeyPair, error) {
	removed, err := t.CleanUp(ctx, label)
	if err != nil {
		return nil, err
	}
	if removed > 0 {
		message.Note("deleted what an interrupted init has left on the token: %d unusable objects", removed)
	}
	pair, exists := t.GenerateKeyPair(ctx, label, o.kind)
	if !errors.Is(exists, token.ErrTaken) {
		return pair, exists
	}
	kind := o.kind
	if !o.named {
		kind = 0
	}
	pair, err = t.LeftoverPair(ctx, label, kind)
	if errors.Is(err, token.ErrTaken) || errors.Is(err, token.ErrNoPair) || errors.Is(err, token.ErrAmbiguous) || errors.Is(err, token.ErrUnsafe) || errors.Is(err, errors.ErrUnsupported) {
		return nil, exists
	}
	if err != nil {
		return nil, err
	}
	switch used, err := session.Pins(t).Has(ctx, pair); {
	case err != nil:
		return nil, err
	case used: // by another keyring
		return nil, exists
	}
	message.Note("took over the pair %s, which is on the token and belongs to no keyring: left by an interrupted init, or made by init --pair-only", text.Printable(label))
	return pair, nil
}

// pairFor makes the pair, or finds the one to adopt.
func pairFor(ctx context.Context, s *settings.Settings, o initOptions, t *token.Token, sel token.Selector) (*token.KeyPair, error) {
	label := cmp.Or(o.label, sel.Object)
	if o.adopt {
		name, err := o.adopted(t, token.PairName{Label: label, ID: sel.ID})
		if err != nil {
			return nil, err
		}
		return session.PairOn(ctx, s, t, name)
	}
	label = cmp.Or(label, session.DefaultLabel)
	var pair *token.KeyPair
	err := session.Changing(ctx, s, hsmkeys.Use{Operation: audit.OpMakePair, To: label}, func(ctx context.Context) (err error) {
		pair, err = makeOrTakeOver(ctx, t, label, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return pair, session.SignWith(ctx, s, t, pair)
}

// adopted returns the name of the pair that the argument names, a label or a URI, or else name.
func (o initOptions) adopted(t *token.Token, name token.PairName) (token.PairName, error) {
	if o.pair == "" {
		return name, nil
	}
	sel, err := token.ParseSelector(o.pair)
	if err != nil {
		return name, err
	}
	defer clear(sel.PINValue)
	if sel.Label == o.pair { // a label, not a URI
		return token.PairName{Label: o.pair}, nil
	}
	if sel.Label != "" && sel.Label != t.Info().Label || sel.Serial != "" && sel.Serial != t.Info().Serial {
		return name, failure.Usage("--adopt names another token than --token")
	}
	return token.PairName{Label: sel.Object, ID: sel.ID}, nil
}

func refuseKeyring(ctx context.Context, s *settings.Settings, o initOptions, store blob.Store) error {
	_, err := store.Get(ctx, blob.SlotPath(1))
	if errors.Is(err, blob.ErrNotFound) {
		return refuseBound(s, o)
	}
	if err == nil {
		return failure.WithHint(fmt.Errorf("store %q holds a keyring: %w", s.StorePath(), blob.ErrExists),
			"a token becomes another owner of it with init --pair-only and owner add; another keyring is founded in another --store")
	}
	return err
}

// refuseBound refuses to found a keyring where another one belongs, which may have been taken away.
func refuseBound(s *settings.Settings, o initOptions) error {
	path, err := s.NamedStore()
	if err != nil || o.newKeyring {
		return err
	}
	id, err := binding.Of(path)
	if err != nil || id == (blob.ID{}) {
		return err
	}
	return failure.WithHint(fmt.Errorf("store %q is empty, and keyring %s belongs there: %w", path, id, hsmkeys.ErrOtherKeyring),
		"put it back from a copy; or found another one with init --new-keyring")
}

func printFounded(s *settings.Settings, k *hsmkeys.Keyring, pair *token.KeyPair, store place.Store) error {
	if err := binding.Set(store.String(), k.ID()); err != nil {
		return fmt.Errorf("remember which keyring belongs to the store: %w", err)
	}
	self := k.Self()
	if s.JSON {
		return output.JSON(map[string]string{
			"role": self.Role.String(), "label": self.Label, "fingerprint": show.Fingerprint(self.Certificate),
			"keyring": k.ID().String(), "store": store.String(), "pair": pair.Label(), "id": fmt.Sprintf("%x", pair.ID()), "checkpoint": k.State().At.String(),
		})
	}
	return output.Line("key exchange pair %s, id %x%s\n"+
		"keyring %s founded in %s, checkpoint 1 is pinned\n"+
		"%s %s, fingerprint SHA-256 %s\n"+
		"keep a copy of the certificate outside the store: hsmkeys certificate > owner.pem",
		labelOf(pair), pair.ID(), howToName(pair), k.ID(), store,
		self.Role, text.Printable(self.Label), show.Fingerprint(self.Certificate))
}

// labelOf returns the label of a pair. A pair made by another program may have none.
func labelOf(pair *token.KeyPair) string {
	if pair.Label() == "" {
		return "without a label"
	}
	return text.Printable(pair.Label())
}

// howToName returns how to name a pair that is not found by the default label.
func howToName(pair *token.KeyPair) string {
	if pair.Label() == session.DefaultLabel || len(pair.ID()) == 0 {
		return ""
	}
	return fmt.Sprintf("; where the token has others, name it with --token '%s'", token.PairName{Label: pair.Label(), ID: pair.ID()}.URI())
}
