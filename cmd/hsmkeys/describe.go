package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// detailFlags are the options for the dates of a key.
func detailFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "expires", Usage: "encrypt nothing after `WHEN`: a date such as 2027-12-31, or a number of days such as 90d"},
		&cli.StringFlag{Name: "rotate-every", Usage: "the age at which a version is due to be rotated, in `DAYS` such as 90d"},
	}
}

func describeCommand() *cli.Command {
	return &cli.Command{
		Name: "describe", Usage: "set the description and the dates of a key", ArgsUsage: "NAME [TEXT]",
		Description: "TEXT is shown by show, and by list with --columns. --expires never and --rotate-every never remove the dates.",
		Flags:       append(detailFlags(), &cli.BoolFlag{Name: "no-description", Usage: "remove the description"}, &cli.StringFlag{Name: "reason", Usage: "why, in a few `WORDS`; hsmkeys log shows it"}),
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if c.NArg() < 1 || c.NArg() > 2 {
				return failure.Usage("describe takes the NAME of a key, and one TEXT in quotes")
			}
			name := c.Args().First()
			if err := validName(c, name); err != nil {
				return err
			}
			d, err := newDetails(c, time.Now())
			if err != nil {
				return err
			}
			if d == (hsmkeys.NewDetails{}) {
				return failure.Usage("describe needs a TEXT, --no-description, --expires or --rotate-every")
			}
			reason, err := reasonOption(c, false)
			if err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				r, err := singleResult(k.Describe(ctx, []string{name}, d, reason))
				if err != nil {
					return err
				}
				if s.JSON {
					return output.JSON(r.Entry)
				}
				return output.Line("%s: %s", name, detailsText(r.Entry))
			})
		}),
	}
}

// newDetails returns the details that the command line changes.
func newDetails(c *cli.Context, now time.Time) (d hsmkeys.NewDetails, err error) {
	if c.NArg() == 2 {
		description := c.Args().Get(1)
		d.Description = &description
	}
	if c.Bool("no-description") {
		if d.Description != nil {
			return d, failure.Usage("--no-description does not go with a TEXT")
		}
		d.Description = new(string)
	}
	if when := c.String("expires"); c.IsSet("expires") {
		var at time.Time
		if when != "never" {
			if at, err = parseExpiry(when, now); err != nil {
				return d, err
			}
		}
		d.Expires = &at
	}
	if days := c.String("rotate-every"); c.IsSet("rotate-every") {
		n := 0
		if days != "never" {
			if n, err = parseRotateEvery(days); err != nil {
				return d, err
			}
		}
		d.RotateEvery = &n
	}
	return d, nil
}

// detailsText describes the details of a key on one line.
func detailsText(e hsmkeys.Entry) string {
	line := "no description"
	if e.Description != "" {
		line = text.Printable(e.Description)
	}
	if dates := show.Dates(e); dates != "" {
		line += "; " + dates
	}
	return line
}
