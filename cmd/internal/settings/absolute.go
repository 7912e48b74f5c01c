package settings

import (
	"path/filepath"
	"strings"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/token"
)

// absolute refuses the value of an option that names something by a relative path, if the settings
// are confined. where names the value in the error. Whatever else may be wrong with the value is
// reported elsewhere.
func (s *Settings) absolute(option, value, where string) error {
	if !s.confined || value == "" {
		return nil
	}
	what := ""
	switch option {
	case "config", "module", "store", "agent":
		if !filepath.IsAbs(value) && !(option == "store" && strings.Contains(value, "://")) {
			what = "a path"
		}
	case "pin-source", PasswordOption:
		what = relativeSource(value)
	case "token":
		sel, err := token.ParseSelector(value)
		clear(sel.PINValue)
		if err == nil { // a module-path is absolute, or the URI is refused
			what = relativeSource(sourceIn(sel, ""))
		}
	}
	if what == "" {
		return nil
	}
	return failure.Usage("%s names %s that is not absolute, and age runs its plugins in a directory where anybody may have put that; write the whole path", where, what)
}

// relativeSource returns what a source of a secret names by a relative path, or "" for nothing.
// Commands without a slash are looked for in $PATH. A command line is not parsed as the shell does:
// only its first word is checked. What else it names by a relative path does not lead to another
// user's file, since the plugin changes to the root directory.
func relativeSource(source string) string {
	kind, rest, _ := strings.Cut(source, ":")
	switch kind {
	case "file":
		if !filepath.IsAbs(rest) {
			return "a file"
		}
	case "exec":
		words := strings.Fields(rest)
		if len(words) == 0 {
			return ""
		}
		command := strings.Trim(words[0], `"'`)
		if strings.Contains(command, "/") && !strings.ContainsAny(command[:1], "/~$") {
			return "a command"
		}
	}
	return ""
}
