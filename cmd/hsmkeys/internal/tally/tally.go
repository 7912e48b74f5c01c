// Package tally works through many keys: it shows progress, prints failures and counts.
package tally

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/text"
)

// A Tally counts what was done to many keys.
type Tally struct {
	Done      int      `json:"done"`
	Unchanged int      `json:"unchanged"`
	Failed    []Failed `json:"failed"`

	// NotProven is how many of those done have holders who alone can tell whether what was
	// wrapped to them opens, and Until their labels.
	NotProven int      `json:"not_proven,omitempty"`
	Until     []string `json:"not_proven_until,omitempty"`
}

// Failed is a key for which the operation failed.
type Failed struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	Error   string `json:"error"`
}

// Run works through the results for many keys, shows progress, and prints each failure. One that
// has the same text as the failure before it is counted and not printed again.
func Run(results iter.Seq[hsmkeys.Result], total int, doing string) (Tally, error) {
	t := Tally{Failed: []Failed{}}
	var failed error
	count := terminal.NewCounter(doing, total)
	said := ""
	for r := range results {
		count.One()
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
		default:
			t.Unchanged++
		}
	}
	count.Clear()
	if failed != nil {
		failed = errors.Join(failure.ErrReported, failed)
	}
	return t, failed
}

// Print prints the tally with the words for keys that were done and left unchanged.
func (t Tally) Print(s *settings.Settings, done, unchanged string) error {
	if s.JSON {
		return output.JSON(t)
	}
	return output.Line("%s %d, %s %d, failed %d%s", done, t.Done, unchanged, t.Unchanged, len(t.Failed), show.NotProven(t.Until))
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
