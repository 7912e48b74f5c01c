//go:build !linux

package token

// holdSignals does nothing on this system.
func holdSignals() (release func()) { return func() {} }
