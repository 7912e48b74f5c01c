// Package tally works through many keys: it shows progress, prints failures and counts.
package tally

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// A Tally counts what was done to many keys.
type Tally struct {
	Done      int      `json:"done"`
	Unchanged int      `json:"unchanged"`
	Failed    []Failed `json:"failed"`

	// Keys are those that were changed, as they are now, if the operation prints a line for each.
	Keys []hsmkeys.Entry `json:"keys,omitempty"`
	// PassedOver counts the keys below a prefix that the operation is not about.
	PassedOver int `json:"passed_over,omitempty"`

	// NotProven is how many of those done have holders who alone can tell whether what was
	// wrapped to them opens, and Until their labels.
	NotProven int      `json:"not_proven,omitempty"`
	Until     []string `json:"not_proven_until,omitempty"`

	whole bool // the operation as a whole failed, before it came to a key
}

// Failed is a key for which the operation failed.
type Failed struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	Error   string `json:"error"`
}

// Run works through the results for many keys, shows progress, and prints each failure and, unless line
// is nil, what it says of each key that was changed. A failure that has the same text as the one before
// it is counted and not printed again.
func Run(results iter.Seq[hsmkeys.Result], total int, doing string, line func(hsmkeys.Result) string) (Tally, error) {
	t := Tally{Failed: []Failed{}}
	var failed error
	count := terminal.NewCounter(doing, total)
	said := ""
	for r := range results {
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
				t.Failed = append(t.Failed, Failed{r.Ref.Name, r.Ref.Version, text.Line(r.Err.Error())})
			}
			failed = errors.Join(failed, r.Err)
		case r.Done:
			t.Done++
			t.notProven(r.Unproven)
			if line == nil {
				break
			}
			if message.JSON {
				t.Keys = append(t.Keys, r.Entry)
				break
			}
			count.Clear()
			if err := output.Line("%s", line(r)); err != nil {
				return t, err
			}
		default:
			t.Unchanged++
		}
	}
	count.End()
	t.whole = failed != nil && t.Done+t.Unchanged+len(t.Failed) == 0
	if failed != nil {
		failed = errors.Join(failure.ErrReported, failed)
	}
	return t, failed
}

// Print prints the tally with the words for keys that were done, left unchanged and passed over; that for
// unchanged is "" if only others can be the reason.
func (t Tally) Print(s *settings.Settings, done, unchanged, passedOver string) error {
	switch {
	case s.JSON:
		return output.JSON(t)
	case t.whole: // and why was printed
		return nil
	}
	counts := fmt.Sprintf("%s %d", done, t.Done)
	if unchanged == "" && t.Unchanged > 0 {
		unchanged = "changed by others meanwhile"
	}
	if unchanged != "" {
		counts += fmt.Sprintf(", %s %d", unchanged, t.Unchanged)
	}
	return output.Line("%s, failed %d%s%s", counts, len(t.Failed), PassedOver(t.PassedOver, passedOver), show.NotProven(t.Until))
}

// PassedOver returns the part of a line about keys that were passed over and why, or "" if there are
// none.
func PassedOver(n int, why string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", passed over %d (%s)", n, why)
}

func (t *Tally) notProven(holders []hsmkeys.Holder) {
	if len(holders) > 0 {
		t.NotProven++
	}
	for _, label := range show.Labels(holders) {
		if !slices.Contains(t.Until, label) {
			t.Until = append(t.Until, label)
		}
	}
	slices.Sort(t.Until)
}
