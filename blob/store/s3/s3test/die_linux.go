package s3test

import "syscall"

// dieTogether makes the kernel kill the program when this process dies.
func dieTogether() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
