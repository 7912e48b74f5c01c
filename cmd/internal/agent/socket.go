package agent

import (
	"errors"
	"io/fs"
	"syscall"
)

// Variable is the environment variable that names the socket of the agent.
const Variable = "HSMKEYS_AGENT"

// absent reports whether an error of connecting means that nothing listens on the socket.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTSOCK)
}
