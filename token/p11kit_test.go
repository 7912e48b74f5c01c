package token

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// kit is a p11-kit with a configuration of its own: files by their path below it.
func kit(t *testing.T, files map[string]string) p11Kit {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	below := func(name string) string { return filepath.Join(dir, name) }
	return p11Kit{packages: []string{below("package")}, system: []string{below("etc")}, user: below("user"),
		modules: []string{below("lib"), below("local")}}
}

// names are the names of modules in their order, those with an error in brackets.
func names(modules []ModuleConfig) string {
	var all []string
	for _, m := range modules {
		if m.Err != nil {
			m.Name = "(" + m.Name + ")"
		}
		all = append(all, m.Name)
	}
	return strings.Join(all, " ")
}

func TestModules(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing is configured", nil, ""},
		{"modules come by name", map[string]string{"package/b.module": "module: /b.so", "etc/modules/a.module": "module: /a.so", "user/modules/c.module": "module:/c.so"}, "a b c"},
		{"a higher priority goes before", map[string]string{"package/a.module": "module: /a.so", "package/b.module": "priority: 2\nmodule: /b.so", "package/c.module": "module: /c.so\npriority:-1"}, "b a c"},
		{"other files are nothing to us", map[string]string{"package/a.module~": "x", "package/.module": "x", "package/README": "x", "package/d.module/x": "x"}, "(d)"},
		{"trust policy holds no keys", map[string]string{"package/a.module": "module: /a.so\ntrust-policy: yes", "package/b.module": "module: /b.so\ntrust-policy: no"}, "b"},
		{"the proxy shows others once more", map[string]string{"package/a.module": "module: /lib/p11-kit-proxy.so"}, ""},
		{"enable-in is for those it names", map[string]string{"package/a.module": "module: /a.so\nenable-in: ssh, hsmkeys", "package/b.module": "module: /b.so\nenable-in: ssh hsmkeys2", "package/c.module": "module: /c.so\nenable-in:"}, "a"},
		{"disable-in is for those it names", map[string]string{"package/a.module": "module: /a.so\ndisable-in: ssh hsmkeys", "package/b.module": "module: /b.so\ndisable-in: ssh"}, "b"},
		{"a remote module is p11-kit's own business", map[string]string{"package/a.module": "remote: |ssh x"}, ""},
		{"the user switches one off", map[string]string{"package/a.module": "module: /a.so", "user/modules/a.module": "module:"}, ""},
		{"the user adds to one", map[string]string{"package/a.module": "module: /a.so", "package/b.module": "module: /b.so", "user/modules/b.module": "priority: 1"}, "b a"},
		{"the user's alone count", map[string]string{"package/a.module": "module: /a.so", "user/modules/b.module": "module: /b.so", "user/pkcs11.conf": "user-config: only"}, "b"},
		{"the user's do not count", map[string]string{"package/a.module": "module: /a.so", "user/modules/b.module": "module: /b.so", "etc/pkcs11.conf": "user-config: none"}, "a"},
		{"the user cannot lift that", map[string]string{"user/modules/b.module": "module: /b.so", "etc/pkcs11.conf": "user-config: none", "user/pkcs11.conf": "user-config: only"}, ""},
		{"the user wants none of the own", map[string]string{"package/a.module": "module: /a.so", "user/modules/b.module": "module: /b.so", "user/pkcs11.conf": "user-config: none"}, "a"},
		{"a broken file does not stop the others", map[string]string{"package/a.module": "module /a.so", "package/b.module": "module: /b.so", "etc/modules/c.module": "priority: x\nmodule: /c.so"}, "b (c) (a)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := kit(t, tt.files).known()
			if err != nil || names(got) != tt.want {
				t.Errorf("%q, %v; want %q", names(got), err, tt.want)
			}
			for _, m := range got {
				if (m.Err == nil) != filepath.IsAbs(m.Path) || m.Err != nil && !errors.Is(m.Err, ErrModule) {
					t.Errorf("%+v", m)
				}
			}
		})
	}
	for name, files := range map[string]map[string]string{
		"of an unknown word": {"etc/pkcs11.conf": "user-config: perhaps"}, "that is none": {"user/pkcs11.conf": "?"},
	} {
		t.Run("a global configuration "+name+" is not guessed at", func(t *testing.T) {
			_, err := kit(t, files).known()
			want(t, err, ErrModule, "pkcs11.conf")
		})
	}
}

func TestRelativeModules(t *testing.T) {
	k := kit(t, map[string]string{"package/a.module": "module: a.so", "package/b.module": "module: b.so", "package/c.module": "module: c.so",
		"lib/a.so": "", "local/a.so": "", "local/b.so": ""})
	got, err := k.known()
	if err != nil || len(got) != 3 {
		t.Fatal(got, err)
	}
	for i, path := range []string{filepath.Join(k.modules[0], "a.so"), filepath.Join(k.modules[1], "b.so"), filepath.Join(k.modules[0], "c.so")} {
		if got[i].Path != path {
			t.Errorf("module %d is %s, want %s", i, got[i].Path, path)
		}
	}
}

// The directories of the machine that runs the tests, whatever they contain.
func TestModulesHere(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	all, err := Modules()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.Err == nil && !filepath.IsAbs(m.Path) || strings.Contains(m.Path, "p11-kit-trust") {
			t.Errorf("%+v", m)
		}
	}
}

func TestModuleNamed(t *testing.T) {
	k := kit(t, map[string]string{
		"package/x.module": "module: /nonexistent/libgone.so", "etc/modules/y.module": "module: libdeep.so.2",
		"lib/libsoft.so": "", "lib/my.sound.so": "", "lib/opensc-pkcs11.so": "", "lib/libdeep.so.2": "", "lib/twice.so": "", "local/libtwice.so": "",
	})
	for in, file := range map[string]string{
		"soft": "libsoft.so", "SOFT": "libsoft.so", "opensc-pkcs11": "opensc-pkcs11.so", "deep": "libdeep.so.2", "my.sound": "my.sound.so",
	} {
		got, err := k.named(in)
		if err != nil || filepath.Base(got) != file {
			t.Errorf("%q is %q, %v; want %s", in, got, err, file)
		}
	}
	for in, says := range map[string]string{
		"libsoft": "does not exist", "soft.so": "does not exist", "gone": "does not exist", "x": "does not exist", "": "does not exist",
		"twice": "more than one",
	} {
		_, err := k.named(in)
		want(t, err, ErrModule, says)
		var facts *ModulesNamed
		if !errors.As(err, &facts) || !slices.Contains(facts.Known, "soft") && len(facts.Paths) != 2 {
			t.Errorf("known are %+v", facts)
		}
	}
	if err := os.Symlink("twice.so", filepath.Join(k.modules[0], "libtwice2.so")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("libtwice2.so", filepath.Join(k.modules[0], "twice2.so")); err != nil {
		t.Fatal(err)
	}
	if _, err := k.named("twice2"); err != nil {
		t.Errorf("one file under two names is two: %v", err)
	}
}

// secondModule returns the path of a copy of SoftHSM's module, which shows the same tokens.
func secondModule(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(env.Module())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "second.so")
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	ctx := context.Background()
	st := newToken(t)
	newToken(t)
	soft := ModuleConfig{Name: "soft", Path: env.Module()}
	gone := ModuleConfig{Name: "gone", Path: "/nonexistent/gone.so"}
	broken := ModuleConfig{Name: "broken", Err: &Error{Op: "read the configuration", Token: "/b.module", Kind: ErrModule}}
	link := filepath.Join(t.TempDir(), "link.so")
	if err := os.Symlink(env.Module(), link); err != nil {
		t.Fatal(err)
	}
	again := ModuleConfig{Name: "again", Path: link}

	info, err := Find(ctx, []ModuleConfig{gone, broken, soft, soft, again}, Selector{Serial: st.Serial}, nil)
	if err != nil || info.Serial != st.Serial || info.Module != resolve(env.Module()) {
		t.Errorf("found %+v, %v", info, err)
	}
	// What was found can be opened there.
	tok, err := Open(ctx, Config{Module: info.Module, Token: Selector{Serial: st.Serial}, PIN: pin(st.PIN)})
	if err != nil {
		t.Fatal(err)
	}
	if info, err = Find(ctx, []ModuleConfig{soft}, Selector{Serial: st.Serial}, nil); err != nil || info.Serial != st.Serial {
		t.Errorf("beside an open token: %+v, %v", info, err)
	}
	if err := tok.Close(); err != nil {
		t.Error(err)
	}

	_, err = Find(ctx, []ModuleConfig{gone, broken, soft}, Selector{Label: "nope"}, nil)
	want(t, err, ErrNoToken, `"nope"`)
	for _, text := range []string{env.Module()[strings.LastIndex(env.Module(), "/"):], st.Label, gone.Path, "/b.module"} {
		if got := facts(t, err); !strings.Contains(got, text) {
			t.Errorf("%q does not say %q", got, text)
		}
	}
	_, err = Find(ctx, nil, Selector{}, nil)
	want(t, err, ErrNoToken)
	_, err = Find(ctx, []ModuleConfig{soft}, Selector{}, nil)
	want(t, err, ErrAmbiguous)

	second := ModuleConfig{Name: "second", Path: secondModule(t)}
	_, err = Find(ctx, []ModuleConfig{soft, second}, Selector{Serial: st.Serial}, nil)
	want(t, err, ErrAmbiguous)
	var found *TokensFound
	if !errors.As(err, &found) || len(found.Tokens) != 2 || !found.Searched {
		t.Fatalf("found %+v", found)
	}
	for i, module := range []string{env.Module(), second.Path} {
		if got := found.Tokens[i]; got.Serial != st.Serial || got.Module != resolve(module) {
			t.Errorf("found %+v, want that in %s", got, module)
		}
	}
	all, failed := ListAll(ctx, []ModuleConfig{gone, soft, second, broken, again}, nil)
	if len(failed) != 2 || !errors.Is(failed[0], ErrModule) || !errors.Is(failed[1], ErrModule) {
		t.Errorf("failed are %v", failed)
	}
	count := map[string]int{}
	for _, info := range all {
		if info.Serial == st.Serial {
			count[info.Module]++
		}
	}
	if !reflect.DeepEqual(count, map[string]int{resolve(env.Module()): 1, second.Path: 1}) {
		t.Errorf("the token was seen %v", count)
	}

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = Find(cancelled, []ModuleConfig{soft}, Selector{Serial: st.Serial}, nil)
	want(t, err, context.Canceled)
}

// A module that takes very long to load, as if it waited for a daemon.
func TestFindDoesNotWait(t *testing.T) {
	dir := t.TempDir()
	source, slow := filepath.Join(dir, "slow.c"), filepath.Join(dir, "slow.so")
	// It loads as soon as the FIFO is opened.
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	code := fmt.Sprintf("#include <fcntl.h>\n__attribute__((constructor)) static void wait(void) { open(%q, O_RDONLY); }\n", fifo)
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", slow, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before := answerTimeout
	answerTimeout = 100 * time.Millisecond
	defer func() { answerTimeout = before }()
	_, err := Find(context.Background(), []ModuleConfig{{Path: slow}, {Path: env.Module()}}, Selector{Label: "x"}, nil)
	want(t, err, ErrModule, slow, "no answer within 100ms")
	if !errors.Is(err, ErrNoAnswer) {
		t.Errorf("%v is no ErrNoAnswer", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = Find(ctx, []ModuleConfig{{Path: env.Module()}}, Selector{Label: "x"}, nil)
	want(t, err, context.DeadlineExceeded)
	release, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer release.Close()
	_, _ = List(env.Module()) // waits for the slow one
}

func TestParseSettings(t *testing.T) {
	got, err := parseSettings([]byte("# comment\r\n\n  module :  a b.so  \nx-a.b_c:\n\tpriority:\t1\nremote: |ssh a:b # c"))
	if want := map[string]string{"module": "a b.so", "x-a.b_c": "", "priority": "1", "remote": "|ssh a:b # c"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for name, text := range map[string]string{
		"a line without a colon": "module a.so", "a line without a name": ": a.so", "a name with a blank": "mod ule: a", "a section": "[module]\n",
		"a name twice": "module: a\nmodule: b", "a control character": "module: a\x00b", "an escape sequence": "module: \x1b[2J",
		"too much": strings.Repeat("#\n", maxSettingsFile), "one long line": "a:" + strings.Repeat("a", maxSettingsFile),
		"too many": many(maxSettings + 1),
	} {
		if got, err := parseSettings([]byte(text)); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// many are n settings.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat("a", i+1) + ":\n")
	}
	return b.String()
}

func FuzzParseSettings(f *testing.F) {
	for _, seed := range []string{
		"", "# opensc\nmodule: opensc-pkcs11.so\n", "module:/a.so\r\ncritical: no\n", "module: p11-kit-trust.so\npriority: 1\ntrust-policy: yes\nx-init-reserved:\n",
		"enable-in: ssh,hsmkeys\n", "remote: |ssh user@host p11-kit remote /m.so", "user-config: only", "a:b\na:c", ":", "a\x00:b", "[s]", "a:\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := parseSettings(data)
		if err != nil {
			if set != nil {
				t.Errorf("%q comes with %v", set, err)
			}
			return
		}
		if len(set) > maxSettings {
			t.Errorf("%d settings", len(set))
		}
		var again strings.Builder
		for name, value := range set {
			if name == "" || strings.ContainsAny(name+value, "\n\x00\x1b") || strings.TrimSpace(name) != name {
				t.Errorf("setting %q: %q", name, value)
			}
			again.WriteString(name + ": " + value + "\n")
		}
		if back, err := parseSettings([]byte(again.String())); again.Len() <= maxSettingsFile && (err != nil || !reflect.DeepEqual(back, set)) {
			t.Errorf("%q is read back as %q, %v", set, back, err)
		}
		// Whatever the settings, a module that is returned has an absolute path.
		if m := (p11Kit{modules: []string{"/lib"}}).module("m", set); m.Path != "" && !filepath.IsAbs(m.Path) {
			t.Errorf("path %q", m.Path)
		}
	})
}

// The file of a module names a library that is loaded: a file that others can write is reported and
// not used.
func TestModulesOfOthersAreNotFollowed(t *testing.T) {
	k := kit(t, map[string]string{"package/a.module": "module: /a.so", "user/modules/b.module": "module: /b.so", "user/modules/c.module": "module: /c.so"})
	writable := filepath.Join(k.user, "modules", "b.module")
	if err := os.Chmod(writable, 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := k.known()
	if err != nil || names(got) != "a c (b)" || !errors.Is(got[2].Err, ownfile.ErrForeign) {
		t.Errorf("%s, %v", names(got), err)
	}
	if err := os.Chmod(filepath.Join(k.user, "modules"), 0o777); err != nil {
		t.Fatal(err)
	}
	if got, err = k.known(); err != nil || names(got) != "a (b) (c)" {
		t.Errorf("in a directory that anybody can write to: %s, %v", names(got), err)
	}
	k = kit(t, map[string]string{"user/modules/b.module": "module: /b.so", "user/pkcs11.conf": "user-config: only"})
	if err := os.Chmod(filepath.Join(k.user, "pkcs11.conf"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got, err := k.known(); !errors.Is(err, ownfile.ErrForeign) || !errors.Is(err, ErrModule) {
		t.Errorf("a configuration that anybody can write to: %s, %v", names(got), err)
	}
}
