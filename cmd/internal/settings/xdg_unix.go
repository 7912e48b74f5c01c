//go:build unix

package settings

import (
	"os"
	"path/filepath"
)

// usual returns the directory of this program that is used where a variable is not set, or "".
func usual(_, below string) string {
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, below, "hsmkeys")
}
