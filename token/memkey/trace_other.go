//go:build !linux

package memkey

// holdSignals does nothing on this system.
func holdSignals() (release func()) { return func() {} }
