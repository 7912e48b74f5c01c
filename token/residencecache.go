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

// The residence that was found out by trying is kept in files of the user's, so that not every
// command tries again: on a card that takes as long as the work. A file is for one pair on one
// token with one firmware. It is not relied on: a token that turns out to do less is used all the
// same, see fallBackToMemory, and under [Config.RequireToken] only a try counts.

// cachedResidence is the content of a file.
type cachedResidence struct {
	inToken bool
	why     string // in memory
}

const (
	cachedToken  = program + " residence 1: token"
	cachedMemory = program + " residence 1: memory: "
	maxCached    = 1024 // bytes
)

// residenceCachePath returns the path of the file for the pair, or "" if there is no cache.
func (p *KeyPair) residenceCachePath() string {
	i := p.token.info
	if p.token.cfg.Cache == "" || i.Serial == "" {
		return ""
	}
	name := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %x", i.Module, i.Manufacturer, i.Model, i.Serial, i.Firmware, keyID(p.public)))
	return filepath.Join(p.token.cfg.Cache, hex.EncodeToString(name[:16]))
}

// readResidenceCache returns what was found out before.
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

// writeResidenceCache writes the file. A failure is ignored: it will be found out again.
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

// dropResidenceCache removes a file that turned out to be wrong.
func (p *KeyPair) dropResidenceCache() {
	if path := p.residenceCachePath(); path != "" {
		_ = os.Remove(path)
	}
}
