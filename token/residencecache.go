package token

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// What was found out by trying is remembered in files of the user's, so that not every
// command tries again: on a card a try takes as long as the work. A file is for one pair
// on one token with one firmware. It is a hint: where the token turns out to do less, see
// settle; and under [Config.RequireToken] only a try counts.

// cached is what a file says.
type cachedResidence struct {
	inToken bool
	why     string // in memory
}

const (
	cachedToken  = program + " residence 1: token"
	cachedMemory = program + " residence 1: memory: "
	maxCached    = 1024 // bytes
)

// residenceCachePath is the file for a pair; empty where nothing is remembered.
func (p *KeyPair) residenceCachePath() string {
	i := p.token.info
	if p.token.cfg.Cache == "" || i.Serial == "" {
		return ""
	}
	name := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %x", i.Module, i.Manufacturer, i.Model, i.Serial, i.Firmware, keyID(p.public)))
	return filepath.Join(p.token.cfg.Cache, hex.EncodeToString(name[:16]))
}

// readResidenceCache reads what was found out before.
func (p *KeyPair) readResidenceCache() (cachedResidence, bool) {
	path := p.residenceCachePath()
	if path == "" || p.token.cfg.RequireToken || p.token.cfg.TryAgain {
		return cachedResidence{}, false
	}
	text, err := ownfile.Read(path, maxCached)
	if err != nil {
		return cachedResidence{}, false
	}
	line := strings.TrimSuffix(string(text), "\n")
	if line == cachedToken {
		return cachedResidence{inToken: true}, true
	}
	why, ok := strings.CutPrefix(line, cachedMemory)
	return cachedResidence{why: why}, ok && why != "" && !strings.ContainsFunc(why, func(r rune) bool { return !unicode.IsPrint(r) })
}

// writeResidenceCache writes it down. That it cannot be is no failure: it is found out again.
func (p *KeyPair) writeResidenceCache(why error) {
	path := p.residenceCachePath()
	if path == "" {
		return
	}
	line := cachedToken
	if why != nil {
		line = cachedMemory + why.Error()
	}
	if len(line) >= maxCached || ownfile.CheckPlace(path) != nil || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return
	}
	_, err = f.WriteString(line + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
}

// dropResidenceCache forgets what turned out not to hold.
func (p *KeyPair) dropResidenceCache() {
	if path := p.residenceCachePath(); path != "" {
		_ = os.Remove(path)
	}
}
