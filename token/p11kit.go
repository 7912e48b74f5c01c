package token

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// This file finds modules through the configuration of p11-kit, pkcs11.conf(5).

// A ModuleConfig is a module that p11-kit is configured with on this machine.
type ModuleConfig struct {
	Name     string // of the configuration file, without ".module"
	Path     string // of the module, absolute
	Priority int    // higher ones come first

	// Err is why the configuration cannot be used. Path is empty then.
	Err error
}

// program is the name of this program in enable-in and disable-in.
const program = "hsmkeys"

// p11Kit is where p11-kit keeps its configuration. Its build decides on that; these are the
// directories of the distributions.
type p11Kit struct {
	packages []string // directories of .module files that packages install
	system   []string // directories with pkcs11.conf and modules, the administrator's
	user     string   // the user's; empty for none
	modules  []string // directories that relative names of modules are relative to
}

func systemP11Kit() p11Kit {
	k := p11Kit{
		packages: []string{"/usr/share/p11-kit/modules", "/usr/local/share/p11-kit/modules", "/opt/homebrew/share/p11-kit/modules"},
		system:   []string{"/etc/pkcs11", "/usr/local/etc/pkcs11", "/opt/homebrew/etc/pkcs11"},
		modules: []string{"/usr/lib64/pkcs11", "/usr/lib/pkcs11", "/usr/local/lib/pkcs11", "/opt/homebrew/lib/pkcs11",
			"/run/current-system/sw/lib/pkcs11"},
	}
	if triplet := triplets[runtime.GOARCH]; triplet != "" { // another architecture's do not load
		k.modules = slices.Insert(k.modules, 0, "/usr/lib/"+triplet+"/pkcs11")
	}
	// Like p11-kit: the user of a setuid program has no say in what it loads.
	if os.Getuid() == os.Geteuid() && os.Getgid() == os.Getegid() && os.Getenv("P11_KIT_NO_USER_CONFIG") == "" {
		if dir, err := os.UserConfigDir(); err == nil && runtime.GOOS != "darwin" {
			k.user = filepath.Join(dir, "pkcs11")
		} else if home, err := os.UserHomeDir(); err == nil {
			k.user = filepath.Join(home, ".config", "pkcs11")
		}
		if !filepath.IsAbs(k.user) {
			k.user = "" // the working directory may be anybody's
		}
	}
	return k
}

var triplets = map[string]string{
	"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf", "386": "i386-linux-gnu",
	"riscv64": "riscv64-linux-gnu", "ppc64le": "powerpc64le-linux-gnu", "s390x": "s390x-linux-gnu", "loong64": "loongarch64-linux-gnu",
}

// Modules returns the modules that p11-kit is configured with for a program named "hsmkeys", in
// p11-kit's order: those of /usr/share/p11-kit/modules, of /etc/pkcs11/modules and of the user's
// ~/.config/pkcs11/modules, except where enable-in and disable-in exclude it. Modules for trust
// policy and p11-kit's proxy are left out as well: the former hold no keys, and the latter shows
// the others again. Nothing is loaded, and the files need not exist.
//
// A configuration file that cannot be used is in the list with its Err. The error is about the
// configuration as a whole.
func Modules() ([]ModuleConfig, error) { return systemP11Kit().known() }

func (k p11Kit) known() ([]ModuleConfig, error) {
	mode, err := k.userConfig()
	if err != nil {
		return nil, &Error{Op: "read the configuration of p11-kit", Kind: ErrModule, Err: err, Facts: ErrModuleSettings}
	}
	var directories []string // in the order of their precedence
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
			for key, value := range file { // a later file of the same name only fills in what is not set
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

// userConfig returns "none", "merge" or "only": whether the user's configuration counts.
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

// module returns one module from its settings. It has no Path if the module is not for this
// program.
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

// absolute returns the path of a module, which for a relative one is in the first directory that
// has it.
func (k p11Kit) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	for _, dir := range k.modules {
		if full := filepath.Join(dir, path); isFile(full) {
			return full
		}
	}
	return filepath.Join(k.modules[0], path) // loading it fails, with this path
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// bare returns a module's name as in RFC 7512 §2.3: without the directory, "lib" and the suffix.
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

// ModuleNamed returns the path of the module that a URI's module-name means: "softhsm2" for
// libsofthsm2.so, in any case (RFC 7512 §2.3). It searches the modules that p11-kit is configured
// with and p11-kit's directories of modules. The error is [ErrModule], also if two modules have
// the name.
func ModuleNamed(name string) (string, error) { return systemP11Kit().named(name) }

func (k p11Kit) named(name string) (string, error) {
	fail := func(err error, facts *ModulesNamed) (string, error) {
		return "", &Error{Op: "find the module of that name", Token: name, Kind: ErrModule, Err: err, Facts: facts}
	}
	candidates, err := k.known()
	if err != nil {
		return "", err
	}
	for _, dir := range k.modules {
		entries, _ := os.ReadDir(dir) // most of them do not exist
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
		return fail(fs.ErrNotExist, &ModulesNamed{Known: slices.Compact(names)})
	}
	return fail(errors.New("there is more than one"), &ModulesNamed{Paths: match})
}
