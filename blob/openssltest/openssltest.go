// Package openssltest runs OpenSSL, an independent implementation, in tests.
package openssltest

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// Run runs openssl and returns what it prints to stdout. The test fails if openssl fails, and also
// if it is missing: what only we can read would be no archive.
func Run(t testing.TB, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, &stderr)
	}
	return out
}
