package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/tally"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// provenLately is how recent a proof must be for drill --prove to skip the key: an interrupted
// rehearsal continues where it was.
const provenLately = 24 * time.Hour

func drillCommand() *cli.Command {
	return &cli.Command{
		Name: "drill", Usage: "rehearse the loss of a token: who can open which key, and what would be lost", ArgsUsage: "[NAME…]",
		Description: "The exit status is 1 as long as the loss of one token would lose a key.\n" +
			"With --prove the token, an owner's or an authority's, unwraps each key, wraps it again and\n" +
			"compares the two; the proof is signed and stored, and nothing else is written.\n" +
			"With --rehearse a recovery is walked from end to end, in a temporary copy of the state, for one key\n" +
			"and to a throw-away token of SoftHSM; then everything is removed, and a signed statement is stored.",
		Flags: append([]cli.Flag{
			certificateFlag(),
			&cli.BoolFlag{Name: "prove", Usage: "prove with this token that it opens the keys"},
			&cli.StringFlag{Name: "sample", Usage: "prove only `N` keys, or N%, chosen at random"},
			&cli.BoolFlag{Name: "again", Usage: "prove also what this token has proven in the last 24 hours"},
			&cli.StringFlag{Name: "html", Usage: "write the report to `FILE`, one page for the browser and for print"},
			&cli.StringFlag{Name: "junit", Usage: "write the report to `FILE` for continuous integration, as JUnit XML"},
			&cli.StringFlag{Name: "proof-age", Usage: "`HOW-OLD` a custodian's proof or a rehearsal may be", DefaultText: defaultProofAge},
			&cli.BoolFlag{Name: "strict", Usage: "fail also with what has to be done soon: proofs or rehearsals that are too old, a quorum that was used"},
		}, rehearseFlags()...),
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			s.WholeStore = true
			if err := validNames(c); err != nil {
				return err
			}
			prove := c.Bool("prove")
			o := drillOptions{names: c.Args().Slice(), prove: prove, again: c.Bool("again"), html: c.String("html"), junit: c.String("junit"), strict: c.Bool("strict"), canary: defaultCanary}
			if err := o.readMore(c); err != nil {
				return err
			}
			switch {
			case !prove && (c.IsSet("sample") || c.Bool("again")):
				return failure.Usage("--sample and --again go with --prove")
			case prove && c.String("certificate") != "":
				return failure.Usage("--prove needs the token, and --certificate goes without")
			}
			var err error
			if o.sample, err = parseSample(c.String("sample")); err != nil {
				return err
			}
			if c.IsSet("quorum") {
				return rehearseWithQuorum(ctx, s, c, o)
			}
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error {
				if o.rehearse {
					if err := rehearse(ctx, s, k, o.canary); err != nil {
						return err
					}
				}
				return drill(ctx, s, k, o)
			})
		}),
	}
}

// defaultProofAge is how old proofs of custodians and rehearsals may be unless --proof-age says otherwise.
const defaultProofAge = "365d"

// readMore reads the options about rehearsals and their age.
func (o *drillOptions) readMore(c *cli.Context) (err error) {
	o.rehearse = c.Bool("rehearse")
	if c.IsSet("canary") {
		if o.canary = c.String("canary"); blob.ValidName(o.canary) != nil || !hsmkeys.IsCanary(o.canary) {
			return failure.Usage("--canary %q: a key for rehearsals alone is called canary, or ends in /canary", o.canary)
		}
	}
	age := c.String("proof-age")
	if age == "" {
		age = defaultProofAge
	}
	if o.proofAge, err = settings.ParseDuration(age); err != nil || o.proofAge <= 0 {
		return failure.Usage("--proof-age %q is no time such as 90d", age)
	}
	for _, name := range []string{"canary", "quorum", "custodian", "vouched-by", "yes"} {
		if c.IsSet(name) && !o.rehearse {
			return failure.Usage("--%s goes with --rehearse", name)
		}
	}
	for _, name := range []string{"custodian", "vouched-by"} {
		if c.IsSet(name) && !c.IsSet("quorum") {
			return failure.Usage("--%s goes with --quorum", name)
		}
	}
	switch {
	case o.rehearse && o.prove:
		return failure.Usage("--rehearse and --prove are done one after the other")
	case o.rehearse && c.String("certificate") != "":
		return failure.Usage("--rehearse needs the token of an authority, or --quorum, and --certificate goes without")
	}
	return nil
}

type drillOptions struct {
	names  []string
	prove  bool
	again  bool // also what was proven recently
	sample hsmkeys.Sample
	html   string // file
	junit  string // file

	proofAge time.Duration
	strict   bool

	rehearse bool
	canary   string // name of the key
}

func drill(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, o drillOptions) error {
	var failed error
	var proof *tally.Tally
	if o.prove {
		refs, err := k.Versions(ctx, o.names...)
		if err != nil {
			return err
		}
		t, err := proveKeys(ctx, k, refs, o)
		proof, failed = &t, err
	}
	coverage, err := k.Coverage(ctx, o.names, func(err error) {
		if !o.prove && !errors.Is(err, context.Canceled) { // proveKeys has printed it
			message.Error(err)
		}
		failed = errors.Join(failed, failure.ErrReported, err)
	})
	if err != nil {
		return err
	}
	soon := concernsOf(coverage, o.proofAge, o.strict)
	if o.html != "" {
		if err := writeReport(ctx, o.html, report{coverage, soon}); err != nil {
			return err
		}
	}
	if o.junit != "" {
		if err := writeJUnit(ctx, o.junit, coverage, soon, o.strict, failed); err != nil {
			return err
		}
	}
	err = printCoverage(s, coverage, proof)
	for _, c := range soon {
		message.Warn(errors.New(c.Text))
	}
	if failed != nil {
		failed = failure.Detected(failed)
	}
	if o.strict && len(soon) > 0 {
		strict := failure.WithHint(fmt.Errorf("%s to be done soon", text.Plural(len(soon), "thing is", "things are")), "the warnings say which; without --strict they do not fail")
		if failed != nil || coverage.Lost > 0 {
			message.Error(strict)
			failed = errors.Join(failed, failure.ErrReported, strict)
		} else {
			failed = strict
		}
	}
	if coverage.Lost > 0 && !errors.Is(failed, context.Canceled) {
		risk := &atRisk{coverage.Lost, len(coverage.Keys)}
		if failed == nil {
			return errors.Join(risk, err)
		}
		message.Error(risk) // the other errors have been printed, and so nothing else prints this one
	}
	return errors.Join(failed, err)
}

// proveKeys proves all keys or a sample of them.
func proveKeys(ctx context.Context, k *hsmkeys.Keyring, refs []hsmkeys.Ref, o drillOptions) (tally.Tally, error) {
	if o.sample != (hsmkeys.Sample{}) {
		var err error
		if refs, err = o.sample.Of(refs); err != nil {
			return tally.Tally{}, err
		}
	}
	since := time.Now().Add(-provenLately)
	if o.again {
		since = time.Now()
	}
	return tally.Run(k.Prove(ctx, refs, since), len(refs), "prove", nil)
}

// atRisk is the failure that a rehearsal looks for.
type atRisk struct{ lost, of int }

func (e *atRisk) Error() string {
	return fmt.Sprintf("%d of %s would be lost with a single token", e.lost, text.Plural(e.of, "version of a key", "versions of keys"))
}

func (e *atRisk) Hint() string {
	return "hsmkeys authority add CERTIFICATE names a backup authority, hsmkeys rewrap brings it the keys that are there"
}

// printCoverage prints holders, and then keys.
func printCoverage(s *settings.Settings, coverage hsmkeys.Coverage, proof *tally.Tally) error {
	out := output.NewStream(os.Stdout)
	if s.JSON {
		keys := coverage.Keys
		coverage.Keys = []hsmkeys.KeyCoverage{}
		out.Document(struct {
			hsmkeys.Coverage
			Proof *tally.Tally `json:"proof,omitempty"`
		}{coverage, proof}, "keys", func() {
			for _, key := range keys {
				out.Element(key)
			}
		})
		return out.End()
	}
	rows := [][]string{{"HOLDER", "ROLE", "OPENS", "PROVEN", "LATEST PROOF", "REHEARSED", "LOST WITH IT"}}
	for _, h := range coverage.Holders {
		latest := "never"
		switch {
		case !h.Latest.IsZero():
			latest = text.Time(h.Latest)
		case h.Outdated > 0: // its proofs are of keys that have been rewrapped since
			latest = fmt.Sprintf("before a rewrap: %s, %s", text.Plural(h.Outdated, "key", "keys"), text.Time(h.LatestOutdated))
		}
		rows = append(rows, []string{text.Printable(h.Label), h.Role, fmt.Sprintf("%d of %d", h.Opens, len(coverage.Keys)), strconv.Itoa(h.Proven), latest, rehearsedText(h), strconv.Itoa(h.Alone)})
	}
	if err := output.Table(rows); err != nil {
		return err
	}
	for _, h := range coverage.Holders {
		if h.Quorum != nil {
			if err := output.Line("\nquorum %s: %s", text.Printable(h.Label), quorumText(h.Quorum)); err != nil {
				return err
			}
		}
	}
	if len(coverage.Keys) > 0 {
		if err := output.Line(""); err != nil {
			return err
		}
	}
	if len(coverage.Keys) > 0 {
		heading := []string{"KEY"}
		for _, h := range coverage.Holders {
			heading = append(heading, text.Printable(h.Label))
		}
		out.Heading(heading...)
	}
	out.Painted = map[string]string{wouldBeLost: terminal.Paint(os.Stdout, terminal.Red, wouldBeLost)}
	for _, key := range coverage.Keys {
		row := []string{hsmkeys.Ref{Name: key.Name, Version: key.Version}.String()}
		for _, cell := range key.Cells {
			row = append(row, cellText(key, cell))
		}
		out.Row(row...)
	}
	if err := out.End(); err != nil {
		return err
	}
	if n := coverage.PasswordOnly; n > 0 {
		if err := output.Line("\n%s from a password only: no token and no backup authority has them", text.Plural(n, "key is", "keys are")); err != nil {
			return err
		}
	}
	if proof == nil {
		return nil
	}
	return proof.Print(s, "\nproven", "proven before", "")
}

// rehearsedText returns when a holder has last rehearsed a recovery, which owners do not.
func rehearsedText(h hsmkeys.HolderCoverage) string {
	switch last := h.Rehearsed(); {
	case h.Role != blob.BackupAuthority.String():
		return "-"
	case last.IsZero():
		return "never"
	default:
		return text.Time(last)
	}
}

const wouldBeLost = "would be lost"

// cellText describes whether a holder can open a key.
func cellText(key hsmkeys.KeyCoverage, cell hsmkeys.Cell) string {
	switch {
	case key.PasswordOnly:
		return "password only"
	case !cell.Opens:
		return "-"
	case key.Lost:
		return wouldBeLost
	case !cell.Proven.IsZero():
		return "proven " + cell.Proven.UTC().Format(time.DateOnly)
	case !cell.Earlier.IsZero():
		return "proven before rewrap " + cell.Earlier.UTC().Format(time.DateOnly)
	default:
		return "covered"
	}
}

// The report is one page without scripts and external resources, so that it can be mailed, printed
// and kept. Each cell says in words what its colour says.
//
//go:embed drill.html
var reportPage string

// reportTemplate parses the page, which most runs do not need.
var reportTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("drill").Funcs(reportFuncs).Parse(reportPage))
})

var reportFuncs = template.FuncMap{
	"when":      text.Time,
	"rehearsed": rehearsedText,
	"quorum":    quorumText,
	"timeline":  timelineOf,
	"date":      func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
	"class": func(key hsmkeys.KeyCoverage, cell hsmkeys.Cell) string {
		switch {
		case key.PasswordOnly:
			return "password"
		case !cell.Opens:
			return "none"
		case key.Lost:
			return "lost"
		case !cell.Proven.IsZero():
			return "proven"
		case !cell.Earlier.IsZero():
			return "earlier"
		default:
			return "covered"
		}
	},
}

// A report is what the page shows.
type report struct {
	hsmkeys.Coverage
	Soon []concern
}

func writeReport(ctx context.Context, path string, r report) error {
	return datafile.Write(ctx, path, func(w io.Writer) error { return reportTemplate().Execute(w, r) })
}
