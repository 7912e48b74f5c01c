//go:build unix

package secret

import (
	"os/exec"
	"syscall"
)

// shell returns the shell's command line as a process to start.
func shell(command string) *exec.Cmd { return exec.Command("/bin/sh", "-c", command) }

// inGroup makes a command that has no terminal start a process group, so that kill ends all of it. On
// a terminal such a group would be stopped when it reads.
func inGroup(cmd *exec.Cmd) (kill func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Process.Kill()
	}
}
