//go:build !unix

package server

import (
	"errors"
	"net"
)

// ErrServed means that another agent serves on the socket.
var ErrServed = errors.New("another agent listens there")

// Listen is not supported on this system.
func Listen(string) (net.Listener, func(), error) {
	return nil, nil, errors.New("the agent runs on Linux alone")
}

// ListenForOthers is not supported on this system.
func ListenForOthers(path string) (net.Listener, func(), error) { return Listen(path) }
