//go:build !linux

package main

import "os"

// widenPipe is for Linux.
func widenPipe(*os.File) {}
