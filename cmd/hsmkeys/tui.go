package main

// This file owns the terminal. What is asked for goes to /dev/tty, so that stdin
// and stdout stay free for data; nothing that is typed here is echoed or kept.

import (
	"github.com/urfave/cli/v2"
)

func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Usage: "do not ask"}
}
