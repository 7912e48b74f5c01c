package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the keys, as the signed state has them", ArgsUsage: "[PREFIX|GLOB]",
		Description: "With PREFIX only keys whose names start with it: site-b/ selects a group. With GLOB, which has *, ? or [],\n" +
			"only those whose names match it; * matches within one part of a name.\n" +
			"COLUMNS are name, version, revision, algorithm, purpose, state, created, age, due, expires, rotate-every,\n" +
			"holders, description, former-names, key-id.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all-versions", Usage: "every version, not only the newest"},
			&cli.StringFlag{Name: "state", Usage: "only keys in this `STATE`: active, deactivated, compromised or destroyed"},
			&cli.StringFlag{Name: "holder", Usage: "only keys that the member with this `LABEL` opens"},
			&cli.BoolFlag{Name: "due", Usage: "only keys that are to be rotated, or have expired; exit status 1 if there are any"},
			&cli.StringFlag{Name: "sort", Value: "name", Usage: "sort by this `COLUMN`: name, created (the oldest first) or age (the youngest first)"},
			&cli.StringFlag{Name: "columns", Usage: "print these `COLUMNS`, with commas between them", DefaultText: defaultColumns},
			&cli.BoolFlag{Name: "jsonl", Usage: "print JSON, one key a line"},
			&cli.BoolFlag{Name: "loaded", Usage: "list the secret keys on the token, and which keys they are (hsmkeys load)"},
			certificateFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			o, err := listOptionsOf(c)
			if err != nil {
				return err
			}
			if c.Bool("loaded") {
				for _, name := range []string{"all-versions", "state", "holder", "due", "sort", "columns", "jsonl", "certificate"} {
					if c.NArg() > 0 || c.IsSet(name) {
						return failure.Usage("list --loaded shows what is on the token, and takes neither PREFIX nor other options of list")
					}
				}
				return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error { return listLoaded(ctx, s, k) })
			}
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error { return list(ctx, s, k, o) })
		}),
	}
}

type listOptions struct {
	hsmkeys.ListOptions
	glob          string
	state, holder string
	due, jsonl    bool
	sort          string
	columns       []string
}

func listOptionsOf(c *cli.Context) (listOptions, error) {
	o := listOptions{
		state: c.String("state"), holder: c.String("holder"), due: c.Bool("due"), jsonl: c.Bool("jsonl"),
		sort: c.String("sort"), columns: strings.Split(defaultColumns, ","),
	}
	o.AllVersions = c.Bool("all-versions")
	if c.NArg() > 1 {
		return o, failure.Usage("list takes one PREFIX or GLOB, not %d; put a GLOB in quotes, or else the shell expands it", c.NArg())
	}
	arg := c.Args().First()
	if ref, err := hsmkeys.ParseRef(arg); err == nil && ref.Version > 0 {
		return o, failure.UsageHint("hsmkeys show "+arg, "list takes the beginning of names, without a version")
	}
	if i := strings.IndexAny(arg, "*?["); i >= 0 {
		if _, err := path.Match(arg, ""); err != nil {
			return o, failure.Usage("%q is not a pattern", arg)
		}
		o.glob, arg = arg, arg[:i]
	}
	if o.Prefix = arg; o.glob == "" || arg != "" {
		if err := hsmkeys.ValidPrefix(arg); err != nil {
			return o, err
		}
	}
	if _, ok := parseStatus(o.state); !ok && c.IsSet("state") {
		return o, failure.Usage("--state is active, deactivated, compromised or destroyed, not %q", o.state)
	}
	if !slices.Contains([]string{"name", "created", "age"}, o.sort) {
		return o, failure.Usage("--sort is name, created or age, not %q", o.sort)
	}
	if c.IsSet("columns") {
		o.columns = strings.Split(c.String("columns"), ",")
		for _, column := range o.columns {
			if listColumns[column] == nil {
				return o, failure.UsageHint(failure.DidYouMean(column, slices.Sorted(maps.Keys(listColumns)), strconv.Quote), "--columns: there is no column %q", column)
			}
		}
	}
	return o, nil
}

// parseStatus returns the status of a name.
func parseStatus(name string) (ledger.Status, bool) {
	for s := ledger.Active; s <= ledger.Destroyed; s++ {
		if s.String() == name {
			return s, true
		}
	}
	return 0, false
}

// defaultColumns are those of list. The time of creation is not among them: the age is.
const defaultColumns = "name,version,revision,algorithm,purpose,state,age,due,holders"

// listColumns has what each column shows.
var listColumns = map[string]func(hsmkeys.Entry) string{
	"name":         func(e hsmkeys.Entry) string { return e.Name },
	"version":      func(e hsmkeys.Entry) string { return strconv.Itoa(e.Version) },
	"revision":     func(e hsmkeys.Entry) string { return strconv.Itoa(e.Revision) },
	"algorithm":    hsmkeys.Entry.Kind,
	"purpose":      func(e hsmkeys.Entry) string { return e.Purpose },
	"state":        func(e hsmkeys.Entry) string { return e.Status },
	"created":      func(e hsmkeys.Entry) string { return text.Time(e.Created) },
	"age":          func(e hsmkeys.Entry) string { return text.Age(time.Since(e.Created)) },
	"due":          func(e hsmkeys.Entry) string { return dateOr(e.Due) },
	"expires":      func(e hsmkeys.Entry) string { return dateOr(e.Expires) },
	"rotate-every": func(e hsmkeys.Entry) string { return daysOr(e.RotateEvery) },
	"holders":      holdersOf,
	"description":  func(e hsmkeys.Entry) string { return text.Printable(e.Description) },
	"former-names": func(e hsmkeys.Entry) string { return strings.Join(e.FormerNames, ", ") },
	"key-id":       func(e hsmkeys.Entry) string { return e.KeyID },
}

func dateOr(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format(time.DateOnly)
}

func daysOr(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%dd", n)
}

// wants reports whether a key is to be listed.
func (o listOptions) wants(e hsmkeys.Entry, now time.Time) bool {
	if o.glob != "" {
		if ok, err := path.Match(o.glob, e.Name); err != nil || !ok {
			return false
		}
	}
	return (o.state == "" || e.Status == o.state) &&
		(o.holder == "" || slices.ContainsFunc(e.Holders, func(h hsmkeys.Holder) bool { return h.Label == o.holder })) &&
		(!o.due || !e.Due.IsZero() && !e.Due.After(now))
}

// list prints a line for each key, as they come unless they are to be sorted.
func list(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, o listOptions) error {
	out := output.NewStream(os.Stdout)
	if !s.JSON && !o.jsonl {
		var heading []string
		for _, column := range o.columns {
			heading = append(heading, strings.ToUpper(strings.ReplaceAll(column, "-", " ")))
		}
		out.Heading(heading...)
	}
	if o.holder != "" && !slices.ContainsFunc(k.Members(), func(m blob.Member) bool { return m.Label == o.holder }) {
		return failure.NotFound("member %q", o.holder)
	}
	var unsorted []hsmkeys.Entry
	now, found := time.Now(), 0
	for e, err := range k.ListWith(ctx, o.ListOptions) {
		if out.Cut(err) {
			break
		}
		if err != nil {
			out.Fail(err)
			continue
		}
		if !o.wants(e, now) {
			continue
		}
		if found++; o.sort == "name" {
			o.print(out, s, e)
		} else {
			unsorted = append(unsorted, e)
		}
	}
	slices.SortStableFunc(unsorted, func(a, b hsmkeys.Entry) int {
		if o.sort == "age" { // the youngest first
			a, b = b, a
		}
		return a.Created.Compare(b.Created)
	})
	for _, e := range unsorted {
		o.print(out, s, e)
	}
	if s.JSON && !o.jsonl {
		out.EndArray()
	}
	err := out.End()
	if o.due && found > 0 {
		due := failure.WithHint(fmt.Errorf("%s due", text.Plural(found, "key is", "keys are")), "hsmkeys rotate --due makes new versions; hsmkeys describe NAME --expires sets another date")
		return errors.Join(err, due)
	}
	return err
}

func (o listOptions) print(out *output.Stream, s *settings.Settings, e hsmkeys.Entry) {
	switch {
	case o.jsonl:
		out.JSONLine(e)
	case s.JSON:
		out.Element(e)
	default:
		var row []string
		for _, column := range o.columns {
			row = append(row, listColumns[column](e))
		}
		out.Row(row...)
	}
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
