package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func logCommand() *cli.Command {
	return &cli.Command{
		Name: "log", Usage: "show who did what to which key, when and why", ArgsUsage: "[NAME]",
		Description: "Prints what the checkpoints of the keyring have recorded, oldest first, up to the newest one, which is\n" +
			"verified: nobody can change or remove an entry. Times are by the clocks of the signers.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "only what came after `WHEN`: the number of a checkpoint, a date such as 2026-11-01 or 2026-11-01T09:30:00Z, or a time until now such as 12h or 30d"},
			certificateFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			since, err := parseSince(c.String("since"), time.Now())
			if err != nil {
				return err
			}
			name := ""
			if c.NArg() > 0 {
				if name, err = nameArgument(c); err != nil {
					return err
				}
			}
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error { return printLog(ctx, s, k, name, since) })
		}),
	}
}

// A since is where a log begins.
type since struct {
	number int       // after this checkpoint
	at     time.Time // and not before that time
}

// parseSince parses --since.
func parseSince(s string, now time.Time) (since, error) {
	if s == "" {
		return since{}, nil
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= blob.MaxNumber && strconv.Itoa(n) == s {
		return since{number: n}, nil
	}
	if at, err := parseAge(s, now); err == nil {
		return since{at: at}, nil
	}
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(form, s); err == nil {
			return since{at: at}, nil
		}
	}
	return since{}, failure.Usage("--since is the number of a checkpoint, a date such as 2026-11-01 or 2026-11-01T09:30:00Z, or a time such as 12h or 30d, not %q", s)
}

// printLog prints the events as they come.
func printLog(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, name string, since since) error {
	out, asJSON := output.NewStream(os.Stdout), s.JSON
	if !asJSON {
		out.Heading("CHECKPOINT", "TIME", "SIGNER", "WHAT", "WHY")
	}
	found := false
	for e, err := range k.Log(ctx, since.number) {
		if out.Cut(err) {
			break
		}
		if err != nil {
			out.Fail(err)
			break
		}
		found = found || e.Change.Name == name
		if name != "" && e.Change.Name != name || e.Created.Before(since.at) {
			continue
		}
		if asJSON {
			out.Element(eventAsJSON(e))
		} else {
			out.Row(strconv.Itoa(e.At.Number), text.Time(e.Created), text.Printable(e.Signer.Label), eventText(e), text.Printable(eventReason(e)))
		}
	}
	if asJSON {
		out.EndArray()
	}
	if err := out.End(); err != nil || name == "" || found {
		return err
	}
	_, err := k.Show(ctx, hsmkeys.Ref{Name: name}) // the key may have older events, or be misspelt
	return err
}

// eventText describes what was done.
func eventText(e ledger.Event) string {
	switch {
	case e.Recovery != nil:
		return fmt.Sprintf("RECOVERY, list of members %d: %s", e.List, show.MemberChanges(e))
	case e.List == 1:
		return "keyring founded: " + show.MemberChanges(e)
	case e.List > 0:
		return fmt.Sprintf("list of members %d: %s", e.List, show.MemberChanges(e))
	case e.Change.Op == 0:
		return "nothing changed"
	case e.Change.Version > 0:
		return fmt.Sprintf("%v %s@%d", e.Change.Op, e.Change.Name, e.Change.Version)
	case e.Change.Name != "":
		return fmt.Sprintf("%v %s", e.Change.Op, e.Change.Name)
	}
	return e.Change.Op.String()
}

func eventReason(e ledger.Event) string {
	if e.Recovery != nil {
		return e.Recovery.Reason
	}
	return e.Change.Reason
}

// eventJSON is an event in JSON. Its form is stable.
type eventJSON struct {
	Checkpoint string        `json:"checkpoint"`
	Number     int           `json:"number"`
	Time       string        `json:"time"`
	Signer     string        `json:"signer"`
	SignerID   string        `json:"signer_subject_key_id"`
	Operation  string        `json:"operation"` // of a key, or "members", "recovery", "compact", "replace-pin", "fresh"
	Name       string        `json:"name,omitempty"`
	Version    int           `json:"version,omitempty"`
	Reason     string        `json:"reason,omitempty"`
	List       int           `json:"list,omitempty"`
	Joined     []show.Member `json:"joined,omitempty"`
	Left       []show.Member `json:"left,omitempty"`
	Policy     *policyJSON   `json:"policy,omitempty"`   // from then on, if it has changed
	Approved   []show.Member `json:"approved,omitempty"` // who approved a change of members
}

func eventAsJSON(e ledger.Event) eventJSON {
	j := eventJSON{
		Checkpoint: e.At.String(), Number: e.At.Number, Time: text.Time(e.Created), Signer: e.Signer.Label,
		Name: e.Change.Name, Version: e.Change.Version, Reason: eventReason(e), List: e.List,
	}
	if e.Signer.Certificate != nil {
		j.SignerID = show.MemberOf(e.Signer).SubjectKeyID
	}
	switch {
	case e.Recovery != nil:
		j.Operation = "recovery"
	case e.List > 0:
		j.Operation = "members"
	case e.Change.Op == 0:
		j.Operation = "fresh"
	default:
		j.Operation = e.Change.Op.String()
	}
	if e.Policy != nil {
		p := policyAsJSON(*e.Policy)
		j.Policy = &p
	}
	for _, m := range e.Approved {
		j.Approved = append(j.Approved, show.MemberOf(m))
	}
	for _, m := range e.Joined {
		j.Joined = append(j.Joined, show.MemberOf(m))
	}
	for _, m := range e.Left {
		j.Left = append(j.Left, show.MemberOf(m))
	}
	return j
}
