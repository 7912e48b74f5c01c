package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func filesCommand() *cli.Command {
	return &cli.Command{
		Name: "files", Usage: "find the files that are encrypted under a key; needs no token", ArgsUsage: "PATH…",
		Description: "Looks at the headers of age files, binary or in ASCII armor, in the files that are named and below the\n" +
			"directories. Symbolic links below a directory are not followed. A header is not authenticated before the file\n" +
			"is decrypted. A key that was renamed is found in files by the name that it had.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "under", Usage: "only files under this key, `NAME[@VERSION]`, or under those whose names start with PREFIX/", DefaultText: "any key"},
			&cli.BoolFlag{Name: "print0", Aliases: []string{"0"}, Usage: "print paths alone, each with a zero byte after it, for xargs -0"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if c.NArg() == 0 {
				return failure.Usage("files takes at least one PATH")
			}
			under, err := parseUnder(c.String("under"))
			if err != nil {
				return err
			}
			if c.Bool("print0") && s.JSON {
				return failure.Usage("--print0 and --json do not go together")
			}
			search := &fileSearch{ctx: ctx, under: under, print0: c.Bool("print0"), json: s.JSON, out: output.NewStream(os.Stdout)}
			return search.all(c.Args().Slice())
		}),
	}
}

// parseUnder parses --under, and returns whether a key is meant.
func parseUnder(s string) (func(hsmkeys.Ref) bool, error) {
	if s == "" {
		return func(hsmkeys.Ref) bool { return true }, nil
	}
	if prefix, ok := strings.CutSuffix(s, "/"); ok {
		return func(key hsmkeys.Ref) bool { return strings.HasPrefix(key.Name, s) }, blob.ValidName(prefix)
	}
	ref, err := hsmkeys.ParseRef(s)
	return func(key hsmkeys.Ref) bool {
		return key.Name == ref.Name && (ref.Version == 0 || key.Version == ref.Version)
	}, err
}

// A fileSearch looks for age files.
type fileSearch struct {
	ctx          context.Context
	under        func(hsmkeys.Ref) bool
	print0, json bool
	out          *output.Stream
}

// foundFile is a file and the keys that open it, in JSON. Its form is stable.
type foundFile struct {
	Path string     `json:"path"`
	Keys []foundKey `json:"keys"`
}

type foundKey struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	KeyID   string `json:"key_id"`
}

func (f *fileSearch) all(paths []string) error {
	for _, path := range paths {
		info, err := os.Stat(path) // what the user names is followed
		switch {
		case err != nil:
			f.out.Fail(err)
		case info.IsDir():
			f.directory(path)
		default:
			f.file(path)
		}
		if f.out.Cut(f.ctx.Err()) {
			break
		}
	}
	if f.json {
		f.out.EndArray()
	}
	return f.out.End()
}

func (f *fileSearch) directory(root string) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case f.ctx.Err() != nil:
			return f.ctx.Err()
		case err != nil:
			f.out.Fail(err) // and the rest is still searched
		case d.Type().IsRegular():
			f.file(path)
		}
		return nil
	})
	if err != nil && f.ctx.Err() == nil {
		f.out.Fail(err)
	}
}

// file prints a file if it is an age file under the key.
func (f *fileSearch) file(path string) {
	keys, err := fileKeys(path)
	if err != nil {
		f.out.Fail(err)
		return
	}
	file := foundFile{Path: path, Keys: []foundKey{}}
	var names []string
	for _, r := range keys {
		if f.under(r.Key) {
			file.Keys = append(file.Keys, foundKey{r.Key.Name, r.Key.Version, r.KeyID.String()})
			names = append(names, r.Key.String())
		}
	}
	switch {
	case len(file.Keys) == 0:
	case f.json:
		f.out.Element(file)
	case f.print0:
		f.out.Text(path + "\x00")
	default:
		f.out.Line(text.Printable(path) + ": " + text.Enumerate(names))
	}
}

// fileKeys returns the keys of keyrings among the recipients of an age file; none for another kind of
// file.
func fileKeys(path string) ([]hsmkeys.FileRecipient, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var start [2 << 10]byte
	n, err := io.ReadFull(in, start[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if !hsmkeys.Armored(start[:n]) && !bytes.HasPrefix(start[:n], []byte("age-encryption.org/v1\n")) {
		return nil, nil
	}
	header := io.MultiReader(bytes.NewReader(start[:n]), io.LimitReader(in, maxHeader))
	recipients, err := hsmkeys.FileRecipients(hsmkeys.Dearmor(header))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text.Printable(path), err)
	}
	return slices.DeleteFunc(recipients, func(r hsmkeys.FileRecipient) bool { return r.Key == (hsmkeys.Ref{}) }), nil
}

// maxHeader is how much of a file is read to find its header, in bytes. Each recipient takes about 100.
const maxHeader = 1 << 20
