package main

import (
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// keep NAME FILE: the variable is the one line that a file has.
func keep(ts *testscript.TestScript, neg bool, args []string) {
	line, ok := strings.CutSuffix(ts.ReadFile(args[1]), "\n")
	if !ok || line == "" || strings.Contains(line, "\n") {
		ts.Fatalf("%s is not one line: %q", args[1], line)
	}
	ts.Setenv(args[0], line)
}
