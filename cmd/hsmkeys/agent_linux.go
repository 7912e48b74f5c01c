package main

import "golang.org/x/sys/unix"

// hideMemory keeps other processes of this user from reading the memory of the agent, as a debugger does
// (PR_SET_DUMPABLE, prctl(2)).
func hideMemory() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
