package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "the newest version of every key, verified",
		Flags: []cli.Flag{certificateFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			return withReading(c, func(k *hsmkeys.Keyring) error {
				entries := []hsmkeys.Entry{}
				var failed error
				for e, err := range k.List(c.Context) {
					if err != nil {
						say(err)
						failed = errors.Join(failed, err)
						continue
					}
					entries = append(entries, e)
				}
				if failed != nil {
					failed = errors.Join(errReported, failed)
				}
				return errors.Join(printEntries(c, entries), failed)
			})
		},
	}
}

// printEntries prints a line for each key.
func printEntries(c *cli.Context, entries []hsmkeys.Entry) error {
	if c.Bool("json") {
		return printJSON(entries)
	}
	rows := [][]string{{"NAME", "VERSION", "REVISION", "ALGORITHM", "PURPOSE", "CREATED", "HOLDERS"}}
	for _, e := range entries {
		var holders []string
		for _, h := range e.Holders {
			holders = append(holders, printable(h.Label))
		}
		if e.Password != "" {
			holders = []string{"(password only)"}
		}
		rows = append(rows, []string{e.Name, strconv.Itoa(e.Version), strconv.Itoa(e.Revision), e.Kind(), e.Purpose, when(e.Created), strings.Join(holders, ", ")})
	}
	return table(rows)
}

func showCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "all about one key, verified", ArgsUsage: "NAME[@VERSION]",
		Flags: []cli.Flag{certificateFlag()},
		Action: func(c *cli.Context) error {
			ref, err := keyArgument(c)
			if err != nil {
				return err
			}
			return withReading(c, func(k *hsmkeys.Keyring) error {
				e, err := k.Show(c.Context, ref)
				if err != nil {
					return err
				}
				return printEntry(c, e)
			})
		},
	}
}

func historyCommand() *cli.Command {
	return &cli.Command{
		Name: "history", Usage: "every version and revision of a key, verified", ArgsUsage: "NAME",
		Flags: []cli.Flag{certificateFlag()},
		Action: func(c *cli.Context) error {
			name, err := nameArgument(c)
			if err != nil {
				return err
			}
			return withReading(c, func(k *hsmkeys.Keyring) error {
				entries, err := k.History(c.Context, name)
				if len(entries) == 0 {
					return err
				}
				if c.Bool("json") {
					return errors.Join(err, printJSON(entries))
				}
				rows := [][]string{{"VERSION", "REVISION", "SIGNED", "SIGNER", "KEY ID", "WHY"}}
				for _, e := range entries {
					rows = append(rows, []string{strconv.Itoa(e.Version), strconv.Itoa(e.Revision), when(e.Signed), printable(e.Signer.Label), e.KeyID, printable(e.Why)})
				}
				return errors.Join(err, table(rows))
			})
		},
	}
}
