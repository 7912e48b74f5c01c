package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age/armor"
	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func reencryptCommand() *cli.Command {
	return &cli.Command{
		Name: "reencrypt", Usage: "encrypt files anew, in place, under the newest versions of their keys", ArgsUsage: "FILE…",
		Description: "Decrypts each age file and encrypts it in the same process; the plaintext is never on the disk. A file is\n" +
			"replaced when the new one is complete, and keeps its mode and time of modification; one that is under the\n" +
			"newest versions is left alone. Recipients that are not keys of the keyring cannot be kept: such a file needs\n" +
			"--drop-others. Symbolic links and files with several names are refused. It can be interrupted and started\n" +
			"again.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "drop-others", Usage: "encrypt also files that have other recipients, who cannot open them then"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only print what would be done"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if c.NArg() == 0 {
				return failure.Usage("reencrypt takes at least one FILE")
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				return reencryptAll(ctx, s, k, c.Args().Slice(), c.Bool("drop-others"), c.Bool("dry-run"))
			})
		}),
	}
}

// reencrypted is what was done to a file, in JSON. Its form is stable.
type reencrypted struct {
	Path  string   `json:"path"`
	Done  bool     `json:"done"` // false if the file was up to date, or would be done
	Keys  []string `json:"keys,omitempty"`
	Error string   `json:"error,omitempty"`
}

func reencryptAll(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, paths []string, dropOthers, dryRun bool) error {
	out := output.NewStream(os.Stdout)
	done, current, failed := 0, 0, 0
	for _, path := range paths {
		keys, err := reencrypt(hsmkeys.WithUse(ctx, hsmkeys.Use{File: absolute(path)}), k, path, dropOthers, dryRun)
		if out.Cut(err) {
			break
		}
		result := reencrypted{Path: path, Done: len(keys) > 0 && err == nil && !dryRun, Keys: keys}
		switch {
		case err != nil:
			failed++
			result.Error = text.Line(err.Error())
			out.Fail(err)
		case len(keys) == 0:
			current++
		default:
			done++
		}
		switch {
		case s.JSON:
			out.Element(result)
		case err == nil && len(keys) > 0 && dryRun:
			out.Line(fmt.Sprintf("%s: would be encrypted under %s", text.Printable(path), strings.Join(keys, ", ")))
		case err == nil && len(keys) > 0:
			out.Line(fmt.Sprintf("%s: encrypted under %s", text.Printable(path), strings.Join(keys, ", ")))
		}
	}
	if s.JSON {
		out.EndArray()
	} else {
		out.Line(fmt.Sprintf("encrypted %d, up to date %d, failed %d", done, current, failed))
	}
	return out.End()
}

// reencrypt encrypts a file anew, and returns the keys; none if it is up to date.
func reencrypt(ctx context.Context, k *hsmkeys.Keyring, path string, dropOthers, dryRun bool) ([]string, error) {
	var plan hsmkeys.Reencryption
	err := datafile.Rewrite(ctx, path, func(in *os.File, out io.Writer) error {
		armored, recipients, err := header(in)
		if err != nil {
			return err
		}
		if plan, err = k.Reencryption(ctx, recipients); err != nil {
			return err
		}
		switch {
		case plan.Current && (len(plan.Others) == 0 || !dropOthers):
			return errKept
		case len(plan.Others) > 0 && !dropOthers:
			return fmt.Errorf("it has %s, such as %q, and cannot be encrypted for them anew; with --drop-others they cannot open it any more",
				text.Plural(len(plan.Others), "other recipient", "other recipients"), text.Line(plan.Others[0].Stanza.Type))
		case dryRun:
			return errKept
		}
		return copyAnew(ctx, k, plan.Keys, armored, out, in)
	})
	if err != nil && !errors.Is(err, errKept) {
		if !strings.Contains(err.Error(), path) {
			err = fmt.Errorf("%s: %w", text.Printable(path), err)
		}
		return nil, err
	}
	if plan.Current && (len(plan.Others) == 0 || !dropOthers) {
		return nil, nil
	}
	var keys []string
	for _, ref := range plan.Keys {
		keys = append(keys, ref.String())
	}
	return keys, nil
}

// errKept keeps a file as it is.
var errKept = errors.New("the file stays as it is")

// header returns whether a file is in ASCII armor, and its recipients.
func header(in *os.File) (armored bool, recipients []hsmkeys.FileRecipient, err error) {
	at, _ := datafile.ReaderAt(in)
	recipients, err = hsmkeys.FileRecipients(hsmkeys.Dearmor(io.NewSectionReader(in, 0, maxHeader)))
	return at == nil, recipients, err
}

// copyAnew decrypts a file and encrypts it under keys.
func copyAnew(ctx context.Context, k *hsmkeys.Keyring, keys []hsmkeys.Ref, armored bool, out io.Writer, in io.Reader) error {
	plain, err := k.Decrypt(ctx, hsmkeys.Dearmor(in))
	if err != nil {
		return err
	}
	closeArmor := func() error { return nil }
	if armored {
		lines := armor.NewWriter(out)
		out, closeArmor = lines, lines.Close
	}
	w, err := k.Encrypt(ctx, out, keys)
	if err != nil {
		return err
	}
	if err := datafile.Copy(ctx, w, plain); err != nil {
		return err
	}
	return errors.Join(w.Close(), closeArmor())
}
