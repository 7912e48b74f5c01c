//go:build unix

package softhsm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A Remote serves a token of an Env on a Unix socket, with p11-kit-server(8). Programs use it through
// another module, so that it can go away under them and come back, as a network HSM does.
type Remote struct {
	env    *Env
	uri    string
	dir    string
	server *exec.Cmd // nil while it is away
}

// ErrNoP11Kit means that p11-kit, or its client module, is not installed.
var ErrNoP11Kit = errors.New("p11-kit is missing: install p11-kit and p11-kit-modules")

// NewRemote starts to serve the token with a PKCS #11 URI (RFC 7512), such as "pkcs11:token=office". The
// caller must call Close.
func (e *Env) NewRemote(uri string) (*Remote, error) {
	dir, err := os.MkdirTemp("", "p11") // a socket's path has 107 bytes at most
	if err != nil {
		return nil, fmt.Errorf("softhsm: serve %q: %w", uri, err)
	}
	r := &Remote{env: e, uri: uri, dir: dir}
	if err := r.Return(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return r, nil
}

// RemoteModule returns the path of the module through which programs use a Remote. The error is an
// [ErrNoP11Kit].
func RemoteModule() (string, error) {
	for _, pattern := range []string{"/usr/lib/*/pkcs11/p11-kit-client.so", "/usr/lib64/pkcs11/p11-kit-client.so", "/usr/lib/pkcs11/p11-kit-client.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("softhsm: %w", ErrNoP11Kit)
}

// Environ returns what the environment of such a program needs.
func (r *Remote) Environ() []string {
	return []string{"P11_KIT_SERVER_ADDRESS=unix:path=" + r.socket()}
}

func (r *Remote) socket() string { return filepath.Join(r.dir, "s") }

// Return serves the token again after GoAway.
func (r *Remote) Return() error {
	server := exec.Command("p11-kit", "server", "-f", "-p", r.env.Module(), "-n", r.socket(), r.uri)
	server.Env = append(os.Environ(), r.env.Environ()...)
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with those that serve its connections
	if err := server.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = ErrNoP11Kit
		}
		return fmt.Errorf("softhsm: serve %q: %w", r.uri, err)
	}
	r.server = server
	for range 1000 {
		if _, err := os.Stat(r.socket()); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.GoAway()
	return fmt.Errorf("softhsm: serve %q: the socket does not appear", r.uri)
}

// GoAway ends the server and all connections.
func (r *Remote) GoAway() {
	if r.server == nil {
		return
	}
	_ = syscall.Kill(-r.server.Process.Pid, syscall.SIGKILL)
	_ = r.server.Wait()
	_ = os.Remove(r.socket())
	r.server = nil
}

// Close ends the server and removes the socket.
func (r *Remote) Close() error {
	r.GoAway()
	return os.RemoveAll(r.dir)
}
