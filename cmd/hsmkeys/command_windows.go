package main

import (
	"errors"
	"os"
)

func takeSignals() <-chan os.Signal { return nil }

func runCommand([]string, []string, <-chan os.Signal) error {
	return errors.New("commands are run on Linux alone")
}
