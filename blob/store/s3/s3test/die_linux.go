package s3test

import "syscall"

// dieTogether makes a program end with this process, also when this one is killed.
func dieTogether() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
