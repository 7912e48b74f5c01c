package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// This file reads the configuration file. What its sections for tokens mean is in
// section.go.

// maxConfig bounds the configuration file, in bytes.
const maxConfig = 64 << 10

// settings are what the command line and the configuration file say of one run.
type settings struct {
	path     string          // of the configuration file; empty where there is none
	onLine   map[string]bool // the options that stand on the command line
	sections []section
	bound    bool // the section of the token counts, if there is one
}

const settingsKey = "settings"

func settingsOf(c *cli.Context) *settings {
	if s, ok := c.App.Metadata[settingsKey].(*settings); ok {
		return s
	}
	return &settings{}
}

// configFlag is --config. It remembers the set of flags that it is in, which knows what
// stands on the command line; the cli package does not tell that from the environment.
type configFlag struct {
	*cli.StringFlag
	set *flag.FlagSet
}

// Apply implements [cli.Flag].
func (f *configFlag) Apply(set *flag.FlagSet) error {
	f.set = set
	return f.StringFlag.Apply(set)
}

// configure reads the configuration file and has its values count where neither the
// command line nor the environment goes before.
func configure(c *cli.Context, flags []cli.Flag) error {
	s := &settings{onLine: map[string]bool{}}
	c.App.Metadata = map[string]any{settingsKey: s}
	if f, ok := lookup(flags, "config").(*configFlag); ok && f.set != nil {
		f.set.Visit(func(f *flag.Flag) { s.onLine[f.Name] = true })
	}
	if err := s.absoluteEnvironment(flags); err != nil {
		return err
	}
	if err := s.moduleHere(c); err != nil {
		return err
	}
	file, err := s.read(c)
	if err != nil {
		return err
	}
	top, err := s.parse(file, flags)
	if err != nil {
		return err
	}
	if err := altsrc.ApplyInputSourceValues(c, altsrc.NewMapInputSource(s.path, top), flags); err != nil {
		return s.bad("%v", err)
	}
	return s.bindByName(c)
}

// moduleHere has --module FILE name the file in the current directory, where there is one.
// The dynamic loader looks for a name without a slash in its own directories alone, and so
// it is in the environment and in the configuration file: what they name must not depend on
// the directory that one happens to be in. Nor is another user's file taken, in /tmp say.
func (s *settings) moduleHere(c *cli.Context) error {
	name := c.String("module")
	if underAge || !s.onLine["module"] || name == "" || strings.ContainsRune(name, filepath.Separator) {
		return nil
	}
	path := "." + string(filepath.Separator) + name
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	f, err := ownfile.Open(path, false)
	if err != nil {
		return failure.Usage("--module %s: %w", name, err)
	}
	_ = f.Close()
	return c.Set("module", path)
}

// read reads the file, if there is one. One that was named must be there.
func (s *settings) read(c *cli.Context) (map[string]any, error) {
	s.path = c.String("config")
	named := s.path != ""
	if !named {
		s.path = xdg("XDG_CONFIG_HOME", ".config", "config.toml")
	}
	if s.path == "" || s.path == os.DevNull { // which is how none is named
		s.path = ""
		return nil, nil
	}
	data, err := ownfile.Read(s.path, maxConfig)
	if !named && errors.Is(err, fs.ErrNotExist) {
		s.path = ""
		return nil, nil
	}
	if err != nil {
		return nil, s.bad("%w", err)
	}
	var file map[string]any
	if err := toml.Unmarshal(data, &file); err != nil {
		if strings.Contains(err.Error(), "'token' was already created") {
			return nil, s.bad("token stands beside sections [token.LABEL], and TOML has one key for one thing; call the option %s", defaultToken)
		}
		return nil, s.bad("%v", err)
	}
	return file, nil
}

func (s *settings) bad(format string, args ...any) error {
	return failure.Usage("configuration file %q: %w", s.path, fmt.Errorf(format, args...))
}

// defaultToken is what the option token is called in the file beside sections for tokens:
// TOML has one key for one thing.
const defaultToken = "default-token"

// parse checks the whole file, sections that do not count too, and returns what stands
// above its sections. A key that is no option is refused: with a word misspelt the keys
// would go to another store than the one that was meant.
func (s *settings) parse(file map[string]any, flags []cli.Flag) (map[any]any, error) {
	top := map[any]any{}
	for _, key := range slices.Sorted(maps.Keys(file)) {
		name, value := key, file[key]
		if tables, ok := value.(map[string]any); ok && key == "token" {
			for _, label := range slices.Sorted(maps.Keys(tables)) {
				if err := s.addSection(label, tables[label], flags); err != nil {
					return nil, err
				}
			}
			continue
		}
		if key == defaultToken {
			name = "token"
		}
		if _, twice := top[name]; twice {
			return nil, s.bad("token and %s are the same: use one of them", defaultToken)
		}
		checked, err := s.value(flags, name, value, strconv.Quote(key))
		if err != nil {
			return nil, err
		}
		top[name] = checked
	}
	return top, nil
}

// value checks one value, which the option of that name is to have. where names it in
// errors.
func (s *settings) value(flags []cli.Flag, name string, value any, where string) (any, error) {
	option, ok := lookup(flags, name).(altsrc.FlagInputSourceExtension)
	if !ok || !slices.Contains(option.Names(), name) {
		return nil, s.bad("%s is not an option that it can set", where)
	}
	if n, ok := value.(int64); ok { // as TOML has them, and options do not
		value = int(n)
	}
	fits := false
	switch option.(type) {
	case *altsrc.BoolFlag:
		_, fits = value.(bool)
	case *altsrc.IntFlag:
		_, fits = value.(int)
	case *altsrc.DurationFlag:
		text, _ := value.(string)
		_, err := time.ParseDuration(text)
		fits = err == nil
	default:
		_, fits = value.(string)
	}
	if !fits {
		return nil, s.bad("%s has to be %s", where, wanted(option))
	}
	if n, ok := value.(int); ok && name == "sessions" && (n < 1 || n > token.MaxSessions) {
		return nil, s.bad("%s is a number from 1 to %d", where, token.MaxSessions)
	}
	if text, ok := value.(string); ok {
		text, err := expandHome(name, text)
		if err != nil {
			return nil, s.bad("%s: %w", where, err)
		}
		value = text
		if err := absolute(name, text, fmt.Sprintf("%s in the configuration file %q", where, s.path)); err != nil {
			return nil, err
		}
	}
	return value, nil
}

// expandHome puts the home directory in the place of a leading ~/ in the value of an option
// that is a path, as the shell does on the command line. No shell reads the file.
func expandHome(option, value string) (string, error) {
	prefix, path := "", value
	switch option {
	case "module", "store":
	case "pin-source", passwordOption:
		var isFile bool
		if path, isFile = strings.CutPrefix(value, "file:"); !isFile {
			return value, nil
		}
		prefix = "file:"
	default:
		return value, nil
	}
	if !strings.HasPrefix(path, "~") {
		return value, nil
	}
	below, ok := strings.CutPrefix(path, "~/")
	if !ok { // another user's home, which would become a directory of that name here
		return "", fmt.Errorf("%q begins with ~, of which only ~/ is expanded; a file of that name is %q", path, "./"+path)
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return "", fmt.Errorf("%q is below the home directory, and $HOME is no absolute path", path)
	}
	return prefix + filepath.Join(home, below), nil
}

// xdg is a directory or file of this program below one of the XDG Base Directory
// Specification, or empty where the environment names none. Then there is none: the current
// directory may be anybody's, and for a plugin of age it is the one for temporary files.
func xdg(variable, below string, names ...string) string {
	dir := os.Getenv(variable)
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil || !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, below)
	}
	return filepath.Join(append([]string{dir, "hsmkeys"}, names...)...)
}
