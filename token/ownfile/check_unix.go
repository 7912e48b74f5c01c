//go:build unix

package ownfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	nonBlocking = syscall.O_NONBLOCK
	noFollow    = syscall.O_NOFOLLOW
)

// thisUser returns the user to whom files must belong. For a setuid program that is the user whose
// rights it has, because the files could misuse them.
func thisUser() int { return os.Geteuid() }

// checkFile checks the file itself.
func checkFile(path string, info fs.FileInfo, user int) error {
	owner, ok := ownerOf(info)
	if !ok || owner != 0 && owner != user {
		return foreign(path, owner, user)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return writable(path, info)
	}
	return nil
}

// checkWay checks the directories and symbolic links through which the name of a file
// leads: the owner of one of them could put another of this user's files in place of the file, such
// as one that they have sent to the user before. In a sticky directory anybody can make a link to any
// file.
func checkWay(path string, user int) error { return checkWayTo(path, user, user) }

// checkWayTo is checkWay, where a directory may also belong to another user, unless anybody could have
// made it.
func checkWayTo(path string, user, other int) error {
	// The owner of the root directory can do anything. In a user namespace that maps only this
	// user, root appears as another user there.
	root := 0
	if info, err := os.Stat("/"); err == nil {
		root, _ = ownerOf(info)
	}
	return Walk(path, func(at string, info, dir fs.FileInfo) error {
		owner, ok := ownerOf(info)
		others := owner == other && dir != nil && dir.Mode().Perm()&0o022 == 0
		if !ok || owner != 0 && owner != user && owner != root && !others {
			return foreign(at, owner, user)
		}
		if info.IsDir() && info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
			return writable(at, info)
		}
		return nil
	})
}

// checkDir checks a directory in which nobody else may make a file.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o022 == 0 {
		return err
	}
	if info.Mode()&fs.ModeSticky != 0 { // such as /tmp, which stays as it is
		return &Error{Path: dir, Reason: "is a directory in which everybody can make files"}
	}
	return writable(dir, info)
}

func ownerOf(info fs.FileInfo) (int, bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, false
	}
	return int(s.Uid), true
}

func foreign(path string, owner, user int) error {
	return &Error{Path: path, Reason: fmt.Sprintf("belongs to user %d, and this program runs as user %d", owner, user)}
}

func writable(path string, info fs.FileInfo) error {
	return &Error{Path: path, Reason: fmt.Sprintf("can be written by its group or by others (mode %04o)", info.Mode().Perm()), Writable: true}
}

// awaitWriter waits until a pipe that was opened without waiting has a writer or something to read:
// before its writer has opened it, a read would find it closed.
func awaitWriter(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var polled error
	err = conn.Control(func(fd uintptr) {
		for {
			_, polled = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if !errors.Is(polled, syscall.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, polled)
}
