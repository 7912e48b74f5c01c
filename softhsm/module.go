package softhsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotInstalled is the error if no SoftHSM2 module is found on this machine.
var ErrNotInstalled = errors.New("SoftHSM2 is not installed")

// modulePatterns are the places where distributions put the module. The native
// architecture's path comes before the multiarch glob, which may also match a
// foreign architecture that this process could not load.
var modulePatterns = []string{
	"/usr/lib/softhsm/libsofthsm2.so",          // Debian, Ubuntu, Alpine, Arch
	"/usr/lib64/softhsm/libsofthsm2.so",        // openSUSE
	"/usr/lib64/pkcs11/libsofthsm2.so",         // Fedora, RHEL
	"/usr/lib64/libsofthsm2.so",                // RHEL 7
	"/usr/lib/pkcs11/libsofthsm2.so",           // 32-bit Fedora
	"/usr/lib/*/softhsm/libsofthsm2.so",        // Debian, by architecture
	"/usr/local/lib/softhsm/libsofthsm2.so",    // built from source, Homebrew on Intel
	"/opt/homebrew/lib/softhsm/libsofthsm2.so", // Homebrew on Apple silicon
	"/home/linuxbrew/.linuxbrew/lib/softhsm/libsofthsm2.so",
	"/run/current-system/sw/lib/softhsm/libsofthsm2.so", // NixOS
}

// FindModule returns the path of the SoftHSM2 module, libsofthsm2.so: the value of
// the environment variable SOFTHSM2_MODULE, or else the first file found where
// distributions install it.
//
// If there is none, the error wraps [ErrNotInstalled] and explains how to install
// SoftHSM2. A SOFTHSM2_MODULE that names no file is an error too: falling back to a
// different module would hide the mistake.
func FindModule() (string, error) {
	if path := os.Getenv("SOFTHSM2_MODULE"); path != "" {
		if !isFile(path) {
			return "", fmt.Errorf("softhsm: %w: SOFTHSM2_MODULE names %q, which is not a file (scripts/install-softhsm.sh installs SoftHSM2)", ErrNotInstalled, path)
		}
		if strings.ContainsAny(path, "\n\r") {
			return "", fmt.Errorf("softhsm: SOFTHSM2_MODULE is %q: a path of more than one line", path)
		}
		return filepath.Abs(path) // for processes that work in other directories
	}
	for _, pattern := range modulePatterns {
		paths, _ := filepath.Glob(pattern) // fails on malformed patterns alone
		for _, path := range paths {
			if isFile(path) {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("softhsm: %w: run scripts/install-softhsm.sh, install the package softhsm2 (Debian, Ubuntu) or softhsm (elsewhere), or set SOFTHSM2_MODULE", ErrNotInstalled)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
