//go:build !unix

package unixsocket

import (
	"errors"
	"net"
)

// ErrServed means that another process listens on the socket.
var ErrServed = errors.New("another process listens there")

// Listen is not supported on this system.
func Listen(string) (net.Listener, func(), error) {
	return nil, nil, errors.New("this program listens on Linux alone")
}

// ListenForOthers is not supported on this system.
func ListenForOthers(path string) (net.Listener, func(), error) { return Listen(path) }
