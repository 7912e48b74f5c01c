package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/binding"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

const copyDescription = "FROM and TO are directories or s3://BUCKET/PREFIX. No token is needed. Every object that is copied is compared\n" +
	"with the digest in its name, and every new checkpoint is verified. What TO has is neither replaced nor checked,\n" +
	"which hsmkeys --store TO verify does. It can be interrupted\n" +
	"and started again."

func storeCopyCommand() *cli.Command {
	return &cli.Command{
		Name: "copy", Usage: "copy the store to a directory or bucket, for a backup or an offline token", ArgsUsage: "FROM TO",
		Description: copyDescription + " Write to one of the two only.",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			return copyStore(ctx, s, c, func(to string) (place.Store, error) { return place.Create(ctx, to) })
		}),
	}
}

func storeSyncCommand() *cli.Command {
	return &cli.Command{
		Name: "sync", Usage: "bring a copy of the store up to date", ArgsUsage: "FROM TO",
		Description: copyDescription + "\nTO is a copy of FROM, or FROM one of TO that was written to. If both were written to, neither is changed;\n" +
			"hsmkeys merge joins them.",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			return copyStore(ctx, s, c, func(to string) (place.Store, error) {
				store, err := place.Open(ctx, to, "")
				if err == nil {
					_, err = store.Get(ctx, blob.SlotPath(1))
				}
				if errors.Is(err, blob.ErrNotFound) {
					err = failure.WithHint(fmt.Errorf("the other store %q has no keyring: %w", to, err), "hsmkeys store copy makes a copy")
				}
				return store, err
			})
		}),
	}
}

// copyStore copies the store FROM to the store TO, which open opens.
func copyStore(ctx context.Context, s *settings.Settings, c *cli.Context, open func(to string) (place.Store, error)) error {
	if c.NArg() != 2 {
		return failure.Usage("store %s takes two arguments, FROM and TO", c.Command.Name)
	}
	names := c.Args().Slice()
	if err := errors.Join(place.Check(names[0]), place.Check(names[1])); err != nil {
		return err
	}
	if one, other := binding.Identity(names[0]), binding.Identity(names[1]); one == other {
		return failure.Usage("%q and %q are the same store", names[0], names[1])
	} else if strings.HasPrefix(one, other+"/") || strings.HasPrefix(other, one+"/") {
		return failure.Usage("one of %q and %q is inside the other", names[0], names[1])
	}
	from, err := place.Open(ctx, names[0], "")
	if err != nil {
		return err
	}
	defer from.Close()
	id, err := copiedKeyring(ctx, s, from, names)
	if err != nil {
		return err
	}
	to, err := open(names[1])
	if err != nil {
		return err
	}
	defer to.Close()
	if err := to.TryWrite(ctx); err != nil {
		return fmt.Errorf("store %s: %w", to, err)
	}
	// An unfinished copy has no slots yet. Nobody is to found another keyring there.
	var bound error
	bind := sync.OnceFunc(func() { bound = binding.Set(names[1], id) })
	counter := terminal.NewCounter("copying", -1)
	done, err := ledger.Copy(ctx, from, to, func() { bind(); terminal.CountKey() })
	counter.End()
	if bound != nil {
		err = errors.Join(err, fmt.Errorf("remember which keyring belongs to the copy: %w", bound))
	}
	if err != nil {
		return explainCopy(fmt.Errorf("%s copied, %d there already: %w", text.Plural(done.Objects, "object", "objects"), done.There, err))
	}
	if s.JSON {
		return output.JSON(map[string]any{
			"keyring": id.String(), "checkpoint": done.Head.String(), "from": from.String(), "to": to.String(),
			"objects": done.Objects, "bytes": done.Bytes, "there": done.There, "destroyed": done.Destroyed,
		})
	}
	if done.Destroyed > 0 {
		message.Note("%s of destroyed keys left out", text.Plural(done.Destroyed, "blob", "blobs"))
	}
	if done.Newer.Number > 0 {
		message.Note("%s is newer, at checkpoint %d; to bring %s up to date, exchange the two", to, done.Newer.Number, from)
	}
	return output.Line("keyring %s, checkpoint %d: %s copied to %s, %d there already", id, done.Head.Number, text.Plural(done.Objects, "object", "objects"), to, done.There)
}

// copiedKeyring returns the identifier of the keyring in FROM. It must be the one remembered for both stores.
func copiedKeyring(ctx context.Context, s *settings.Settings, from place.Store, names []string) (blob.ID, error) {
	id, _, err := ledger.Peek(ctx, from)
	if err != nil {
		return id, fmt.Errorf("store %s: %w", from, err)
	}
	for i, name := range names {
		belongs, err := binding.Of(name)
		if i == 0 && s.Keyring != "" {
			if belongs, err = binding.ParseKeyring(s.Keyring); err != nil {
				return id, failure.Usage("--keyring: %v", err)
			}
		}
		if err != nil {
			return id, err
		}
		if belongs != (blob.ID{}) && belongs != id {
			return id, fmt.Errorf("the store %s has keyring %s, and keyring %s belongs to %q: %w", from, id, belongs, name, ledger.ErrOtherKeyring)
		}
	}
	return id, nil
}

// explainCopy adds a hint to an error of a copy.
func explainCopy(err error) error {
	switch {
	case errors.Is(err, ledger.ErrFork), errors.Is(err, ledger.ErrRollback):
		return failure.WithHint(err, "both stores were written to: hsmkeys --store TO merge FROM takes the keys of FROM into TO, which is the one to continue with")
	case errors.Is(err, ledger.ErrIncomplete):
		return failure.WithHint(err, "run it again: a list of the store may have lagged; if it says the same, put back what the store FROM lacks")
	case errors.Is(err, blob.ErrMisplaced):
		return failure.WithHint(err, "put back what is damaged in FROM, and run it again; everything else is copied")
	}
	return err
}
