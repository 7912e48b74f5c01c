package secret

import (
	"os/exec"
	"syscall"
)

// shell returns the command line of cmd.exe as a process to start. It is passed on as it is: cmd.exe
// does not read quotes as other programs do.
func shell(command string) *exec.Cmd {
	cmd := exec.Command("cmd.exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: `cmd.exe /S /C "` + command + `"`}
	return cmd
}

// inGroup returns a function that ends a command. What the command has started goes on.
func inGroup(cmd *exec.Cmd) (kill func()) { return func() { _ = cmd.Process.Kill() } }
