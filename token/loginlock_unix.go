//go:build unix

package token

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// lockLogin waits, for a few seconds at most, while other processes of this user with the
// same cache log in through the module, or, for a login, also while they initialise it, and
// keeps these waiting until unlock is called. SoftHSM writes the token's file anew at each
// login. A process that initialises the module at that moment reads a token without a PIN, and
// does not read it again: this happened to commands in one pipeline.
//
// The lock is advisory. If it cannot be taken the caller continues without it.
func lockLogin(cache, module string, login bool) (unlock func()) {
	unlock = func() {}
	if cache == "" {
		return unlock
	}
	name := sha256.Sum256([]byte(module))
	path := filepath.Join(cache, "login-"+hex.EncodeToString(name[:16]))
	if ownfile.CheckPlace(path) != nil || os.MkdirAll(cache, 0o700) != nil {
		return unlock
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return unlock
	}
	how := unix.LOCK_SH
	if login {
		how = unix.LOCK_EX
	}
	for range 250 {
		if err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err == nil {
			break
		}
		time.Sleep(attachPause)
	}
	return func() { _ = f.Close() } // and with it the lock is gone
}
