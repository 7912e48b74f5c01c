//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/server"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

// readyVariable has the number of the descriptor that an agent in the background writes to when it is
// ready.
const readyVariable = "HSMKEYS_AGENT_READY"

// startAgent starts the agent as another process, waits until it has asked for the PIN, has logged in
// and listens, and prints the environment for a shell. That process leaves the terminal only then.
func startAgent(_ context.Context, s *settings.Settings) error {
	socket, err := agentSocket(s)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	child := exec.Command(program, append(os.Args[1:], "--foreground")...)
	child.Stdin, child.Stderr, child.ExtraFiles = os.Stdin, os.Stderr, []*os.File{tell}
	child.Env = append(os.Environ(), readyVariable+"=3")
	if err := child.Start(); err != nil {
		return err
	}
	_ = tell.Close()
	if n, err := io.ReadFull(ready, make([]byte, 1)); n == 1 && err == nil {
		return printAgentEnvironment(socket)
	}
	err = child.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return failure.Command(max(exit.ExitCode(), failure.StatusFailed)) // it has said why
	}
	return errors.Join(errors.New("the agent ended before it was ready"), err)
}

// leaveForeground ends the start of an agent in the background: it leaves the terminal, and tells the
// command that has started it. It does nothing in an agent that stays in the foreground.
func leaveForeground() error {
	fd, err := strconv.Atoi(os.Getenv(readyVariable))
	if err != nil {
		return nil
	}
	if err := os.Unsetenv(readyVariable); err != nil {
		return err
	}
	tell := os.NewFile(uintptr(fd), "ready")
	if _, err := unix.Setsid(); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for standard := range 3 {
		if err := unix.Dup2(int(null.Fd()), standard); err != nil {
			return err
		}
	}
	os.Stdout, os.Stderr = null, null
	if _, err := tell.Write([]byte{1}); err != nil {
		return err
	}
	return tell.Close()
}

// serveCommand runs a command with an agent of its own, and ends the program with the command's exit
// status.
func serveCommand(ctx context.Context, a *server.Server, listener net.Listener, words []string) error {
	served := make(chan error, 1)
	go func() { served <- a.Serve(context.WithoutCancel(ctx), listener, nil) }()
	err := runCommand(words, append(os.Environ(), agent.Variable+"="+listener.Addr().String()), takeSignals())
	a.Stop()
	return errors.Join(err, <-served)
}
