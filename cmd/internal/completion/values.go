package completion

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// Choices are the values of options that accept one of a few, by command and option. A test
// compares them with help.
var Choices = map[string][]string{
	"init --key-type":    {"rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521"},
	"create --algorithm": {"aes128", "aes192", "aes256", "hmac-sha256", "hmac-sha384", "hmac-sha512"},
	"create --kdf":       {"scrypt", "pbkdf2"},
	"create --purpose":   {"wrap", "encrypt", "mac"},
	"import --purpose":   {"wrap", "encrypt"},
	"list --state":       {"active", "deactivated", "compromised", "destroyed"},
	"list --sort":        {"name", "created", "age"},
	"policy --recovery":  {"authority", "quorum-only"},
	"policy --changes":   {"owner", "two-owners"},
	"derive --hash":      {"md4", "md5", "sha1", "sha256", "sha384", "sha512"},
	"derive --algorithm": {"rc2", "rc4", "des", "3des", "3des-112", "aes128", "aes192", "aes256"},
	"derive --encoding":  {"utf8", "utf16le"},
}

func words(all ...string) answer {
	a := answer{kind: KindWords}
	for _, word := range all {
		a.candidates = append(a.candidates, candidate{word: word})
	}
	return a
}

// value returns what an option may have: one of a few values, or what its placeholder in help
// stands for.
func (l *commandLine) value(ctx context.Context) answer {
	name := l.flag.Names()[0]
	switch path := strings.Join(l.path, " "); {
	case Choices[path+" --"+name] != nil:
		return words(Choices[path+" --"+name]...)
	case name == "read-back":
		return words("all", "none")
	case name == "token":
		return l.tokens(ctx)
	case strings.HasSuffix(name, "-source"):
		return secretSources(l.word)
	case name == "audit":
		if strings.HasPrefix(l.word, "file:") {
			return answer{kind: KindFiles, prefix: "file:"}
		}
		return words("file:", "syslog", "journald")
	}
	if d, ok := l.flag.(cli.DocGenerationFlag); ok {
		if parts := strings.Split(d.GetUsage(), "`"); len(parts) == 3 {
			return l.named(ctx, parts[1])
		}
	}
	return words()
}

// takes returns the placeholder of the next argument of the command, or "" if there is none.
func (l *commandLine) takes() string {
	all, n := strings.Fields(l.command.ArgsUsage), len(l.args)
	switch {
	case n < len(all):
		return all[n]
	case len(all) > 0 && strings.Contains(all[len(all)-1], "…"):
		return all[len(all)-1]
	}
	return ""
}

// helped returns the commands that may follow those that help was asked for.
func (l *commandLine) helped() answer {
	command := &cli.Command{Subcommands: l.app.Commands}
	for _, word := range l.args {
		if command = commandline.Find(command.Subcommands, word); command == nil {
			return words()
		}
	}
	return subcommands(command.Subcommands)
}

// named returns what a placeholder in help stands for, such as FILE or [NAME…].
func (l *commandLine) named(ctx context.Context, placeholder string) answer {
	name := strings.TrimLeft(placeholder, "[")
	if end := strings.IndexFunc(name, func(r rune) bool { return r < 'A' || r > 'Z' }); end >= 0 {
		name = name[:end]
	}
	switch name {
	case "FILE", "IN", "PATH", "CERTIFICATE", "LIBRARY", "REQUEST", "PROPOSAL":
		return answer{kind: KindFiles}
	case "DIRECTORY", "STORE", "OLD", "FROM", "TO":
		return answer{kind: KindDirectories}
	case "COMMAND":
		return l.helped()
	case "TOKEN":
		return l.tokens(ctx)
	case "SHELL":
		return words("bash", "zsh", "fish")
	case "FUNCTION":
		return words(softhsm.Functions()...)
	case "FAULT":
		a := words(softhsm.Results()...)
		for _, action := range softhsm.Actions("*") {
			a.candidates = append(a.candidates, candidate{word: string(action)})
		}
		return a
	case "LABEL":
		if l.path[0] == "softhsm" {
			return words(strings.Split(os.Getenv("HSMKEYS_SOFTHSM_TOKENS"), ",")...)
		}
	case "NAME":
		return l.keys(ctx, strings.Contains(placeholder, "@VERSION"))
	}
	return words()
}

// secretSources returns the forms of --pin-source.
func secretSources(word string) answer {
	switch kind, _, _ := strings.Cut(word, ":"); {
	case kind == word:
		return words("prompt", "env:", "file:", "exec:")
	case kind == "file":
		return answer{kind: KindFiles, prefix: "file:"}
	case kind == "env":
		a := answer{kind: KindWords}
		for _, variable := range os.Environ() { // the name, never what it holds
			name, _, _ := strings.Cut(variable, "=")
			a.candidates = append(a.candidates, candidate{word: "env:" + name})
		}
		return a
	}
	return words()
}

// keys returns the names of keys in the store up to the next /, or the versions of one. What is in
// the store is not trusted: Names returns only valid names of keys.
func (l *commandLine) keys(ctx context.Context, versions bool) answer {
	a := words()
	s := l.settings()
	if s == nil {
		return a
	}
	store, err := session.OpenStore(ctx, s)
	if err != nil {
		return a
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	if name, _, ok := strings.Cut(l.word, "@"); ok {
		if versions && blob.ValidName(name) == nil {
			return versionsIn(ctx, store, name)
		}
		return a
	}
	isNew := slices.Equal(l.path, []string{"create"})
	for name := range store.Names(ctx, l.word) {
		if isNew && !strings.HasSuffix(name, "/") {
			continue // it is taken
		}
		if a.candidates = append(a.candidates, candidate{word: name}); len(a.candidates) == MostCandidates {
			break
		}
	}
	return a
}

func versionsIn(ctx context.Context, store place.Store, name string) answer {
	a := words()
	for path, err := range store.List(ctx, blob.KeysPrefix+name+"/") {
		if err != nil || len(a.candidates) == MostCandidates {
			break
		}
		if n, version, _, _, ok := blob.ParseKeyPath(path); ok && n == name {
			a.candidates = append(a.candidates, candidate{word: hsmkeys.Ref{Name: name, Version: version}.String()})
		}
	}
	return a
}

// tokens returns the labels of the tokens of the module, or of all modules that p11-kit knows. No
// PIN is needed for that. Instead of a label that the program would parse as something else, or
// that two tokens have, it returns the serial number.
func (l *commandLine) tokens(ctx context.Context) answer {
	a := words()
	s := l.settings()
	if s == nil {
		return a
	}
	modules := []token.ModuleConfig{{Path: s.Module}}
	if modules[0].Path == "" {
		var err error
		if modules, err = token.Modules(); err != nil {
			return a
		}
	}
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	count := map[string]int{}
	all := token.ReadAllTokens(ctx, modules)
	for _, t := range all {
		count[t.Label]++
	}
	for _, t := range all {
		about := strings.TrimSpace(text.Printable(t.Model) + " " + text.Printable(t.Serial))
		switch {
		case !t.Initialized:
		case t.Label == "" || count[t.Label] > 1 || text.Printable(t.Label) != t.Label || strings.HasPrefix(t.Label, "pkcs11:"):
			a.candidates = append(a.candidates, candidate{"pkcs11:serial=" + t.Serial, text.Printable(t.Label)})
		default:
			a.candidates = append(a.candidates, candidate{t.Label, about})
		}
	}
	return a
}

// settings returns the settings as the command will have them, or nil if they are wrong.
func (l *commandLine) settings() *settings.Settings {
	s, err := settings.Load(settings.Source{Line: l.given})
	if err != nil {
		return nil
	}
	return s
}
