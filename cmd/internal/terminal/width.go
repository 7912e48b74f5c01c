package terminal

import "golang.org/x/term"

// A File is what can be a terminal: an [os.File] or a [TTY].
type File interface{ Fd() uintptr }

// Wide turns off fitting to the width of the terminal, as --wide asks for.
var Wide bool

// Width returns the number of columns of the terminal f, or 0 for no limit: f is not a terminal or
// does not know its width, or [Wide] is set.
func Width(f File) int {
	if Wide || !Is(f) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}
