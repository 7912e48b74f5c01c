package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/s3"
	"github.com/hsmkeys/hsmkeys/cmd/internal/binding"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func storeCommand() *cli.Command {
	return &cli.Command{
		Name: "store", Usage: "maintain the store itself",
		Subcommands: []*cli.Command{storeCompactCommand(), storeCopyCommand(), storeMoveCommand(), storeSyncCommand()},
	}
}

// keptCheckpoints is how many checkpoints stay complete when a store is compacted: tokens that have
// looked last before them cannot sign any more.
const keptCheckpoints = 1000

func storeCompactCommand() *cli.Command {
	return &cli.Command{
		Name: "compact", Usage: "rewrite the state compactly, and delete what only old states need",
		Description: "Each change of a key leaves a few kilobytes of the state before it. No key, no member and no entry of the\n" +
			"log is deleted. A token that has seen none of the kept checkpoints can still read, and signs again after\n" +
			"hsmkeys join --replace-pin. It can be interrupted and started again.",
		Flags: []cli.Flag{&cli.IntFlag{Name: "keep", Value: keptCheckpoints, Usage: "keep all that the last `N` checkpoints need"}},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			keep := c.Int("keep")
			if keep < 1 || keep > blob.MaxNumber {
				return failure.Usage("--keep is a number from 1 to %d", blob.MaxNumber)
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				deleted, err := k.Compact(ctx, keep)
				if err != nil {
					return err
				}
				if s.JSON {
					return output.JSON(map[string]any{"keyring": k.ID().String(), "checkpoint": k.State().At.String(), "deleted": deleted})
				}
				return output.Line("compacted: checkpoint %d, %s deleted", k.State().At.Number, text.Plural(deleted, "pack", "packs"))
			})
		}),
	}
}

func storeMoveCommand() *cli.Command {
	return &cli.Command{
		Name: "move", Usage: "record that the store was moved from another directory or bucket to --store", ArgsUsage: "OLD",
		Description: "The keyring that belongs to a store is remembered by its place, and another one there is refused.\n" +
			"This command copies and moves nothing: do that first.",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			old, err := oneArgument(c, "the OLD directory or bucket")
			if err != nil {
				return err
			}
			if err := session.Bind(ctx, s); err != nil {
				return err // before the store is known
			}
			store, err := session.OpenStore(ctx, s)
			if err != nil {
				return err
			}
			defer store.Close()
			return moveStore(ctx, s, old, store)
		}),
	}
}

func moveStore(ctx context.Context, s *settings.Settings, old string, store place.Store) error {
	from, err := placeOf(old)
	if err != nil {
		return err
	}
	if from == binding.Identity(store.String()) {
		return failure.Usage("%q is --store itself", old)
	}
	if err := hasLeft(ctx, from); err != nil {
		return err
	}
	id, err := binding.At(from)
	if err != nil {
		return err
	}
	if id == (blob.ID{}) {
		return failure.WithHint(failure.NotFound("no keyring is known to belong to %q", from), "name the place as it was; or hsmkeys join the keyring where it is now")
	}
	if err := holds(ctx, store, id); err != nil {
		return err
	}
	switch there, err := binding.Of(store.String()); {
	case err != nil:
		return err
	case there != id && there != (blob.ID{}):
		return fmt.Errorf("keyring %s belongs to %q, and %s to %q: %w", there, store, id, from, hsmkeys.ErrOtherKeyring)
	}
	if err := binding.Set(store.String(), id); err != nil {
		return fmt.Errorf("remember which keyring belongs to the store: %w", err)
	}
	if err := os.Remove(binding.File(from)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.JSON {
		return output.JSON(map[string]string{"keyring": id.String(), "from": from, "store": store.String()})
	}
	return output.Line("keyring %s belongs to %s, and no longer to %s", id, binding.Identity(store.String()), from)
}

// holds checks which keyring a store claims to have. Whether that is true, opening it will show.
func holds(ctx context.Context, store blob.Store, id blob.ID) error {
	there, _, err := ledger.Peek(ctx, store)
	if err != nil {
		return err
	}
	if there != id {
		return fmt.Errorf("the store has keyring %s, not %s: %w", there, id, hsmkeys.ErrOtherKeyring)
	}
	return nil
}

// placeOf returns the identity of a store in a directory where it is no longer, or where a symbolic
// link to it is now.
func placeOf(old string) (string, error) {
	if place.IsBucket(old) {
		return place.Same(old), place.Check(old)
	}
	absolute, err := filepath.Abs(old)
	return filepath.Join(binding.Identity(filepath.Dir(absolute)), filepath.Base(absolute)), err
}

// hasLeft refuses a store that is still where it was: two copies that are written to are a fork.
func hasLeft(ctx context.Context, from string) error {
	if info, err := os.Lstat(from); !place.IsBucket(from) && (err != nil || !info.IsDir()) {
		return nil
	}
	store, err := place.Open(ctx, from, "")
	if errors.Is(err, failure.ErrNoStore) {
		return nil
	}
	if err != nil {
		return err
	}
	defer store.Close()
	for _, err := range store.List(ctx, blob.SlotsPrefix) {
		if errors.Is(err, s3.ErrNoBucket) {
			return nil
		}
		if err != nil {
			return err
		}
		return failure.WithHint(fmt.Errorf("the store is still in %q: it was copied, not moved", from),
			"write to one of them only; hsmkeys join uses the copy as well")
	}
	return nil
}
