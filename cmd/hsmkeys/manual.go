//go:build manual

// Command hsmkeys, built with the tag manual, is another program: it writes the manual pages of the
// command line below a directory. It is run when packages are made, so that hsmkeys itself does not
// link what turns Markdown into roff.
package main

import (
	"fmt"
	"os"

	"github.com/hsmkeys/hsmkeys/cmd/internal/manual"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run -tags manual ./cmd/hsmkeys DIRECTORY")
		os.Exit(2)
	}
	if err := manual.Write(newApp(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
