package settings

import (
	"os"
	"path/filepath"
)

// XDG returns a directory or file of this program below one of the XDG Base Directory Specification,
// or "" if the environment names none. The current directory does not take its place: it may be
// anybody's, and for a plugin of age it is the one for temporary files. Windows has places of its own
// for where the variable is not set.
func XDG(variable, below string, names ...string) string {
	dir := os.Getenv(variable)
	if filepath.IsAbs(dir) {
		dir = filepath.Join(dir, "hsmkeys")
	} else if dir = usual(variable, below); dir == "" {
		return ""
	}
	return filepath.Join(append([]string{dir}, names...)...)
}
