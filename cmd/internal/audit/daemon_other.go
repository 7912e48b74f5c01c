//go:build !linux

package audit

var names = []string{toFile}

// Destinations is what a destination can be on this kind of system.
const Destinations = "file:PATH with an absolute path"

func openDaemon(destination) (sink, error) { return nil, ErrDestination }
