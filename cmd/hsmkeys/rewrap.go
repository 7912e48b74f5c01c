package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/text"
)

func rewrapCommand() *cli.Command {
	return &cli.Command{
		Name: "rewrap", Usage: "wrap keys to today's list of members: same key, next revision", ArgsUsage: "[NAME…]",
		Description: "Does so for all versions of the named keys, or of all keys. What is up to date is left alone; it\n" +
			"can be interrupted and started again. With --damaged the token opens each of them.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "damaged", Usage: "make anew also what is up to date and does not open with this token; and of the keys that are named also what another holder has not proven to open (drill --prove)"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := validNames(c); err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				do := k.Rewrap
				if c.Bool("damaged") {
					do = func(ctx context.Context, refs []hsmkeys.Ref) iter.Seq[hsmkeys.Result] {
						return k.RewrapDamaged(ctx, refs, c.Args().Present())
					}
				}
				t, err := rewrap(ctx, k, do, c.Args().Slice()...)
				if t.Done > 0 && len(k.FormerMembers()) > 0 {
					message.Note("who was a member before has had the same keys; hsmkeys rotate --former makes new versions where that is so")
				}
				return errors.Join(t.print(s, "rewrapped", "up to date"), err)
			})
		}),
	}
}

// rewrap has [hsmkeys.Keyring.Rewrap], or another function of its kind, work on every
// version of the named keys, or of all keys.
func rewrap(ctx context.Context, k *hsmkeys.Keyring, do func(context.Context, []hsmkeys.Ref) iter.Seq[hsmkeys.Result], names ...string) (tally, error) {
	refs, err := k.Versions(ctx, names...)
	if err != nil {
		return tally{Failed: []failedKey{}}, err
	}
	return runMany(do(ctx, refs), len(refs), "rewrap")
}

// tally is what became of many keys.
type tally struct {
	Done      int         `json:"done"`
	Unchanged int         `json:"unchanged"`
	Failed    []failedKey `json:"failed"`

	// NotProven is how many of those done have holders who alone can tell whether what was
	// wrapped to them opens, and Until their labels.
	NotProven int      `json:"not_proven,omitempty"`
	Until     []string `json:"not_proven_until,omitempty"`
}

type failedKey struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	Error   string `json:"error"`
}

// runMany works through many keys, shows progress, and prints each failure; one that says the
// same as the failure before it is counted and not printed again.
func runMany(results iter.Seq[hsmkeys.Result], total int, doing string) (tally, error) {
	t := tally{Failed: []failedKey{}}
	var failed error
	count := terminal.NewCounter(doing, total)
	said := ""
	for r := range results {
		count.One()
		switch {
		case errors.Is(r.Err, context.Canceled): // which is no verdict on the key
			failed = errors.Join(failed, r.Err)
		case r.Err != nil:
			if text := r.Err.Error(); text != said { // or else it is the same for every key
				count.Clear()
				message.Error(r.Err)
				said = text
			}
			if r.Ref.Name != "" { // or else it is about all of them
				t.Failed = append(t.Failed, failedKey{r.Ref.Name, r.Ref.Version, text.Line(r.Err.Error())})
			}
			failed = errors.Join(failed, r.Err)
		case r.Done:
			t.Done++
			t.notProven(r.Unproven)
		default:
			t.Unchanged++
		}
	}
	count.Clear()
	if failed != nil {
		failed = errors.Join(failure.ErrReported, failed)
	}
	return t, failed
}

func (t tally) print(s *settings.Settings, done, unchanged string) error {
	if s.JSON {
		return output.JSON(t)
	}
	return output.Line("%s %d, %s %d, failed %d%s", done, t.Done, unchanged, t.Unchanged, len(t.Failed), notProven(t.Until))
}

func (t *tally) notProven(holders []hsmkeys.Holder) {
	if len(holders) > 0 {
		t.NotProven++
	}
	for _, label := range labels(holders) {
		if !slices.Contains(t.Until, label) {
			t.Until = append(t.Until, label)
		}
	}
	slices.Sort(t.Until)
}

func labels(holders []hsmkeys.Holder) []string {
	var all []string
	for _, h := range holders {
		all = append(all, h.Label)
	}
	return all
}

// notProven is the end of a line about what was wrapped to holders whose tokens have not
// opened it yet.
func notProven(until []string) string {
	if len(until) == 0 {
		return ""
	}
	have := "has"
	if len(until) > 1 {
		have = "have"
	}
	return fmt.Sprintf("; not proven until %s %s run hsmkeys drill --prove", text.Printable(strings.Join(until, ", ")), have)
}
