package agent

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Peer returns the process at the other end of a Unix socket: who it was when it connected
// (SO_PEERCRED, unix(7)).
func Peer(socket net.Conn) (uid, gid, pid int, err error) {
	var cred *unix.Ucred
	err = onSocket(socket, func(fd int) (err error) {
		cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil {
		return -1, -1, 0, err
	}
	return int(cred.Uid), int(cred.Gid), int(cred.Pid), nil
}

// ofThisUser reports whether the process at the other end runs as this user.
func ofThisUser(socket net.Conn) (bool, error) {
	uid, _, _, err := Peer(socket)
	return uid == os.Geteuid(), err
}

func onSocket(socket net.Conn, f func(fd int) error) error {
	u, ok := socket.(*net.UnixConn)
	if !ok {
		return errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
