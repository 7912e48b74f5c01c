package doctor

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/cmd/internal/trial"
	"github.com/hsmkeys/hsmkeys/token"
)

// modulePath returns the module that the options name, even if other options are wrong, or "".
func (d *doctor) modulePath() (string, error) {
	sel, module, err := d.s.Selector()
	clear(sel.PINValue)
	if err != nil && d.s.Module != "" {
		return d.s.Module, nil // what is wrong with --token, its own check says
	}
	return module, err
}

// findModules looks for modules where systems have them.
var findModules = map[bool]string{
	false: `find /usr/lib* /usr/local/lib* -name 'libsofthsm2.so' -o -name '*pkcs11*.so'`,
	true:  `where /R "%ProgramFiles%" *pkcs11*.dll`,
}[runtime.GOOS == "windows"]

// modules loads the module that is named, or all that p11-kit knows. It returns their paths, and
// reports whether one of them is usable.
func (d *doctor) modules() (paths []string, usable bool) {
	path, err := d.modulePath()
	if err != nil {
		d.fail("module", findModules, "%v", err)
		return nil, false
	}
	if path != "" {
		return []string{path}, d.module(d.fail, path)
	}
	known, err := d.s.Modules()
	if err != nil {
		d.failure("module", findModules, err)
		return nil, false
	}
	token.ListAll(d.ctx, known, d.try) // all at a time
	for _, m := range known {
		if m.Err != nil {
			continue // the check of p11-kit says so
		}
		paths = append(paths, m.Path)
		if d.module(d.warn, m.Path) { // the others do without it
			usable = true
		}
	}
	if !usable {
		d.fail("module", findModules, "no module is named with --module or HSMKEYS_MODULE, and of those that p11-kit knows none loads")
	}
	return paths, usable
}

// triedModule is the result of a trial and its error.
type triedModule struct {
	trial.Result
	err error
}

// try tries a module, once. It is a [token.Lister].
func (d *doctor) try(ctx context.Context, path string) ([]token.Info, error) {
	t := d.tried(ctx, path)
	return t.Tokens, t.err
}

func (d *doctor) tried(ctx context.Context, path string) triedModule {
	if real, err := filepath.EvalSymlinks(path); err == nil && strings.ContainsRune(path, filepath.Separator) {
		path = real
	}
	if t, ok := d.trials.Load(path); ok {
		return t.(triedModule)
	}
	var t triedModule
	t.Result, t.err = trial.Run(ctx, trial.Everything, path, d.s.ModuleTimeout)
	d.trials.Store(path, t)
	return t
}

// module checks one module, and reports whether it is usable.
func (d *doctor) module(bad func(check, mend, what string, args ...any), path string) bool {
	tried := d.tried(d.ctx, path)
	info, err := tried.Module, tried.err
	if err != nil {
		what, mend := err.Error(), ""
		if strings.Contains(what, "load the module") {
			mend = "ldd " + text.ShellQuote(path) // a library that it needs may be missing
		}
		if reason := notLoadable(path); reason != nil {
			what, mend = fmt.Sprintf("module %q does not load: %v", path, reason), findModules
		}
		bad("module", mend, "%s", what)
		return false
	}
	d.ok("module", "%s: %s %s of %s, Cryptoki %s", text.Printable(info.Path), text.Printable(info.Description), info.Version, text.Printable(info.Manufacturer), info.Cryptoki)
	return true
}

// machines are the ELF machines of the processors for which this program is likely to be built.
var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "386": elf.EM_386, "arm64": elf.EM_AARCH64, "arm": elf.EM_ARM,
	"ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390, "riscv64": elf.EM_RISCV,
}

// notLoadable returns why a module does not load, as far as its file tells, or nil. The dynamic
// loader looks for a name without a slash.
func notLoadable(path string) error {
	if !strings.ContainsRune(path, filepath.Separator) {
		return nil
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no such file")
	}
	if runtime.GOOS == "darwin" {
		return nil // libraries are no ELF files there
	}
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("it is not a library: %w", err)
	}
	defer f.Close()
	ours, bits := 64, 32
	if f.Class == elf.ELFCLASS64 {
		bits = 64
	}
	if ^uint(0)>>32 == 0 {
		ours = 32
	}
	switch {
	case bits != ours:
		return fmt.Errorf("it has %d bits, this program has %d; the vendor has the other one too", bits, ours)
	case machines[runtime.GOARCH] != 0 && f.Machine != machines[runtime.GOARCH]:
		return fmt.Errorf("it is for another processor, %v", f.Machine)
	case f.Type != elf.ET_DYN:
		return fmt.Errorf("it is not a shared library but %v", f.Type)
	}
	symbols, err := f.DynamicSymbols()
	if err == nil && !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == "C_GetFunctionList" && s.Section != elf.SHN_UNDEF }) {
		return errors.New("it is a library, and not one of PKCS #11: it has no C_GetFunctionList")
	}
	return nil
}

// imports returns the libraries that a module needs, or nil if it cannot be read.
func imports(module string) []string {
	f, err := elf.Open(module)
	if err != nil {
		return nil
	}
	defer f.Close()
	all, _ := f.ImportedLibraries()
	return all
}

// p11kit reports the modules that p11-kit knows. They are used if none is named.
func (d *doctor) p11kit() {
	const mend = "p11-kit list-modules"
	known, err := token.Modules()
	if err != nil {
		d.failure("p11-kit", mend, err)
		return
	}
	var names []string
	for _, m := range known {
		if m.Err != nil {
			d.warn("p11-kit", mend, "its module %s cannot be used: %v", text.Printable(m.Name), m.Err)
			continue
		}
		names = append(names, m.Name)
	}
	if len(names) == 0 {
		d.ok("p11-kit", "it knows no module; a module that is named does without it")
		return
	}
	d.ok("p11-kit", "it knows %s", text.Printable(strings.Join(names, ", ")))
}

// pcscd looks for the smart card service if a module talks to card readers.
func (d *doctor) pcscd(modules []string) {
	socket := os.Getenv("PCSCLITE_CSOCK_NAME")
	if socket == "" {
		socket = "/run/pcscd/pcscd.comm"
	}
	info, err := os.Stat(socket)
	there := err == nil && info.Mode().Type() == fs.ModeSocket
	switch needed := slices.ContainsFunc(modules, needsReaders); {
	case there:
		d.ok("pcscd", "its socket is at %s", text.Printable(socket))
	case needed:
		d.warn("pcscd", "systemctl enable --now pcscd.socket", "it does not run, there is no socket at %s: modules for smart cards find no card without it", text.Printable(socket))
	default:
		d.ok("pcscd", "it does not run; only modules for smart cards need it")
	}
}

// needsReaders reports whether a module is known to talk to card readers. OpenSC loads the library
// for that only at run time.
func needsReaders(module string) bool {
	name := filepath.Base(module)
	return strings.Contains(name, "opensc") || strings.Contains(name, "ykcs11") ||
		slices.ContainsFunc(imports(module), func(s string) bool { return strings.HasPrefix(s, "libpcsclite") })
}

// tokens checks every token of the module, without a PIN.
func (d *doctor) tokens() []token.Info {
	sel, module, err := d.s.Selector()
	if err != nil {
		d.fail("token", "", "%v", err)
		return nil
	}
	clear(sel.PINValue)
	var all []token.Info
	if module != "" {
		all, err = d.try(d.ctx, module)
	} else if known, e := d.s.Modules(); e != nil {
		err = e
	} else {
		all, _ = token.ListAll(d.ctx, known, d.try) // of those that fail the check of the modules tells
	}
	if err != nil {
		d.failure("token", "", err)
		return nil
	}
	var initialised []token.Info
	for _, t := range all {
		if t.Problem != "" {
			d.warn("token", "", "the one in slot %d of module %s cannot be used: %s", t.Slot, text.Printable(t.Module), t.Problem)
		}
		if !t.Initialized || t.Problem != "" {
			continue
		}
		initialised = append(initialised, t)
		d.flags(t, sel.Matches(t))
		d.abilities(t, sel.Matches(t))
		d.legacy(t)
		if sel.Matches(t) {
			d.softHSM(t)
		}
	}
	if len(initialised) == 0 {
		d.fail("token", "hsmkeys token init LABEL", "the module has no initialised token, in %s", text.Plural(len(all), "slot with a token", "slots with a token"))
	}
	return initialised
}

// flags reports what the token's flags mean for its PIN. They can be a failure only for the token
// that is used.
func (d *doctor) flags(t token.Info, used bool) {
	bad := d.warn
	if used {
		bad = d.fail
	}
	name := fmt.Sprintf("token %s, serial %s", text.Printable(t.Label), text.Printable(t.Serial))
	newPIN := "pkcs11-tool --module " + text.ShellQuote(t.Module) + " --token-label " + text.ShellQuote(t.Label) + " --login --login-type so --init-pin"
	switch p := t.PIN; {
	case !p.Initialized && !used: // some modules show one that nobody logs in to, for operations without a key
		d.ok("token", "%s: no user PIN has been set", name)
	case !p.Initialized:
		bad("token", newPIN, "%s: no user PIN has been set", name)
	case p.Locked:
		bad("token", newPIN, "%s: the PIN is locked, the security officer sets a new one", name)
	case p.FinalTry && d.s.FinalTry:
		d.warn("token", "", "%s: one more wrong PIN locks it, and it is tried because of --final-try", name)
	case p.FinalTry:
		bad("token", "hsmkeys --final-try doctor", "%s: one more wrong PIN locks it, so none is tried unless you are sure and say so", name)
	case p.CountLow:
		d.warn("token", "", "%s: a wrong PIN was entered since the last login; the right one sets that back", name)
	case p.ToBeChanged:
		d.warn("token", "pkcs11-tool --module "+text.ShellQuote(t.Module)+" --token-label "+text.ShellQuote(t.Label)+" --login --change-pin", "%s: the PIN must be changed", name)
	default:
		d.ok("token", "%s: %s, firmware %s, PIN %s", name, text.Printable(strings.TrimSpace(t.Manufacturer+" "+t.Model)), t.Firmware, show.PINState(t))
	}
}

// abilities reports what the token can do, and what that means for session keys.
func (d *doctor) abilities(t token.Info, used bool) {
	name := "token " + text.Printable(t.Label)
	if t.Probe.Leaks {
		bad := d.warn
		if used && d.s.RequireToken {
			bad = d.fail
		}
		bad("abilities", "", "%s reveals the value of a sensitive key: session keys on it are no safer than in memory, and --require-token refuses it; hsmkeys token list shows which other tokens keep it", name)
		return
	}
	rsa := t.Mechanisms.WrapRSA || t.Mechanisms.DecryptRSA
	ec := t.Mechanisms.DeriveECDH && t.Mechanisms.SignECDSA
	switch {
	case !rsa && !ec:
		bad := d.warn
		if used {
			bad = d.fail
		}
		bad("abilities", "", "%s neither unwraps with RSA-OAEP nor agrees on keys with ECDH: it cannot hold a key exchange pair", name)
	case t.Probe.Why != "":
		d.ok("abilities", "%s: %s; not tried, %s", name, show.Can(t.Mechanisms), text.Line(t.Probe.Why))
	case t.Mechanisms.WrapRSA && !t.Probe.Unwraps:
		d.warn("abilities", "", "%s: %s; when tried, it does not unwrap with RSA-OAEP, although it claims to", name, show.Can(t.Mechanisms))
	default:
		d.ok("abilities", "%s: %s; tried: %s", name, show.Can(t.Mechanisms), show.Tried(t.Probe))
	}
}

// legacy reports the pairs that are too weak for anything new.
func (d *doctor) legacy(t token.Info) {
	for _, key := range t.Legacy {
		d.ok("legacy", "token %s: %s", text.Printable(t.Label), show.Legacy(key))
	}
}
