package token

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/pkcs11"
)

// This file finds modules that nobody has named, as p11-kit does: pkcs11.conf(5).

// A ModuleConfig is a module that p11-kit knows on this machine.
type ModuleConfig struct {
	Name     string // of the configuration file, without ".module"
	Path     string // of the module, absolute
	Priority int    // the higher are looked at first

	// Err says why the configuration is of no use. Path is empty then.
	Err error
}

// program is our name in enable-in and disable-in.
const program = "hsmkeys"

// p11Kit is where p11-kit keeps its configuration. Its build decides on that; these
// are the places of the distributions.
type p11Kit struct {
	packages []string // directories of .module files that packages install
	system   []string // directories with pkcs11.conf and modules, the administrator's
	user     string   // the same of the user; empty: none
	modules  []string // directories that relative names of modules are relative to
}

func here() p11Kit {
	k := p11Kit{
		packages: []string{"/usr/share/p11-kit/modules", "/usr/local/share/p11-kit/modules", "/opt/homebrew/share/p11-kit/modules"},
		system:   []string{"/etc/pkcs11", "/usr/local/etc/pkcs11", "/opt/homebrew/etc/pkcs11"},
		modules: []string{"/usr/lib64/pkcs11", "/usr/lib/pkcs11", "/usr/local/lib/pkcs11", "/opt/homebrew/lib/pkcs11",
			"/run/current-system/sw/lib/pkcs11"},
	}
	if triplet := triplets[runtime.GOARCH]; triplet != "" { // another architecture's do not load
		k.modules = slices.Insert(k.modules, 0, "/usr/lib/"+triplet+"/pkcs11")
	}
	// As p11-kit: who runs a setuid program has no say in what it loads.
	if os.Getuid() == os.Geteuid() && os.Getgid() == os.Getegid() && os.Getenv("P11_KIT_NO_USER_CONFIG") == "" {
		if dir, err := os.UserConfigDir(); err == nil && runtime.GOOS != "darwin" {
			k.user = filepath.Join(dir, "pkcs11")
		} else if home, err := os.UserHomeDir(); err == nil {
			k.user = filepath.Join(home, ".config", "pkcs11")
		}
		if !filepath.IsAbs(k.user) {
			k.user = "" // the current directory may be anybody's
		}
	}
	return k
}

var triplets = map[string]string{
	"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf", "386": "i386-linux-gnu",
	"riscv64": "riscv64-linux-gnu", "ppc64le": "powerpc64le-linux-gnu", "s390x": "s390x-linux-gnu", "loong64": "loongarch64-linux-gnu",
}

// Modules tells what modules p11-kit knows for us, in its order: those of
// /usr/share/p11-kit/modules, of /etc/pkcs11/modules and of the user's
// ~/.config/pkcs11/modules, less what enable-in and disable-in keep from a program
// named "hsmkeys". Left out are also modules for trust policy and p11-kit's proxy:
// the former hold no keys, and the latter shows the others once more. Nothing is
// loaded, and whether the files are there is not looked at.
//
// One file that cannot be used is in the list with its Err. The error is for the
// configuration as a whole.
func Modules() ([]ModuleConfig, error) { return here().known() }

func (k p11Kit) known() ([]ModuleConfig, error) {
	mode, err := k.userConfig()
	if err != nil {
		return nil, &Error{Op: "read the configuration of p11-kit", Token: program, Kind: ErrModule, Err: err, hint: "name the module with --module"}
	}
	var directories []string // those that go before first
	if mode != "none" {
		directories = append(directories, filepath.Join(k.user, "modules"))
	}
	if mode != "only" {
		for _, dir := range k.system {
			directories = append(directories, filepath.Join(dir, "modules"))
		}
		directories = append(directories, k.packages...)
	}
	settings, broken := map[string]map[string]string{}, map[string]error{}
	for _, dir := range directories {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			broken[dir] = err
		}
		for _, entry := range entries {
			name, ok := strings.CutSuffix(entry.Name(), ".module")
			if !ok || name == "" {
				continue
			}
			path := filepath.Join(dir, entry.Name())
			file, err := readSettings(path)
			if err != nil {
				broken[path] = err
			}
			if settings[name] == nil {
				settings[name] = map[string]string{}
			}
			for key, value := range file { // a file of the same name fills in what is not set
				if _, ok := settings[name][key]; !ok {
					settings[name][key] = value
				}
			}
		}
	}
	var all []ModuleConfig
	for name, set := range settings {
		if m := k.module(name, set); m.Path != "" || m.Err != nil {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b ModuleConfig) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Name, b.Name))
	})
	for _, path := range slices.Sorted(maps.Keys(broken)) {
		all = append(all, ModuleConfig{Name: strings.TrimSuffix(filepath.Base(path), ".module"),
			Err: &Error{Op: "read the configuration", Token: path, Kind: ErrModule, Err: broken[path]}})
	}
	return all, nil
}

// userConfig is none, merge or only: whether the user's configuration counts.
func (k p11Kit) userConfig() (string, error) {
	mode := "merge"
	read := func(path string) error {
		set, err := readSettings(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", path, err)
		}
		switch value := set["user-config"]; value {
		case "":
		case "none", "merge", "only":
			mode = value
		case "override":
			mode = "only"
		default:
			return fmt.Errorf("%s: user-config is %q, not none, merge or only", path, value)
		}
		return nil
	}
	for _, dir := range slices.Backward(k.system) {
		if err := read(filepath.Join(dir, "pkcs11.conf")); err != nil {
			return "", err
		}
	}
	if mode == "none" || k.user == "" {
		return "none", nil
	}
	return mode, read(filepath.Join(k.user, "pkcs11.conf"))
}

// module reads one module's settings. It has no Path when the module is not for us.
func (k p11Kit) module(name string, set map[string]string) ModuleConfig {
	m := ModuleConfig{Name: name}
	listed := func(key string) bool {
		words := strings.FieldsFunc(set[key], func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
		return slices.Contains(words, program)
	}
	_, enabled := set["enable-in"]
	path := set["module"]
	switch {
	case path == "": // switched off by the user, or remote, which only p11-kit can talk to
		return m
	case enabled && !listed("enable-in"), !enabled && listed("disable-in"):
		return m
	case set["trust-policy"] == "yes", bare(path) == "p11-kit-proxy":
		return m
	}
	if p := set["priority"]; p != "" {
		n, err := strconv.Atoi(p)
		if err != nil {
			m.Err = &Error{Op: "read the configuration", Token: name + ".module", Kind: ErrModule, Err: fmt.Errorf("priority %q is not a number", p)}
			return m
		}
		m.Priority = n
	}
	m.Path = k.absolute(path)
	return m
}

// absolute finds a relative module in the first directory that has it.
func (k p11Kit) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	for _, dir := range k.modules {
		if full := filepath.Join(dir, path); isFile(full) {
			return full
		}
	}
	return filepath.Join(k.modules[0], path) // it fails to load, under this name
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// Configuration files are small; what is larger is none.
const (
	maxSettingsFile = 64 << 10 // bytes
	maxSettings     = 200
)

func readSettings(path string) (map[string]string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe must not wait
	if err != nil {
		return nil, errors.Unwrap(err) // the caller names the path
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSettingsFile+1))
	if err != nil {
		return nil, err
	}
	return parseSettings(data)
}

// parseSettings reads the format of pkcs11.conf(5): lines of "name: value", blank
// ones, and comments behind #. A name that is set twice is refused: which module
// it means must not depend on who reads it.
func parseSettings(data []byte) (map[string]string, error) {
	if len(data) > maxSettingsFile {
		return nil, fmt.Errorf("longer than %d bytes", maxSettingsFile)
	}
	set := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxSettingsFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.Trim(lines.Text(), " \t\r\v\f")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
		switch _, twice := set[name]; {
		case !ok || name == "" || strings.ContainsFunc(name, notInName):
			return nil, fmt.Errorf("line %d is not of the form name: value", n)
		case strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }):
			return nil, fmt.Errorf("line %d has a control character", n)
		case twice:
			return nil, fmt.Errorf("line %d sets %q a second time", n, name)
		case len(set) == maxSettings:
			return nil, fmt.Errorf("more than %d settings", maxSettings)
		}
		set[name] = value
	}
	return set, lines.Err()
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
}

// bare is a module's name as RFC 7512 §2.3 has it: without a directory, "lib" and
// the suffix.
func bare(path string) string {
	name := filepath.Base(path)
	if i := strings.LastIndex(name, ".so"); i > 0 && (i+3 == len(name) || name[i+3] == '.') { // libfoo.so.1 too
		name = name[:i]
	}
	for _, suffix := range []string{".dylib", ".dll"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return strings.TrimPrefix(name, "lib")
}

// ModuleNamed finds the module that a URI's module-name means: "softhsm2" for
// libsofthsm2.so, in any case (RFC 7512 §2.3). It looks at the modules that p11-kit
// knows and into p11-kit's directory of modules. Its error is [ErrModule], for two
// modules of that name too.
func ModuleNamed(name string) (string, error) { return here().named(name) }

func (k p11Kit) named(name string) (string, error) {
	fail := func(err error, hint string) (string, error) {
		return "", &Error{Op: "find the module of that name", Token: name, Kind: ErrModule, Err: err, hint: hint}
	}
	candidates, err := k.known()
	if err != nil {
		return "", err
	}
	for _, dir := range k.modules {
		entries, _ := os.ReadDir(dir) // those that are missing are the rule
		for _, entry := range entries {
			candidates = append(candidates, ModuleConfig{Path: filepath.Join(dir, entry.Name())})
		}
	}
	var match, names []string
	for _, m := range candidates {
		if m.Path == "" || !isFile(m.Path) {
			continue
		}
		names = append(names, bare(m.Path))
		if real := resolve(m.Path); strings.EqualFold(bare(m.Path), name) && !slices.Contains(match, real) {
			match = append(match, real)
		}
	}
	switch len(match) {
	case 1:
		return match[0], nil
	case 0:
		slices.Sort(names)
		known := strings.Join(slices.Compact(names), ", ")
		if known == "" {
			known = "none"
		}
		return fail(fs.ErrNotExist, "known are: "+known+"; any other is named by its path, with module-path or --module")
	default:
		return fail(errors.New("there is more than one"), "name one by its path: "+strings.Join(match, ", "))
	}
}

// answerWithin is how long a module may take to show its tokens. Some wait for a
// daemon or a network that is not there. List also tries what the tokens can do.
var answerWithin, listWithin = 10 * time.Second, time.Minute

// ListAll is [List] for every module. Those that fail do not stop the others: failed
// has an error for each, whose Token is the module's path. No module is asked twice,
// whatever its names.
//
// One that does not answer within a minute does stop the others: calls into a
// module cannot be taken back, and only one is made at a time. From then on the
// process can open no token, and should end.
func ListAll(ctx context.Context, modules []ModuleConfig) (all []Info, failed []error) {
	s := survey(ctx, modules, listWithin, List)
	return s.tokens, s.failed
}

// Find picks the one token, of all that the modules show, that the selector names.
// Its Info has the module. A token that two modules show is ambiguous too: which one
// is meant, only the caller can say. As with ListAll, a module that does not answer
// stops it, here within 10 seconds. Its errors are [ErrNotFound], [ErrAmbiguous] and
// [ErrModule].
func Find(ctx context.Context, modules []ModuleConfig, sel Selector) (Info, error) {
	began := time.Now()
	for try := 1; ; try++ {
		info, err := survey(ctx, modules, answerWithin, seen).pick(ctx, sel)
		// As in attach: SoftHSM hides a token that another process is logging in to.
		if try == attachTries || !errors.Is(err, ErrNotFound) || time.Since(began) > time.Second {
			return info, err
		}
		time.Sleep(attachPause)
	}
}

// surveyed is what was seen in the modules.
type surveyed struct {
	tokens []Info
	failed []error
	looked []string // modules that answered
	hung   error
}

// seen is what a module shows, as [find] looks at it: no token is tried that is only
// passed by.
func seen(module string) (all []Info, err error) {
	librariesMu.Lock()
	defer librariesMu.Unlock()
	err = visit(module, func(ctx *pkcs11.Ctx) error {
		all, err = tokens(ctx, module)
		return err
	})
	return all, err
}

func survey(ctx context.Context, modules []ModuleConfig, within time.Duration, list func(module string) ([]Info, error)) surveyed {
	var s surveyed
	done := map[string]bool{}
	for _, m := range modules {
		path := resolve(m.Path)
		if m.Err != nil {
			s.failed = append(s.failed, m.Err)
			continue
		}
		if done[path] || ctx.Err() != nil {
			continue
		}
		done[path] = true
		found, err, answered := ask(ctx, path, within, list)
		switch {
		case !answered:
			s.hung = err
			s.failed = append(s.failed, err)
			return s
		case err != nil:
			s.failed = append(s.failed, err)
		default:
			s.looked = append(s.looked, path)
			s.tokens = append(s.tokens, found...)
		}
	}
	return s
}

// ask leaves a module alone that does not answer.
func ask(ctx context.Context, path string, within time.Duration, list func(string) ([]Info, error)) (_ []Info, _ error, answered bool) {
	type answer struct {
		tokens []Info
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		found, err := list(path)
		done <- answer{found, err}
	}()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case a := <-done:
		return a.tokens, a.err, true
	case <-ctx.Done():
		return nil, ctx.Err(), false
	case <-timer.C:
		return nil, &Error{Op: "list its tokens", Token: path, Kind: ErrModule, Err: fmt.Errorf("no answer within %v", within),
			hint: "name the module you want with --module, or write disable-in: " + program + " into this one's configuration for p11-kit"}, false
	}
}

// pick is [find] over all modules.
func (s surveyed) pick(ctx context.Context, sel Selector) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	if s.hung != nil {
		return Info{}, s.hung
	}
	var match []Info
	have := map[string][]string{}
	for _, info := range s.tokens {
		if !info.Initialized {
			continue
		}
		have[info.Module] = append(have[info.Module], fmt.Sprintf("%q", info.Label))
		if sel.matches(info) {
			match = append(match, info)
		}
	}
	const op = "find the token in the modules that p11-kit knows"
	switch len(match) {
	case 1:
		return match[0], nil
	case 0:
		var looked []string
		for _, path := range s.looked {
			tokens := strings.Join(have[path], ", ")
			if tokens == "" {
				tokens = "no token"
			}
			looked = append(looked, fmt.Sprintf("%s (%s)", path, tokens))
		}
		for _, err := range s.failed {
			looked = append(looked, err.Error())
		}
		if looked == nil {
			looked = []string{"p11-kit knows no module"}
		}
		return Info{}, &Error{Op: op, Token: sel.String(), Kind: ErrNotFound,
			hint: "looked at: " + strings.Join(looked, "; ") + "; another module is named with --module"}
	default:
		var serials []string
		for _, info := range match {
			serials = append(serials, fmt.Sprintf("pkcs11:serial=%s?module-path=%s (%q, slot %d)",
				url.PathEscape(info.Serial), escapePath(info.Module), info.Label, info.Slot))
		}
		return Info{}, &Error{Op: op, Token: sel.String(), Kind: ErrAmbiguous,
			hint: "name one by its serial and module: " + strings.Join(serials, ", ")}
	}
}

// escapePath makes a path the value of a query attribute (RFC 7512 §2.3).
func escapePath(path string) string {
	return strings.NewReplacer("%2F", "/", "&", "%26").Replace(url.PathEscape(path))
}
