//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
)

// Exit statuses for a command that was not run, as a shell has them.
const (
	statusNotRun    = 126
	statusNoCommand = 127
	statusBySignal  = 128 // and the signal
)

// wanted are the signals that would end this program, and those that a command may want.
var wanted = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// ignored are those that whoever has started this program ignores, such as nohup(1), before anything here takes them.
// Go tells it of SIGHUP and SIGINT.
var ignored = slices.DeleteFunc(slices.Clone(wanted), func(s os.Signal) bool { return !signal.Ignored(s) })

// takeSignals takes the signals. What was ignored stays so, also for the command.
func takeSignals() <-chan os.Signal {
	signals := make(chan os.Signal, 8)
	signal.Reset(wanted...)
	for _, s := range wanted {
		if slices.Contains(ignored, s) {
			signal.Ignore(s)
		} else {
			signal.Notify(signals, s)
		}
	}
	return signals
}

// runCommand runs a command with this program's standard streams, and passes signals on to it. The
// error is a [failure.Command] with the exit status that a shell would have, unless that is 0.
func runCommand(words, environment []string, signals <-chan os.Signal) error {
	command := exec.Command(words[0], words[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = environment
	err := command.Start()
	if err != nil {
		message.Error(fmt.Errorf("run the command: %w", err))
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return failure.Command(statusNoCommand)
		}
		return failure.Command(statusNotRun)
	}
	go forward(signals, command.Process)
	err = command.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status := exit.ExitCode()
		if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
			status = statusBySignal + int(w.Signal())
		}
		return failure.Command(status)
	}
	return err
}

// forward passes signals on to the command: this program ends after it. What a key of a terminal sends
// reaches the command as well, which is in the same process group.
func forward(signals <-chan os.Signal, command *os.Process) {
	for s := range signals {
		if (s != os.Interrupt && s != syscall.SIGQUIT) || !inForeground() {
			_ = command.Signal(s)
		}
	}
}

// inForeground reports whether this program gets what the keys of a terminal send.
func inForeground() bool {
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer terminal.Close()
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
