package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/token"
)

// age runs its plugins in the directory for temporary files, where anybody may have put
// what a relative path names: a library that would be loaded, a command that would be run.
// So the plugin goes away from there, and takes absolute paths alone.

// underAge is set in the plugin of age.
var underAge bool

// absolute refuses the value of an option that names something by a relative path, under
// age. where names the value in the error. What else may be wrong with it, others say.
func absolute(option, value, where string) error {
	if !underAge || value == "" {
		return nil
	}
	what := ""
	switch option {
	case "config", "module", "store":
		if !filepath.IsAbs(value) {
			what = "a path"
		}
	case "pin-source", passwordOption:
		what = relativeSource(value)
	case "token":
		sel, err := token.ParseSelector(value)
		clear(sel.PINValue)
		if err == nil { // a module-path is absolute, or the URI is refused
			what = relativeSource(pinSource("", sel))
		}
	}
	if what == "" {
		return nil
	}
	return failure.Usage("%s names %s that is not absolute, and age runs its plugins in a directory where anybody may have put that; write the whole path", where, what)
}

// relativeSource says what a source of a secret names by a relative path, or nothing.
// Commands that stand alone are looked for in $PATH. A command is not taken apart as the
// shell does: the first word is looked at, and the rest finds nothing of others' where the
// plugin runs.
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

// absoluteEnvironment is absolute for the environment, as far as the command line, which is
// the identity's, does not go before.
func (s *settings) absoluteEnvironment(flags []cli.Flag) error {
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok || s.onLine[f.Names()[0]] {
			continue
		}
		for _, variable := range d.GetEnvVars() {
			if err := absolute(f.Names()[0], os.Getenv(variable), variable); err != nil {
				return err
			}
		}
	}
	return nil
}
