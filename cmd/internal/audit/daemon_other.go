//go:build !linux

package audit

func openDaemon(destination) (sink, error) { return nil, ErrDestination }
