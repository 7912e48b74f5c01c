package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

// TestKilledCommands kills commands that change a keyring with SIGKILL at random moments, and
// holds what they have printed against what is there; then the same command goes on. Here
// it is two moments of each command; with HSMKEYS_TEST_KILLS=all it is 300 in all.
func TestKilledCommands(t *testing.T) {
	const key = "p256"
	base := newFaultSite(t, key)
	scenarios := killScenarios(key)
	each := 2
	if os.Getenv("HSMKEYS_TEST_KILLS") == "all" {
		each = 300 / len(scenarios)
	}
	for _, scenario := range scenarios {
		t.Run(scenario.name, func(t *testing.T) {
			site := base.clone(t)
			site.prepare(t, scenario)
			honest := site.clone(t)
			began := time.Now()
			whole := honest.honest(scenario.token, scenario.args...)
			took := time.Since(began)
			if err := scenario.done(honest, whole); err != nil || whole.status != 0 {
				t.Fatalf("%v\n%v", err, whole)
			}
			var middle atomic.Int32
			t.Run("at", func(t *testing.T) {
				for i := range each {
					t.Run(fmt.Sprint(i), func(t *testing.T) {
						t.Parallel()
						k := killing{site: site, scenario: scenario, whole: whole, took: took, afterChange: i%2 == 1}
						if k.try(t) {
							middle.Add(1)
						}
					})
				}
			})
			t.Logf("%d of %d were killed between the first change of the store and the end", middle.Load(), each)
			if each > 2 && int(middle.Load()) < each/5 {
				t.Error("that is too few: the test does not test")
			}
		})
	}
}

// killScenarios are the commands that are killed.
func killScenarios(keyType string) []faultScenario {
	some := slices.DeleteFunc(faultScenarios(keyType), func(s faultScenario) bool {
		return !slices.Contains([]string{"create", "rotate", "rewrap", "recover"}, s.name)
	})
	return append(some, faultScenario{
		name: "adopt", token: "spare", args: []string{"rewrap"}, holders: []string{"spare", "vault"},
		before: [][]string{
			{"vault", "recover", "--yes", "--from", "office.pem", "--to", "spare.pem", "--reason", "fire"},
			{"spare", "join", "--yes", "--vouched-by", "vault.pem"},
		},
		done: func(s *faultSite, r faultRun) error {
			return errors.Join(s.does("spare", "encrypt", "--key", "a", "-o", "a3.age", "in"), s.opens("vault", "a3.age"), s.does("spare", "verify"))
		},
	}, faultScenario{
		name: "store compact", token: "office", args: []string{"store", "compact", "--keep", "1"}, holders: []string{"office", "vault"},
		done: func(s *faultSite, r faultRun) error {
			return errors.Join(s.does("office", "rotate", "a"), s.does("office", "verify"))
		},
	}, faultScenario{
		name: "merge", token: "office", args: []string{"merge", "--yes", "copy"}, holders: []string{"office", "vault"},
		before: [][]string{
			{"office", "owner", "add", "--yes", "spare.pem"}, {"spare", "join", "--yes", "--vouched-by", "office.pem"},
			{"office", "rewrap"},
			{"", "cp", "-a", "store", "copy"},
			{"spare", "--store", "copy", "rotate", "a"}, {"spare", "--store", "copy", "create", "d"},
			{"spare", "--store", "copy", "encrypt", "--key", "a", "-o", "fork.age", "in"},
			{"spare", "--store", "copy", "encrypt", "--key", "d", "-o", "d.age", "in"},
			{"office", "rotate", "a"}, {"office", "create", "e"},
		},
		done: func(s *faultSite, r faultRun) error {
			return errors.Join(s.opens("office", "fork.age", "d.age"), s.opens("vault", "fork.age", "d.age"),
				s.does("office", "encrypt", "--key", "a", "-o", "a4.age", "in"), s.opens("vault", "a4.age"), s.does("office", "verify"))
		},
	})
}

// A killing is a trial.
type killing struct {
	site        *faultSite
	scenario    faultScenario
	whole       faultRun      // what the command prints when nobody kills it
	took        time.Duration // about
	afterChange bool          // not before the store has changed
}

// try kills the command, once or a few times in a row, and checks what it has left. It
// reports whether one was killed in the middle.
func (k *killing) try(t *testing.T) (middle bool) {
	s := k.site.clone(t)
	var printed []reportedKey
	for range 1 + rand.N(3) {
		before := s.objects()
		r := s.killed(k.scenario.token, k.moment(s, before), k.scenario.args...)
		middle = middle || r.status == -1 && s.objects() != before
		printed = append(printed, reported(r.stdout)...)
		l, err := s.chain()
		if err != nil {
			t.Fatalf("%v\n%v", err, r)
		}
		if err := hasReported(l, printed); err != nil {
			t.Fatalf("%v\n%v", err, r)
		}
		// The pin on the token, unless SoftHSM has lost that.
		if seen := s.honest(k.scenario.token, "list"); seen.status != 0 && seen.status != failure.StatusToken {
			t.Errorf("after\n%v\n%v", r, seen)
		}
		s.freshTokens(t, k.site)
		if strings.Count(r.stdout, "\n") == strings.Count(k.whole.stdout, "\n") {
			if err := k.scenario.done(s, r); err != nil {
				t.Errorf("it was reported as done, and is not: %v\n%v", err, r)
			}
			return middle
		}
	}
	for _, token := range k.scenario.holders {
		if err := s.opens(token, "a1.age", "a2.age", "b.age"); err != nil {
			t.Errorf("what opened before does not: %v", err)
		}
	}
	again := s.honest(k.scenario.token, k.scenario.args...)
	if err := k.scenario.done(s, again); err != nil {
		t.Errorf("it does not go on: %v\nafter %v", err, again)
	}
	return middle
}

// moment returns what waits for the moment to kill.
func (k *killing) moment(s *faultSite, before int) func(ended <-chan struct{}) {
	return func(ended <-chan struct{}) {
		after := rand.N(k.took)
		if k.afterChange {
			after = rand.N(k.took / 2)
			for s.objects() == before {
				select {
				case <-ended:
					return
				case <-time.After(200 * time.Microsecond):
				}
			}
		}
		select {
		case <-ended:
		case <-time.After(after):
		}
	}
}

// killed runs a command and kills it when moment returns.
func (s *faultSite) killed(token string, moment func(ended <-chan struct{}), args ...string) faultRun {
	ctx, kill := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		moment(ended)
		kill()
	}()
	r := outcome(s.command(ctx, s.env.Module(), token, "hsmkeys", args...))
	close(ended)
	kill()
	return r
}

// objects counts the files of the store.
func (s *faultSite) objects() (n int) {
	filepath.WalkDir(filepath.Join(s.dir, "store"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil
	})
	return n
}
