package settings

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The command line goes before the environment, that before the section of the token, and that
// before the top of the file; for the PIN the section goes before the environment.
func TestPrecedence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	file := "default-token = \"office\"\nmodule = \"/top.so\"\nstore = \"/top\"\npin-source = \"env:TOP\"\nmax-age = \"30d\"\n" +
		"[token.office]\nmodule = \"/section.so\"\nstore = \"/section\"\npin-source = \"env:SECTION\"\n"
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HSMKEYS_CONFIG", path)
	t.Setenv("HSMKEYS_STORE", "/environment")
	t.Setenv("HSMKEYS_PIN_SOURCE", "env:ENVIRONMENT")
	t.Setenv("HSMKEYS_MODULE", "") // counts as not set
	s, err := Load(Source{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Token != "office" || s.Module != "/section.so" || s.Store != "/environment" || s.PINSource != "env:SECTION" || s.MaxAge != 30*24*time.Hour || !s.ReadBack || s.ModuleTimeout != time.Minute {
		t.Errorf("%+v", s)
	}
	if s, err = Load(Source{Line: map[string]string{"store": "/line", "pin-source": "prompt", "token": "vault"}}); err != nil {
		t.Fatal(err)
	}
	if s.Store != "/line" || s.PINSource != "prompt" || s.Module != "/top.so" || !s.OnLine("store") || s.OnLine("module") {
		t.Errorf("with another token: %+v", s)
	}
}
