//go:build !linux

package token

// holdSignals is for Linux.
func holdSignals() (release func()) { return func() {} }
