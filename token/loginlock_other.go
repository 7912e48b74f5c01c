//go:build !unix

package token

// lockLogin does nothing on this system: it exists for SoftHSM with many processes.
func lockLogin(cache, module string, login bool) (unlock func()) { return func() {} }
