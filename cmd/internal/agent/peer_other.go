//go:build !linux

package agent

import (
	"errors"
	"net"
)

var errNoPeer = errors.New("this system does not tell the process at the other end of a socket: the agent runs on Linux alone")

// Peer is not supported on this system.
func Peer(net.Conn) (uid, pid int, gids []int, err error) { return -1, 0, nil, errNoPeer }
