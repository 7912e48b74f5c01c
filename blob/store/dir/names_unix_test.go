//go:build unix

package dir

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNamesThatGoOn(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{
		object("keys/payroll/1.1"), object("keys/site-b/audit/1.1"), object("keys/site-b/backup/2.3"), object("keys/both/1.1"), object("keys/both/below/1.1"),
		object("keys/Capital/1.1"), object("keys/.hidden/1.1"), object("keys/evil\x1b[31m/1.1"), "keys/junk/readme.txt", "keys/file.cms", members,
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "keys/link")); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for prefix, want := range map[string]string{
		"":              "both both/ payroll site-b/",
		"p":             "payroll",
		"payroll":       "payroll",
		"payroll/":      "",
		"site":          "site-b/",
		"site-b/":       "site-b/audit site-b/backup",
		"site-b/b":      "site-b/backup",
		"both/":         "both/below",
		"nothing":       "",
		"nothing/":      "",
		"../":           "",
		"/":             "",
		"./":            "",
		"site-b//":      "",
		"link/":         "",
		"payroll/../p":  "",
		"keys\x00/":     "",
		"both/../both/": "",
	} {
		got := slices.Sorted(d.Names(context.Background(), prefix))
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}
	for range d.Names(context.Background(), "") {
		break // somebody who has seen enough
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name := range d.Names(ctx, "") {
		t.Errorf("%q, after the end", name)
	}
}
