// Package message prints errors, warnings and notes on the standard error, for people or, under
// --json, as one JSON object a line.
package message

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/hint"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// Program is the name of the program, which begins each message.
var Program = "hsmkeys"

// JSON makes messages JSON, as --json asks for.
var JSON bool

// A Document is a message for programs. One of the first three fields is set. Its form is stable.
type Document struct {
	Error   string `json:"error,omitempty"`
	Warning string `json:"warning,omitempty"`
	Note    string `json:"note,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Status  int    `json:"status,omitempty"` // exit status of an error
}

func (d Document) print() {
	e := json.NewEncoder(os.Stderr)
	e.SetEscapeHTML(false)
	_ = e.Encode(d) // a failure to write to stderr cannot be reported anywhere
}

// Error prints an error and its hint.
func Error(err error) {
	what, help := text.Line(err.Error()), text.Line(hint.For(err))
	if JSON {
		Document{Error: what, Hint: help, Status: failure.Status(err)}.print()
		return
	}
	fmt.Fprintln(os.Stderr, terminal.Paint(os.Stderr, terminal.Red, Program+":")+" "+what)
	if help != "" {
		fmt.Fprintln(os.Stderr, "hint: "+help)
	}
}

// Note prints something that is not a failure.
func Note(format string, args ...any) {
	Print("note: " + text.Line(fmt.Sprintf(format, args...)))
}

// Warn prints a failure that does not stop the command.
func Warn(err error) {
	Print("warning: " + text.Line(err.Error()))
}

// Print prints a note or a warning, which begins with that word. The age plugin replaces it: age
// does not show the plugin's stderr.
var Print = func(message string) {
	rest, warning := strings.CutPrefix(message, "warning:")
	switch {
	case JSON && warning:
		Document{Warning: strings.TrimSpace(rest)}.print()
		return
	case JSON:
		Document{Note: strings.TrimSpace(strings.TrimPrefix(message, "note:"))}.print()
		return
	case warning:
		message = terminal.Paint(os.Stderr, terminal.Yellow, "warning:") + rest
	}
	fmt.Fprintln(os.Stderr, Program+": "+message)
}

// AsksForJSON reports whether the command line asks for JSON. It serves errors that occur before
// the command line is parsed.
func AsksForJSON(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.ContainsFunc(args, func(arg string) bool {
		return slices.Contains([]string{"--json", "-json", "--json=true", "-json=true"}, arg)
	})
}
