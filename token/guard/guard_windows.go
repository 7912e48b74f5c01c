package guard

import (
	"errors"
	"os"
	"time"

	"github.com/miekg/pkcs11"
)

// New loads a module.
func New(path string) (*pkcs11.Ctx, error) {
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, errors.New("it does not load, or lacks C_GetFunctionList")
	}
	return ctx, nil
}

// Attach does nothing on Windows.
func Attach(*pkcs11.Ctx, string) error { return nil }

// Destroy unloads a module that [New] has loaded.
func Destroy(ctx *pkcs11.Ctx, _ string) { ctx.Destroy() }

// Forget does nothing on Windows.
func Forget(*pkcs11.Ctx) {}

// During calls f.
func During(_, _ string, f func()) { f() }

// Take runs f, which has a module return one secret, and returns the secret. The copy that
// miekg/pkcs11 has freed stays in memory until something else is written there.
func Take(f func() ([]byte, error)) ([]byte, error) {
	secret, err := f()
	if err != nil {
		clear(secret)
		return nil, err
	}
	return secret, nil
}

// OutOfBounds reports false: nothing checks the lengths of answers on Windows.
func OutOfBounds(error) (text string, ok bool) { return "", false }

// NoticeEnds does nothing on Windows: a module that crashes ends the process as a fault of our own
// does.
func NoticeEnds(int, int) {}

// Exit is os.Exit.
func Exit(status int) { os.Exit(status) }

// Watch returns at once: calls are not timed on Windows.
func Watch(time.Duration, func(Late)) {}
