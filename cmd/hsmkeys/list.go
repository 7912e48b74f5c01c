package main

import (
	"context"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the newest version of every key, verified", ArgsUsage: "[PREFIX]",
		Description: "With PREFIX only keys whose names start with it: site-b/ selects a group.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all-versions", Usage: "every version, not only the newest"},
			&cli.BoolFlag{Name: "loaded", Usage: "list the secret keys on the token, and which keys they are (hsmkeys load)"},
			certificateFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if c.NArg() > 1 {
				return failure.Usage("list takes one PREFIX, not %d", c.NArg())
			}
			o := hsmkeys.ListOptions{Prefix: c.Args().First(), AllVersions: c.Bool("all-versions")}
			if ref, err := hsmkeys.ParseRef(o.Prefix); err == nil && ref.Version > 0 {
				return failure.UsageHint("hsmkeys show "+o.Prefix, "list takes the beginning of names, without a version")
			}
			if err := hsmkeys.ValidPrefix(o.Prefix); err != nil {
				return err
			}
			if c.Bool("loaded") {
				if c.NArg() > 0 || o.AllVersions || c.String("certificate") != "" {
					return failure.Usage("list --loaded shows what is on the token, and takes neither PREFIX nor --all-versions nor --certificate")
				}
				return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error { return listLoaded(ctx, s, k) })
			}
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error { return list(ctx, s, k, o) })
		}),
	}
}

// list prints a line for each key, as they come.
func list(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, o hsmkeys.ListOptions) error {
	out, asJSON := output.NewStream(os.Stdout), s.JSON
	if !asJSON {
		out.Heading("NAME", "VERSION", "REVISION", "ALGORITHM", "PURPOSE", "CREATED", "HOLDERS")
	}
	for e, err := range k.ListWith(ctx, o) {
		if out.Cut(err) {
			break
		}
		switch {
		case err != nil:
			out.Fail(err)
		case asJSON:
			out.Element(e)
		default:
			out.Row(e.Name, strconv.Itoa(e.Version), strconv.Itoa(e.Revision), e.Kind(), purposeOf(e), text.Time(e.Created), holdersOf(e))
		}
	}
	if asJSON {
		out.EndArray()
	}
	return out.End()
}

// purposeOf is what a key is for, and its status where that is not the usual one.
func purposeOf(e hsmkeys.Entry) string {
	if e.Status == "" || e.Status == ledger.Active.String() {
		return e.Purpose
	}
	return e.Purpose + ", " + e.Status
}

func holdersOf(e hsmkeys.Entry) string {
	if e.Password != "" {
		return "(password only)"
	}
	var holders []string
	for _, h := range e.Holders {
		label := text.Printable(h.Label)
		if h.Former {
			label += " (former)"
		}
		holders = append(holders, label)
	}
	return strings.Join(holders, ", ")
}
