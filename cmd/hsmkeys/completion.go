package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/stdio"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/text"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

// This file is what shells call when somebody presses Tab. It must be fast, it never
// asks, and whatever goes wrong there is just nothing to choose from.

//go:embed completion/hsmkeys.bash
var bashCompletion string

//go:embed completion/hsmkeys.zsh
var zshCompletion string

//go:embed completion/hsmkeys.fish
var fishCompletion string

var completionScripts = map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print the completion script for a shell: bash, zsh or fish", ArgsUsage: "SHELL",
		Description: "It completes commands, options and their values, the names of keys in the store, the labels of\n" +
			"tokens, and files. Neither does it ask for a PIN nor does it verify anything.",
		Action: func(c *cli.Context) error {
			shell, err := oneArgument(c, "the SHELL: bash, zsh or fish")
			if err != nil {
				return err
			}
			script, ok := completionScripts[shell]
			if !ok {
				return failure.Usage("there is a completion for bash, zsh and fish, not for %q", shell)
			}
			_, err = io.WriteString(c.App.Writer, script)
			return err
		},
	}
}

// completeWord is what the scripts call the program with.
const completeWord = "__complete"

const (
	// completeWithin ends what hangs: a network file system, a token's daemon.
	completeWithin = 3 * time.Second
	// listWithin is for names and labels; what is known by then is shown.
	listWithin = 2 * time.Second
	// mostCandidates is more than anybody looks through.
	mostCandidates = 1000
)

// Kinds of an answer to a shell.
const (
	kindWords       = "words"
	kindFiles       = "files"       // the shell completes the name of a file
	kindDirectories = "directories" // of a directory
)

// An answer is what may stand in the place of the last word.
type answer struct {
	kind       string
	prefix     string // of the word: what stands before the name of the file
	candidates []candidate
}

type candidate struct{ word, about string }

// complete prints an answer: a line with kind and prefix, and then a line for each
// candidate with what it is about after a tab. args are the shell and the words of the
// command line, of which the last is not finished.
func complete(args []string) {
	// Nothing of what a module prints, or this program when one crashes it, belongs into a
	// command line.
	stderr := os.Stderr
	if _, err := stdio.Mute(); err != nil {
		return
	}
	os.Stderr = stderr
	guard.NoticeEnds(2, 0)
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()
	done := make(chan answer, 1)
	go func() { done <- answerTo(ctx, args) }()
	select {
	case a := <-done:
		w := bufio.NewWriter(os.Stdout)
		defer w.Flush()
		fmt.Fprintf(w, "%s\t%s\n", a.kind, a.prefix)
		for _, c := range a.candidates {
			fmt.Fprintf(w, "%s\t%s\n", c.word, c.about)
		}
	case <-ctx.Done(): // it may be in a module or in the kernel, from where nothing calls it back
	}
}

func answerTo(ctx context.Context, args []string) answer {
	a := answer{kind: kindWords}
	if len(args) < 2 {
		return a
	}
	requote := func(word string) string { return word }
	words := slices.Clone(args[1:])
	if args[0] == "bash" {
		breaks, raw := words[0], words[1:]
		if len(raw) == 0 {
			return a
		}
		requote = bashQuoting(breaks, raw[len(raw)-1])
		words = words[1:]
		for i, word := range raw {
			words[i], _ = bashUnquote(word)
		}
	}
	app := newApp()
	l := readLine(app, words)
	a = l.answer(ctx)
	a.candidates = slices.DeleteFunc(a.candidates, func(c candidate) bool {
		return !strings.HasPrefix(c.word, l.whole) || c.word != text.Line(c.word)
	})
	slices.SortStableFunc(a.candidates, func(a, b candidate) int { return strings.Compare(a.word, b.word) })
	a.candidates = slices.CompactFunc(a.candidates, func(a, b candidate) bool { return a.word == b.word })
	if a.kind != kindWords {
		a.prefix = l.whole[:len(l.whole)-len(l.word)] + a.prefix
	}
	for i, c := range a.candidates {
		a.candidates[i] = candidate{requote(c.word), text.Line(c.about)}
	}
	return a
}

// A commandLine is what has been typed so far, read as arrange reads it.
type commandLine struct {
	app     *cli.App
	path    []string // the full name of the command
	command *cli.Command
	given   map[string]string // values of global options
	args    []string

	flag  cli.Flag // whose value the last word is, or the rest of it
	whole string   // the last word
	word  string   // the last word, without the --option= before a value
	ended bool     // there was a --
}

func readLine(app *cli.App, words []string) *commandLine {
	l := &commandLine{app: app, command: &cli.Command{Subcommands: app.Commands}, given: map[string]string{}}
	last := len(words) - 1
	l.whole, l.word = words[last], words[last]
	for i := 0; i < last; i++ {
		word := words[i]
		if l.ended || len(word) < 2 || word[0] != '-' {
			l.take(word)
			continue
		}
		if word == "--" {
			l.ended = true
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
		flag, global := l.lookup(name)
		if flag != nil && !hasValue && takesValue(flag) {
			if i++; i == last {
				l.flag = flag
				return l
			}
			value = words[i]
		}
		if global {
			if !takesValue(flag) && !hasValue {
				value = "true"
			}
			l.given[flag.Names()[0]] = value
		}
	}
	if name, value, ok := strings.Cut(l.whole, "="); ok && !l.ended && strings.HasPrefix(name, "-") {
		if flag, _ := l.lookup(strings.TrimLeft(name, "-")); flag != nil && takesValue(flag) {
			l.flag, l.word = flag, value
		}
	}
	return l
}

// take takes a word that is no option: a command, as long as there can be one, or an
// argument.
func (l *commandLine) take(word string) {
	next := find(l.command.Subcommands, word)
	if next == nil || len(l.args) > 0 || l.ended {
		l.args = append(l.args, word)
		return
	}
	l.path, l.command = append(l.path, next.Name), next
}

func (l *commandLine) lookup(name string) (_ cli.Flag, global bool) {
	if f := lookup(l.command.Flags, name); f != nil {
		return f, false
	}
	f := lookup(l.app.Flags, name)
	return f, f != nil
}

func (l *commandLine) answer(ctx context.Context) answer {
	switch {
	case l.flag != nil:
		a := l.value(ctx)
		option := strings.TrimSuffix(l.whole, l.word)
		for i := range a.candidates {
			a.candidates[i].word = option + a.candidates[i].word
		}
		return a
	case strings.HasPrefix(l.word, "-") && !l.ended:
		return l.options()
	case len(l.command.Subcommands) > 0 && len(l.args) == 0:
		return subcommands(l.command.Subcommands)
	}
	if takes := l.takes(); takes != "" {
		return l.named(ctx, takes)
	}
	if len(l.path) > 0 && l.word == "" && !l.ended {
		return l.options()
	}
	return words()
}

func subcommands(commands []*cli.Command) answer {
	a := answer{kind: kindWords}
	for _, c := range commands {
		if !c.Hidden {
			a.candidates = append(a.candidates, candidate{c.Name, c.Usage})
		}
	}
	return a
}

func (l *commandLine) options() answer {
	a := answer{kind: kindWords}
	for _, f := range append(slices.Clone(l.command.Flags), l.app.Flags...) {
		about := ""
		if d, ok := f.(cli.DocGenerationFlag); ok {
			about = strings.ReplaceAll(d.GetUsage(), "`", "")
		}
		if visible, ok := f.(cli.VisibleFlag); ok && visible.IsVisible() {
			a.candidates = append(a.candidates, candidate{"--" + f.Names()[0], about})
		}
	}
	return a
}
