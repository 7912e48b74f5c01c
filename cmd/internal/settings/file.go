package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// maxFile is the maximal size of the configuration file, in bytes.
const maxFile = 64 << 10

// DefaultToken is the name of the option token in a file with sections for tokens: TOML has one key
// for one thing.
const DefaultToken = "default-token"

// readFile reads the configuration file, if there is one. One that the user names must exist.
func (s *Settings) readFile() (map[string]any, error) {
	path, named := s.line["config"]
	if !named {
		path, named = s.environment["config"]
	}
	if !named {
		path = XDG("XDG_CONFIG_HOME", ".config", "config.toml")
	}
	if path == "" || path == os.DevNull { // the way to name none
		return nil, nil
	}
	s.path = path
	data, err := ownfile.Read(path, maxFile)
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
			return nil, s.bad("token stands beside sections [token.LABEL], and TOML has one key for one thing; call the option %s", DefaultToken)
		}
		return nil, s.bad("%v", err)
	}
	return file, nil
}

func (s *Settings) bad(format string, args ...any) error {
	return failure.Usage("configuration file %q: %w", s.path, fmt.Errorf(format, args...))
}

// parse checks the whole file, also the sections that are not in force, and returns what stands above
// its sections. It refuses a key that is not an option: with a misspelt word the keys would go to
// another store than the one that was meant.
func (s *Settings) parse(file map[string]any) (map[string]string, error) {
	top := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(file)) {
		name, value := key, file[key]
		if tables, ok := value.(map[string]any); ok && key == "token" {
			for _, label := range slices.Sorted(maps.Keys(tables)) {
				if err := s.addSection(label, tables[label]); err != nil {
					return nil, err
				}
			}
			continue
		}
		if key == DefaultToken {
			name = "token"
		}
		if _, twice := top[name]; twice {
			return nil, s.bad("token and %s are the same: use one of them", DefaultToken)
		}
		checked, err := s.value(name, value, strconv.Quote(key))
		if err != nil {
			return nil, err
		}
		top[name] = checked
	}
	return top, nil
}

// value checks the value in the file of the option of that name, and returns it as the command line
// would have it. where names it in errors.
func (s *Settings) value(name string, value any, where string) (string, error) {
	o := Lookup(name)
	if o == nil || o.Name != name || !o.InFile {
		return "", s.bad("%s is not an option that it can set", where)
	}
	fits := false
	switch o.Kind {
	case Bool:
		_, fits = value.(bool)
	case Number:
		_, fits = value.(int64)
	case Duration:
		var text string
		if text, fits = value.(string); fits {
			_, err := ParseDuration(text)
			fits = err == nil
		}
	default:
		_, fits = value.(string)
	}
	if !fits {
		return "", s.bad("%s has to be %s", where, o.Kind)
	}
	text, err := expandHome(name, fmt.Sprint(value))
	if err != nil {
		return "", s.bad("%s: %w", where, err)
	}
	if err := o.check(text, where); err != nil {
		return "", s.bad("%w", err)
	}
	return text, s.absolute(name, text, fmt.Sprintf("%s in the configuration file %q", where, s.path))
}

// expandHome replaces a leading ~/ with the home directory in the value of an option that is a path,
// as the shell does on the command line. No shell reads the file.
func expandHome(option, value string) (string, error) {
	prefix, path := "", value
	switch option {
	case "module", "store":
	case "pin-source", PasswordOption, "audit":
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
