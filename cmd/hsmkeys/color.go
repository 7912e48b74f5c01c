package main

import "os"

// Colours say again what the words say already, to somebody who looks at a terminal:
// none carries a meaning of its own.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// colors says whether what is written there may have colours: on a terminal that knows
// them, and not when NO_COLOR is set (https://no-color.org).
func colors(f *os.File) bool {
	kind := os.Getenv("TERM")
	return os.Getenv("NO_COLOR") == "" && kind != "" && kind != "dumb" && isTerminal(f)
}

// paint colours a text that is written to f.
func paint(f *os.File, color, text string) string {
	if !colors(f) {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}
