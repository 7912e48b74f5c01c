package agent

import (
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer returns the process at the other end of a Unix socket, and its groups, as they were when it
// connected (SO_PEERCRED and SO_PEERGROUPS, unix(7)).
func Peer(socket net.Conn) (uid, pid int, gids []int, err error) {
	err = onSocket(socket, func(fd int) error {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return err
		}
		uid, pid, gids = int(cred.Uid), int(cred.Pid), []int{int(cred.Gid)}
		more, err := peerGroups(fd)
		for _, gid := range more {
			gids = append(gids, int(gid))
		}
		return err
	})
	return uid, pid, gids, err
}

// peerGroups returns the supplementary groups of the process at the other end of a socket. Package unix
// has no function for the option.
func peerGroups(fd int) ([]uint32, error) {
	for size := 64; ; {
		groups := make([]uint32, size)
		length := uint32(4 * size) // bytes
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&length)), 0)
		needed := int(length / 4)
		switch {
		case errno == unix.ERANGE && needed > size:
			size = needed
		case errno != 0:
			return nil, errno
		default:
			return groups[:needed], nil
		}
	}
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
