package token

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// openRemembering opens a token with a cache, and its EC pair.
func openRemembering(t *testing.T, cfg Config, cache string) (*Token, *KeyPair) {
	t.Helper()
	cfg.Cache = cache
	tok, err := Open(background, cfg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := tok.KeyPair(background, PairName{Label: "ec"})
	if err != nil {
		t.Fatal(err)
	}
	return tok, p
}

func TestWhatWasTriedIsRemembered(t *testing.T) {
	st := newToken(t)
	makePair(t, open(t, st), "ec", P256)
	cache := filepath.Join(t.TempDir(), "cache")
	tok, p := openRemembering(t, config(st), cache)
	where, err := p.Residence(background)
	why := p.WhyMemory()
	if err != nil || where != keyspec.InMemory || !strings.Contains(why, "CKM_ECDH1_DERIVE") {
		t.Fatalf("%s, %q, %v", where, why, err)
	}
	path := p.residenceCachePath()
	written, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(written, []byte("memory: "+why)) {
		t.Fatalf("%q, %v", written, err)
	}
	tok.Close()

	// Another process uses it.
	if err := os.WriteFile(path, []byte(cachedMemory+"so it was said\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tok, p = openRemembering(t, config(st), cache)
	if where, err := p.Residence(background); err != nil || where != keyspec.InMemory || p.WhyMemory() != "so it was said" {
		t.Errorf("%s, %q, %v", where, p.WhyMemory(), err)
	}
	tok.Close()

	// A wrong entry for a token that does less is found out when the pair is used.
	if err := os.WriteFile(path, []byte(cachedToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tok, p = openRemembering(t, config(st), cache)
	spec := wraps(32)
	key, err := tok.Generate(background, spec)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := key.Wrap(background, p.public, 0)
	if err != nil {
		t.Fatal(err)
	}
	used, err := p.Unwrap(background, of(spec, wrapped))
	if err != nil || used.Residence() != keyspec.InMemory {
		t.Fatalf("it was remembered to live on the token: %v", err)
	}
	used.Close()
	if where, err := p.Residence(background); err != nil || where != keyspec.InMemory {
		t.Errorf("%s, %v", where, err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("what does not hold is still remembered")
	}
	tok.Close()

	// With RequireToken the token is tried, and a file of another form is ignored.
	for _, text := range []string{cachedToken, cachedToken + " ", "", cachedMemory, cachedMemory + "a\x1bb", strings.Repeat("x", maxCached+1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := config(st)
		cfg.RequireToken = text == cachedToken
		tok, p := openRemembering(t, cfg, cache)
		if _, err := p.Residence(background); cfg.RequireToken != (err != nil) || p.WhyMemory() != why {
			t.Errorf("%q: %v, %q", text, err, p.WhyMemory())
		}
		tok.Close()
	}

	// A pair whose session keys can live on the token needs no try.
	rsaPair := makePair(t, open(t, st), "rsa", 2048)
	rsaPair.token.cfg.Cache = cache
	if where, err := rsaPair.Residence(background); err != nil || where != keyspec.InToken {
		t.Errorf("%s, %v", where, err)
	}
	if _, err := os.Stat(rsaPair.residenceCachePath()); err == nil {
		t.Error("something was remembered of a pair that nothing was tried with")
	}
}
