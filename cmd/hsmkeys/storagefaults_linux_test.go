package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

// tracedCalls are the system calls by which files get to disk.
const tracedCalls = "openat,write,fsync,syncfs,mkdirat,linkat,renameat,renameat2,unlinkat"

// A storageFault is what a system call does in place of what it should.
type storageFault struct {
	call   string
	action string // error=ERRNO or signal=SIGKILL, see strace(1)
	sample int    // one in so many is tried in the sample
}

// storageFaults are tried at every call, and those of the second list also at every call
// from some one on.
var (
	storageFaults = []storageFault{
		{"fsync", "error=EIO", 7}, {"fsync", "error=ENOSPC", 15}, {"fsync", "signal=SIGKILL", 15},
		{"linkat", "error=EIO", 3}, {"linkat", "error=ENOSPC", 4}, {"linkat", "signal=SIGKILL", 4},
		{"write", "error=ENOSPC", 12}, {"write", "error=EIO", 20},
		{"mkdirat", "error=ENOSPC", 9}, {"mkdirat", "error=EIO", 15},
		{"renameat", "error=ENOSPC", 1}, {"renameat", "error=EIO", 1}, {"renameat", "signal=SIGKILL", 1},
		{"unlinkat", "error=EIO", 5},
		{"openat", "error=EIO", 150}, {"openat", "error=ENOSPC", 150},
	}
	lastingFaults = []storageFault{
		{"fsync", "error=EIO", 15}, {"linkat", "error=EIO", 4}, {"linkat", "error=ENOSPC", 4},
		{"write", "error=ENOSPC", 20}, {"openat", "error=ENOSPC", 150},
	}
)

// TestStorageFaults has every system call by which one create gets its files to disk fail,
// alone and with all after it, or be the last before SIGKILL:
//
//   - exit status 0 says that the key is there, and was on disk before it was reported: by
//     the trace of the calls, which must have been in order;
//   - anything else is an error, and where the key is there all the same it says so;
//   - the same command goes on.
//
// Here a sample is tried; with HSMKEYS_TEST_KILLS=all it is every call.
func TestStorageFaults(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatalf("%v: scripts/install-test-tools.sh installs it", err)
	}
	every := os.Getenv("HSMKEYS_TEST_KILLS") == "all"
	site := newFaultSite(t, "p256")
	scenarios := faultScenarios("p256")
	create := scenarios[slices.IndexFunc(scenarios, func(s faultScenario) bool { return s.name == "create" })]
	var seen storageCalls
	seen.want(site, traced(t, site.clone(t), create).calls)
	t.Run("at", func(t *testing.T) {
		for i, f := range slices.Concat(storageFaults, lastingFaults) {
			lasting := i >= len(storageFaults)
			name := fmt.Sprintf("%s/%s", f.call, f.action)
			step := 1
			switch {
			case !every:
				step = f.sample
			case f.call == "openat" && (lasting || f.action != "error=EIO"):
				step = 7 // there are hundreds, most of them of libraries
			}
			first := 1 + rand.IntN(step)
			suffix := ""
			if lasting {
				name, suffix = name+" from one on", "+"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				try := func(n int) bool {
					return tryStorage(t, site, create, &seen, f.call, fmt.Sprintf("%s:when=%d%s", f.action, n, suffix))
				}
				n := first
				for try(n) {
					n += step
				}
				if n == first && !try(1) {
					t.Error("it was not committed")
				}
			})
		}
	})
	if every {
		for _, role := range seen.missing() {
			t.Errorf("%s has never failed", role)
		}
	}
}

// TestADirectoryFails has all system calls fail by which names get into a directory of the
// store, or to disk there: the command never succeeds, and when it is about the slot it says
// that the change may have been recorded.
func TestADirectoryFails(t *testing.T) {
	site := newFaultSite(t, "p256")
	create := killScenarios("p256")[0]
	const slots = "state/0000000"
	for _, call := range []string{"fsync", "linkat"} {
		for _, dir := range []string{".", "keys", "keys/c", "packs", "changes", "checkpoints", "state", slots} {
			if call == "linkat" && slices.Contains([]string{".", "keys", "state"}, dir) {
				continue // has directories alone
			}
			t.Run(call+" "+dir, func(t *testing.T) {
				t.Parallel()
				s := site.clone(t)
				r := traced(t, s, create, "-P", filepath.Join(s.dir, "store", dir), "-e", "inject="+call+":error=EIO")
				if err := checkStorage(s, r, false); err != nil || r.status != failure.StatusFailed {
					t.Errorf("%v\n%v", err, r)
				}
				// The slot is filled when all but the directories above it are on disk.
				doubt := dir == slots || call == "fsync" && dir == "state"
				if strings.Contains(r.stderr, "may have been recorded") != doubt {
					t.Errorf("whether it is in doubt: %v", r)
				}
				s.freshTokens(t, site)
				again := s.honest(create.token, create.args...)
				if err := create.done(s, again); err != nil {
					t.Errorf("it does not go on: %v\nafter %v", err, r)
				}
			})
		}
	}
}

// TestKilledAroundTheSlot kills each command before it fills a slot, and between that and the
// pin: the same command goes on, with its own checkpoint or without.
func TestKilledAroundTheSlot(t *testing.T) {
	base := newFaultSite(t, "p256")
	for _, scenario := range killScenarios("p256") {
		site := base.clone(t)
		site.prepare(t, scenario)
		site.must(t, scenario.token, "list") // which pins what there is
		before, err := site.chain()
		if err != nil {
			t.Fatal(err)
		}
		for filled, moment := range []string{"linkat", "renameat"} {
			t.Run(scenario.name+" "+moment, func(t *testing.T) {
				t.Parallel()
				s := site.clone(t)
				options := []string{"-P", filepath.Join(s.dir, "store/state/0000000"), "-e", "inject=" + moment + ":signal=SIGKILL"}
				for _, pin := range s.pinFiles() {
					options = append(options, "-P", pin)
				}
				r := traced(t, s, scenario, options...)
				l, err := s.chain()
				if err == nil {
					err = hasReported(l, reported(r.stdout))
				}
				if err != nil || r.status != -1 || l.At().Number != before.At().Number+filled {
					t.Fatalf("%v\n%v", err, r)
				}
				s.freshTokens(t, site)
				again := s.honest(scenario.token, scenario.args...)
				if err := scenario.done(s, again); err != nil {
					t.Errorf("it does not go on: %v\nafter %v", err, again)
				}
			})
		}
	}
}

// TestDiskOrder follows the calls of each command that changes a keyring: what it refers
// to, pins or reports was on disk before.
func TestDiskOrder(t *testing.T) {
	base := newFaultSite(t, "p256")
	scenarios := slices.DeleteFunc(faultScenarios("p256"), func(s faultScenario) bool {
		return !slices.Contains([]string{"init", "authority add", "join"}, s.name)
	})
	for _, scenario := range append(scenarios, killScenarios("p256")...) {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			s := base.clone(t)
			s.prepare(t, scenario)
			r := traced(t, s, scenario)
			if r.status != 0 {
				t.Fatal(r)
			}
			store := "store"
			if scenario.args[0] == "--store" {
				store = scenario.args[1]
			}
			if err := s.checkOrder(store, r.calls); err != nil {
				t.Error(err)
			}
		})
	}
}

// A tracedRun is a command whose system calls were written down.
type tracedRun struct {
	faultRun
	calls []systemCall
}

// traced runs the command of a scenario under strace, with more of its options.
func traced(t *testing.T, s *faultSite, scenario faultScenario, options ...string) tracedRun {
	t.Helper()
	trace := filepath.Join(s.dir, "trace")
	args := []string{"-f", "-qq", "-y", "-s", "16", "-o", trace, "-e", "trace=" + tracedCalls}
	if !strings.Contains(strings.Join(options, " "), "signal=") { // which it would forget
		args = append(args, "--seccomp-bpf")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := tracedRun{faultRun: outcome(s.command(ctx, s.env.Module(), scenario.token, "strace", slices.Concat(args, options, []string{"hsmkeys"}, scenario.args)...))}
	r.timeout = ctx.Err() != nil
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatalf("%v\n%v", err, r)
	}
	if r.calls = parseTrace(string(text)); len(r.calls) == 0 {
		t.Fatalf("strace has seen no calls: %v", r)
	}
	return r
}

// tryStorage runs the command on a copy with one fault, and checks what it has left. It
// reports whether the fault was committed.
func tryStorage(t *testing.T, site *faultSite, scenario faultScenario, seen *storageCalls, call, action string) bool {
	s := site.clone(t)
	defer os.RemoveAll(s.env.Dir()) // there are many
	r := traced(t, s, scenario, "-e", "inject="+call+":"+action)
	killed := strings.HasPrefix(action, "signal") && r.status == -1
	if !killed && !slices.ContainsFunc(r.calls, func(c systemCall) bool { return c.injected }) {
		return false
	}
	seen.add(s, r.calls)
	if err := errors.Join(s.checkOrder("store", r.calls), checkStorage(s, r, killed)); err != nil {
		t.Errorf("%s: %v\n%v", action, err, r)
	}
	if s.objects() == site.objects() && r.status != 0 {
		return true // it has not come to the store
	}
	s.freshTokens(t, site)
	for _, token := range scenario.holders {
		if err := s.opens(token, "a1.age"); err != nil {
			t.Errorf("%s: what opened before does not: %v\n%v", action, err, r)
		}
	}
	again := s.honest(scenario.token, scenario.args...)
	if err := scenario.done(s, again); err != nil {
		t.Errorf("%s: it does not go on: %v\nafter %v", action, err, r)
	}
	return true
}

// mute reports whether the command could not write to stderr.
func (r tracedRun) mute() bool {
	return slices.ContainsFunc(r.calls, func(c systemCall) bool {
		return c.injected && c.name == "write" && strings.HasPrefix(c.args, "2<")
	})
}

// recordedAnyway is how an error says that the key is, or may be, there.
var recordedAnyway = regexp.MustCompile(`may have been recorded|checkpoint \d+ is recorded|stdout`)

// checkStorage checks what a create has reported, and then what is there.
func checkStorage(s *faultSite, r tracedRun, killed bool) error {
	if r.timeout {
		return errors.New("it does not end")
	}
	l, err := s.chain()
	if err != nil {
		return err
	}
	if err := hasReported(l, reported(r.stdout)); err != nil {
		return err
	}
	_, err = l.Entry(context.Background(), "c")
	switch there := err == nil; {
	case !there && !errors.Is(err, blob.ErrNotFound):
		return err
	case r.status == 0 && (!there || len(reported(r.stdout)) != 1):
		return errors.New("it ends as if it was done, and is not")
	case r.status != 0 && !killed && there && !r.mute() && !recordedAnyway.MatchString(r.stderr):
		return errors.New("the key is there, and it does not say so")
	}
	return nil
}

// storageCalls are the calls by which a command writes, by what they are about, and which of
// them have been made to fail.
type storageCalls struct {
	mu    sync.Mutex
	roles map[string]bool
}

func (a *storageCalls) want(s *faultSite, calls []systemCall) {
	a.roles = map[string]bool{}
	for _, c := range calls {
		if role := s.role(c); role != "" {
			a.roles[role] = false
		}
	}
}

func (a *storageCalls) add(s *faultSite, calls []systemCall) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range calls {
		if c.injected {
			a.roles[s.role(c)] = true
		}
	}
}

func (a *storageCalls) missing() []string {
	var missing []string
	for _, role := range slices.Sorted(maps.Keys(a.roles)) {
		if !a.roles[role] {
			missing = append(missing, role)
		}
	}
	return missing
}

var randomNames = regexp.MustCompile(`\.tmp-\w+|[0-9a-f]{16,}`)

// role returns what a call is about that writes to the store or a pin, or "".
func (s *faultSite) role(c systemCall) string {
	path := c.path()
	below, ok := strings.CutPrefix(path, s.dir+"/")
	if !ok || !strings.HasPrefix(below, "store") && !strings.HasPrefix(below, ".local/state/hsmkeys/pins") {
		return ""
	}
	if c.name == "openat" && !strings.Contains(c.args, "O_CREAT") {
		return ""
	}
	return c.name + " " + randomNames.ReplaceAllString(below, "*")
}
