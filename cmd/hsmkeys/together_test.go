package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// TestEightProcesses has eight processes at a time, four of either of two owners, create,
// rotate and rewrap, while one adds and removes a backup authority and another one compacts
// the store: each key that was reported is there, none was given out twice, none that was
// not reported counts, and there is one chain. Here each does a few commands; with
// HSMKEYS_TEST_KILLS=all it takes about a minute.
func TestEightProcesses(t *testing.T) {
	rounds := 3
	if os.Getenv("HSMKEYS_TEST_KILLS") == "all" {
		rounds = 16
	}
	s := newFaultSite(t, "p256")
	s.must(t, "office", "owner", "add", "--yes", "spare.pem")
	s.must(t, "spare", "join", "--yes", "--vouched-by", "office.pem")
	s.must(t, "office", "rewrap")

	var workers [8]*togetherWorker
	var all sync.WaitGroup
	for i := range workers {
		w := &togetherWorker{faultSite: *s, number: i, token: []string{"office", "spare"}[i%2]}
		w.freshTokens(t, s) // SoftHSM fails those who log in while another one does
		workers[i] = w
		all.Go(func() { w.work(rounds) })
	}
	all.Wait()

	var printed []reportedKey
	for _, w := range workers {
		if w.err != nil {
			t.Errorf("process %d: %v", w.number, w.err)
		}
		printed = append(printed, w.printed...)
	}
	l, err := s.chain()
	if err != nil {
		t.Fatal(err)
	}
	if err := hasReported(l, printed); err != nil {
		t.Error(err)
	}
	if err := noOthers(l, printed); err != nil {
		t.Error(err)
	}
	for _, token := range []string{"office", "spare"} {
		s.must(t, token, "rewrap")
		s.must(t, token, "verify")
		if err := s.opens(token, "a1.age", "a2.age", "b.age"); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d keys in %d checkpoints", len(printed), l.At().Number)
}

// A togetherWorker runs one command after the other.
type togetherWorker struct {
	faultSite
	number  int
	token   string
	printed []reportedKey
	err     error
}

func (w *togetherWorker) work(rounds int) {
	for i := range rounds {
		own := fmt.Sprintf("of-%d/%d", w.number, i)
		w.do("", "create", own)
		w.do("", "rotate", "a") // all of them the same key
		w.do("already exists", "create", fmt.Sprintf("of-all/%d", i))
		w.do("", "rotate", own)
		w.do("", "rewrap")
		switch {
		case w.number == 1:
			w.do("", "store", "compact")
		case w.number > 0:
		case i%2 == 0:
			w.do("", "authority", "add", "--yes", "guest.pem")
		default:
			w.do("", "authority", "remove", "--yes", "guest")
		}
	}
}

// do runs a command, which succeeds, or fails in the one way that it may.
func (w *togetherWorker) do(may string, args ...string) {
	r := w.honest(w.token, args...)
	keys := reported(r.stdout)
	w.printed = append(w.printed, keys...)
	switch {
	case r.status == 0 && (len(keys) == 1) == (args[0] == "create" || args[0] == "rotate"):
	case r.status == failure.StatusFailed && may != "" && strings.Contains(r.stderr, may) && len(keys) == 0:
	default:
		w.err = errors.Join(w.err, errors.New(r.String()))
	}
}

// noOthers checks that the state has nothing but what the site began with and what was
// printed, each once.
func noOthers(l *ledger.Ledger, printed []reportedKey) error {
	ctx := context.Background()
	var all error
	for e, err := range l.Entries(ctx, "") {
		if err != nil {
			return err
		}
		for v, err := range l.Versions(ctx, e) {
			if err != nil {
				return err
			}
			n := 0
			for _, key := range printed {
				if key.name == e.Name && key.version == v.Number {
					n++
				}
			}
			want := 1
			if slices.Contains([]string{"a@1", "a@2", "b@1"}, fmt.Sprintf("%s@%d", e.Name, v.Number)) {
				want = 0
			}
			if n != want {
				all = errors.Join(all, fmt.Errorf("%s@%d was reported %d times", e.Name, v.Number, n))
			}
		}
	}
	return all
}
