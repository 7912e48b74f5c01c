package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// verdict is the result for one key, in JSON. Its form is stable.
type verdict struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "verify every signature", ArgsUsage: "[NAME…]",
		Description: "Verifies all revisions of the named keys, or of all keys and every checkpoint from the first on.\n" +
			"With --certificate no token is needed.\n" +
			"With --sample N, verifies that many keys chosen at random; with a percentage, each key with that\n" +
			"chance, which starts at once even if there are very many keys.",
		Flags: []cli.Flag{
			certificateFlag(),
			&cli.StringFlag{Name: "sample", Usage: "verify only `N` keys, or N%, chosen at random"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			s.WholeStore = true
			if err := validNames(c); err != nil {
				return err
			}
			if c.IsSet("sample") && c.NArg() > 0 {
				return failure.Usage("--sample chooses of all keys, and takes no NAME")
			}
			sample, err := parseSample(c.String("sample"))
			if err != nil {
				return err
			}
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error { return verify(ctx, s, k, c.Args().Slice(), sample) })
		}),
	}
}

// parseSample parses N or N%.
func parseSample(text string) (s hsmkeys.Sample, err error) {
	if text == "" {
		return s, nil
	}
	number, isPercent := strings.CutSuffix(text, "%")
	if isPercent {
		s.Percent, err = strconv.ParseFloat(number, 64)
	} else {
		s.Keys, err = strconv.Atoi(number)
	}
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		return s, failure.Usage("--sample takes a number of keys from 1, or a percentage above 0 and up to 100")
	}
	return s, nil
}

// verify prints a line for each key, as they come.
func verify(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, names []string, sample hsmkeys.Sample) error {
	out, asJSON := output.NewStream(os.Stdout), s.JSON
	ok := terminal.Paint(os.Stdout, terminal.Green, "ok")
	results := k.Verify(ctx, names...)
	if sample != (hsmkeys.Sample{}) {
		results = k.VerifySample(ctx, sample)
	}
	all := sample == (hsmkeys.Sample{}) && len(names) == 0
	if all {
		unchecked, err := k.VerifyChain(ctx)
		if err != nil {
			out.Fail(err)
		}
		if err := k.VerifyQuorums(ctx); err != nil {
			out.Fail(err)
		}
		if err == nil && unchecked > 0 {
			message.Note("the changes of %s can no longer be checked, as the state was compacted since; their signatures are verified", text.Plural(unchecked, "checkpoint", "checkpoints"))
		}
	}
	none := true
	for name, err := range results {
		if out.Cut(err) {
			break
		}
		none = false
		v := verdict{Name: name, OK: err == nil}
		if err != nil {
			v.Error = text.Line(err.Error())
			out.Fail(err)
		}
		switch {
		case asJSON:
			out.Element(v)
		case err == nil:
			out.Line(ok + "  " + name)
		}
	}
	if asJSON {
		out.EndArray()
	}
	if all && ctx.Err() == nil {
		warnUnknown(ctx, k)
	}
	if none && sample != (hsmkeys.Sample{}) && out.Failed == nil {
		message.Note("no key was chosen: nothing is verified")
	}
	return out.End()
}

// warnUnknown warns of blobs that are not in the state of the keyring, and so are not verified.
func warnUnknown(ctx context.Context, k *hsmkeys.Keyring) {
	unknown, destroyed, err := k.CountUnnamed(ctx)
	if err != nil {
		message.Warn(err)
		return
	}
	if unknown > 0 {
		message.Warn(errors.New(show.Unknown(unknown)))
	}
	if destroyed > 0 {
		message.Warn(errors.New(show.Leftover(destroyed)))
	}
}
