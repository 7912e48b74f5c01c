//go:build unix

// Package unixsocket makes the sockets that the programs listen on.
package unixsocket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// ErrServed means that another process listens on the socket.
var ErrServed = errors.New("another process listens there")

// Listen makes a Unix socket for this user, in a directory that only this user can write to, which it makes
// if it does not exist. A socket that nobody listens on any more is replaced. The caller must call
// release at the end.
func Listen(path string) (l net.Listener, release func(), err error) {
	return listen(path, 0o700, 0o600)
}

// ListenForOthers is [Listen] for a socket that other users may connect to.
func ListenForOthers(path string) (l net.Listener, release func(), err error) {
	return listen(path, 0o755, 0o666)
}

// maxPath is the maximal length of the path of a Unix socket, in bytes (unix(7)).
const maxPath = 107

func listen(path string, dirMode, mode fs.FileMode) (l net.Listener, release func(), err error) {
	fail := func(err error) (net.Listener, func(), error) {
		return nil, nil, fmt.Errorf("listen on %q: %w", path, err)
	}
	if len(path) > maxPath {
		return fail(fmt.Errorf("the path of a socket has at most %d bytes, and this one %d", maxPath, len(path)))
	}
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail(err)
	}
	if err := ownfile.CheckPlaceOf(path, os.Geteuid()); err != nil {
		return fail(err)
	}
	// The lock decides between two processes that start at the same time: each would take the other's
	// socket for one that nobody listens on, before the other has begun to.
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fail(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrServed
		}
		return fail(err)
	}
	if l, err = bind(path, mode); err != nil {
		_ = lock.Close()
		return fail(err)
	}
	return l, func() { _ = lock.Close() }, nil
}

// bind makes the socket. The lock must be held.
func bind(path string, mode fs.FileMode) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			return nil, errors.New("something else than a socket is there")
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	before := syscall.Umask(int(0o777 &^ mode)) // no moment at which others could connect
	defer syscall.Umask(before)
	return net.Listen("unix", path)
}
