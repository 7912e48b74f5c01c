//go:build !linux

package s3test

import "syscall"

func dieTogether() *syscall.SysProcAttr { return nil }
