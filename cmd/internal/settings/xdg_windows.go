package settings

import (
	"os"
	"path/filepath"
	"strings"
)

// usual returns the directory of this program that is used where a variable is not set, or "":
// %AppData%\hsmkeys for the configuration, and %LocalAppData%\hsmkeys\data, state and cache.
func usual(variable, _ string) string {
	kind, base := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(variable, "XDG_"), "_HOME")), "LocalAppData"
	if kind == "config" {
		kind, base = "", "AppData"
	}
	dir := os.Getenv(base)
	if !filepath.IsAbs(dir) {
		return ""
	}
	return filepath.Join(dir, "hsmkeys", kind)
}
