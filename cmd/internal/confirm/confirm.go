// Package confirm asks a person to confirm a change of who holds keys. Questions go to the terminal, so
// that stdin and stdout stay free for data.
package confirm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
)

// Possible returns the error of [Ask] where it can ask nobody. Commands call it early, before they
// ask for a PIN.
func Possible(yes bool) error {
	if yes {
		return nil
	}
	tty, err := terminal.Open()
	if err != nil {
		return failure.Usage("there is no terminal to ask; check what is to be done, such as the fingerprints, and add --yes")
	}
	return tty.Close()
}

// Ask shows details and asks the question, unless yes, the option --yes, has answered it. Any answer
// but y or yes is an error.
func Ask(ctx context.Context, yes bool, details [][]string, question string) error {
	if yes {
		return nil
	}
	if err := Possible(false); err != nil {
		return err
	}
	tty, err := terminal.Open()
	if err != nil {
		return err
	}
	defer tty.Close()
	if err := output.WriteTable(tty, details); err != nil {
		return err
	}
	fmt.Fprintf(tty, "%s [y/N] ", question)
	ended := context.AfterFunc(ctx, func() { fmt.Fprintln(tty) })
	line, err := bufio.NewReader(tty).ReadString('\n')
	if ended() && err != nil { // ^D; or else the terminal has echoed the end of the line
		fmt.Fprintln(tty)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return errors.New("nothing was done: the answer was not yes")
	}
	return nil
}
