package terminal

import "os"

// Colours of [Paint]. They repeat what the words say: none carries a meaning of its own.
const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// colors reports whether output to f may have colours: f is a terminal that knows them, and NO_COLOR
// is not set (https://no-color.org).
func colors(f *os.File) bool {
	kind := os.Getenv("TERM")
	return os.Getenv("NO_COLOR") == "" && kind != "" && kind != "dumb" && Is(f)
}

// Paint returns text in a colour if output to f may have colours.
func Paint(f *os.File, color, text string) string {
	if !colors(f) {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}
