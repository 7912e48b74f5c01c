//go:build !linux

package sharing

import "errors"

// LockMemory returns an [errors.ErrUnsupported].
func LockMemory() error { return errors.ErrUnsupported }
