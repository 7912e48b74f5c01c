package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A systemCall is a line of a trace: a call that has ended.
type systemCall struct {
	name     string
	args     string
	ok       bool
	injected bool
}

// parseTrace reads what `strace -f -y` has written. Calls of one thread that were
// interrupted by those of others are put together.
func parseTrace(trace string) (calls []systemCall) {
	begun := map[string]string{} // by thread
	for line := range strings.Lines(trace) {
		thread, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		if before, unfinished := strings.CutSuffix(rest, "<unfinished ...>"); unfinished {
			begun[thread] = strings.TrimSpace(before)
			continue
		}
		if strings.HasPrefix(rest, "<... ") {
			_, after, _ := strings.Cut(rest, " resumed>")
			rest = begun[thread] + after
		}
		if m := traceLine.FindStringSubmatch(rest); m != nil {
			calls = append(calls, systemCall{m[1], m[2], !strings.HasPrefix(m[3], "-1"), strings.HasSuffix(m[3], "(INJECTED)")})
		}
	}
	return calls
}

var (
	traceLine = regexp.MustCompile(`^(\w+)\((.*)\)\s+= (.*)$`)
	fdPath    = regexp.MustCompile(`^[\w]+<([^>]*)>$`)
)

// paths returns the paths of the arguments, those of names below an open directory put
// together, in their order.
func (c systemCall) paths() (paths []string) {
	dir := ""
	args := strings.Split(c.args, ", ")
	if c.name == "write" { // data is no path
		args = args[:1]
	}
	for _, arg := range args {
		switch m := fdPath.FindStringSubmatch(arg); {
		case m != nil:
			dir = m[1]
			paths = append(paths, dir)
		case strings.HasPrefix(arg, `"`) && dir != "":
			name := strings.Trim(arg, `"`)
			if !filepath.IsAbs(name) {
				name = filepath.Join(dir, name)
			}
			paths[len(paths)-1] = name
		case strings.HasPrefix(arg, `"`):
			paths = append(paths, strings.Trim(arg, `"`))
		}
	}
	return paths
}

// path is the one that the call is about: the last.
func (c systemCall) path() string {
	if all := c.paths(); len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

// A diskOrder follows the calls of a command, and finds what it reports, pins or refers to
// before it is on disk.
type diskOrder struct {
	store, pins string
	dirty       map[string]bool   // files that were written and not synced
	pending     map[string]string // names whose directory, the value, was not synced
}

// checkOrder returns an error for the first thing that was done too early with a store.
func (s *faultSite) checkOrder(store string, calls []systemCall) error {
	o := diskOrder{filepath.Join(s.dir, store), filepath.Join(s.dir, ".local/state/hsmkeys/pins"), map[string]bool{}, map[string]string{}}
	for _, c := range calls {
		if err := o.next(c); err != nil {
			return fmt.Errorf("%s(%.300s): %w", c.name, c.args, err)
		}
	}
	return nil
}

func (o *diskOrder) next(c systemCall) error {
	if !c.ok {
		return nil
	}
	switch path := c.path(); c.name {
	case "write":
		if strings.HasPrefix(c.args, "1<") {
			return o.durable("", "")
		}
		if o.ours(path) {
			o.dirty[path] = true
		}
	case "fsync":
		delete(o.dirty, path)
		for name, dir := range o.pending {
			if dir == path {
				delete(o.pending, name)
			}
		}
	case "syncfs":
		clear(o.dirty)
		clear(o.pending)
	case "unlinkat":
		delete(o.dirty, path)
		if o.ours(path) && !strings.HasPrefix(filepath.Base(path), ".tmp-") { // as something has taken its place
			return o.durable(o.store, "")
		}
	case "mkdirat":
		if o.ours(path) {
			o.pending[path] = filepath.Dir(path)
		}
	case "linkat", "renameat", "renameat2":
		return o.named(c.paths()[0], path)
	}
	return nil
}

// named is for a file that gets its name.
func (o *diskOrder) named(from, to string) error {
	if !o.ours(to) {
		return nil
	}
	if o.dirty[from] {
		return fmt.Errorf("%s gets its name before it is on disk", to)
	}
	state := filepath.Join(o.store, "state")
	if strings.HasPrefix(to, state) { // which refers to all else
		if err := o.durable(o.store, state); err != nil {
			return err
		}
	}
	if strings.HasPrefix(to, o.pins) {
		if err := o.durable(o.store, ""); err != nil {
			return err
		}
	}
	o.pending[to] = filepath.Dir(to)
	return nil
}

func (o *diskOrder) ours(path string) bool {
	return strings.HasPrefix(path, o.store+"/") || strings.HasPrefix(path, o.pins+"/")
}

// durable checks that all is on disk below a directory, but for what is below another one.
func (o *diskOrder) durable(below, except string) error {
	for path := range o.dirty {
		if strings.HasPrefix(path, below) && (except == "" || !strings.HasPrefix(path, except)) {
			return fmt.Errorf("%s was not synced", path)
		}
	}
	for path, dir := range o.pending {
		if strings.HasPrefix(path, below) && (except == "" || !strings.HasPrefix(path, except)) {
			return fmt.Errorf("the name of %s was not synced in %s", path, dir)
		}
	}
	return nil
}

// The check of the order finds what is too early, in a trace that is right but for one line.
func TestTheOrderIsChecked(t *testing.T) {
	const trace = `
7 mkdirat(8</s/store>, "keys", 0700) = 0
7 openat(8</s/store/keys>, ".tmp-A", O_WRONLY|O_CREAT|O_EXCL, 0600) = 9</s/store/keys/.tmp-A>
7 write(9</s/store/keys/.tmp-A>, "0\202", 2) = 2
7 fsync(9</s/store/keys/.tmp-A> <unfinished ...>
8 openat(AT_FDCWD</s>, "/lib", O_RDONLY) = 4</lib>
7 <... fsync resumed>) = 0
7 linkat(9</s/store/keys>, ".tmp-A", 10</s/store/keys>, "a.cms", 0) = 0
7 fsync(9</s/store/keys>) = 0
7 fsync(9</s/store>) = 0
7 write(9</s/store/state/0000000/.tmp-B>, "0\202", 2) = 2
7 fsync(9</s/store/state/0000000/.tmp-B>) = 0
7 linkat(9</s/store/state/0000000>, ".tmp-B", 10</s/store/state/0000000>, "001", 0) = 0
7 fsync(9</s/store/state/0000000>) = 0
7 write(9</s/.local/state/hsmkeys/pins/p/.tmp-C>, "hsmkeys-pin", 11) = 11
7 fsync(9</s/.local/state/hsmkeys/pins/p/.tmp-C>) = 0
7 renameat(AT_FDCWD</s>, "/s/.local/state/hsmkeys/pins/p/.tmp-C", AT_FDCWD</s>, "/s/.local/state/hsmkeys/pins/p/k") = 0
7 fsync(9</s/.local/state/hsmkeys/pins/p>) = 0
7 write(1<pipe:[9]>, "c@1 created", 11) = 11
`
	s := &faultSite{dir: "/s"}
	if err := s.checkOrder("store", parseTrace(trace)); err != nil {
		t.Errorf("what is right: %v", err)
	}
	failing := 0
	for line := range strings.Lines(trace) {
		if !strings.Contains(line, "fsync(") {
			continue
		}
		failing++
		broken := strings.Replace(trace, line, strings.NewReplacer("= 0", "= -1 EIO (Input/output error) (INJECTED)", "<unfinished ...>", "= -1 EIO").Replace(line), 1)
		if s.checkOrder("store", parseTrace(broken)) == nil {
			t.Errorf("nothing is found without\n%s", line)
		}
	}
	if failing != 7 {
		t.Errorf("%d lines were tried", failing)
	}
}
