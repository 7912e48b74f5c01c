package ledger

import (
	"flag"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// TestModel plays honest writers, crashes, and a storage that replays, deletes, forks and
// swaps against a reference model of plain Go maps. All 100,000 steps are made with
// HSMKEYS_TEST_MODEL=all.
//
// The steps are the same each time, so that a change that fails is the one that broke it;
// -rapid.seed=N plays others.
func TestModel(t *testing.T) {
	runs, steps := 15, 50
	if os.Getenv("HSMKEYS_TEST_MODEL") == "all" {
		runs = 2250
	}
	set(t, "rapid.checks", runs)
	set(t, "rapid.steps", steps)
	if flag.Lookup("rapid.seed").Value.String() == "0" {
		set(t, "rapid.seed", 16)
	}
	done, seen := 0, map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		p := newPlay(t, seen)
		actions := map[string]func(*rapid.T){}
		for name, action := range map[string]func(){
			"open": p.Open, "open again": p.Open, "refresh": p.Refresh, "accept": p.Accept, "join": p.Join,
			"lose the file": p.LoseTheFile, "replace the pin": p.ReplaceThePin,
			"commit": p.Commit, "commit another": p.Commit, "commit a third": p.Commit, "commit a fourth": p.Commit,
			"change members": p.ChangeMembers, "recover": p.Recover, "compact": p.Compact,
			"back up": p.BackUp, "restore": p.Restore, "copy": p.Copy, "unite": p.Unite,
			"merge": p.Merge, "merge again": p.Merge, "log": p.ReadLog,
			"lie": p.Lie, "forge": p.Forge, "delete packs": p.DeletePacks, "be honest": p.BeHonest, "be honest again": p.BeHonest,
		} {
			actions[name] = func(*rapid.T) { done++; action() }
		}
		t.Repeat(actions)
		p.End()
	})
	t.Logf("%d steps", done)
	if runs > 1000 {
		if done < 100_000 {
			t.Errorf("only %d steps", done)
		}
		for _, what := range []string{ErrFork.Error(), ErrRollback.Error(), "older state", "recovery seen", "race", "in doubt", "merge", "forged", "cured", "packs deleted", "joined", "log"} {
			if seen[what] == 0 {
				t.Errorf("never: %s", what)
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%6d %s", seen[what], what)
	}
}

// set sets a flag of package rapid for one test.
func set(t *testing.T, name string, value int) {
	f := flag.Lookup(name)
	before := f.Value.String()
	if f.Value.Set(strconv.Itoa(value)) != nil {
		t.Fatal(name)
	}
	t.Cleanup(func() { f.Value.Set(before) })
}
