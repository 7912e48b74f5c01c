// Package completion answers shells when somebody presses Tab. It is quick, never asks for
// anything, and answers nothing when something is wrong. Completion of package cli has neither
// values of options nor names of keys, and runs the actions of commands.
package completion

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/stdio"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

//go:embed scripts/hsmkeys.bash
var bashCompletion string

//go:embed scripts/hsmkeys.zsh
var zshCompletion string

//go:embed scripts/hsmkeys.fish
var fishCompletion string

// Scripts are the completion scripts by the name of the shell.
var Scripts = map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}

// Command is the hidden command with which the scripts call the program.
const Command = "__complete"

const (
	// completeWithin ends what hangs: a network file system, a token's daemon.
	completeWithin = 3 * time.Second
	// listWithin is for names and labels; what is known by then is shown.
	listWithin = 2 * time.Second
	// MostCandidates is more than anybody looks through.
	MostCandidates = 1000
)

// Kinds of an answer to a shell.
const (
	KindWords       = "words"
	KindFiles       = "files"       // the shell completes the name of a file
	KindDirectories = "directories" // of a directory
)

// An answer is what may stand in place of the last word.
type answer struct {
	kind       string
	prefix     string // of the word: what stands before the name of the file
	candidates []candidate
}

type candidate struct{ word, about string }

// Main prints an answer: a line with kind and prefix, and then a line for each candidate with its
// description after a tab. args are the shell and the words of the command line, of which the last
// is unfinished.
func Main(newApp func() *cli.App, args []string) {
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
	go func() { done <- answerTo(ctx, newApp, args) }()
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

func answerTo(ctx context.Context, newApp func() *cli.App, args []string) answer {
	a := answer{kind: KindWords}
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
	if a.kind != KindWords {
		a.prefix = l.whole[:len(l.whole)-len(l.word)] + a.prefix
	}
	for i, c := range a.candidates {
		a.candidates[i] = candidate{requote(c.word), text.Line(c.about)}
	}
	return a
}

// A commandLine is what has been typed so far, in the order that [commandline.Arrange] accepts.
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
		if flag != nil && !hasValue && commandline.TakesValue(flag) {
			if i++; i == last {
				l.flag = flag
				return l
			}
			value = words[i]
		}
		if global {
			if !commandline.TakesValue(flag) && !hasValue {
				value = "true"
			}
			l.given[flag.Names()[0]] = value
		}
	}
	if name, value, ok := strings.Cut(l.whole, "="); ok && !l.ended && strings.HasPrefix(name, "-") {
		if flag, _ := l.lookup(strings.TrimLeft(name, "-")); flag != nil && commandline.TakesValue(flag) {
			l.flag, l.word = flag, value
		}
	}
	return l
}

// take handles a word that is not an option: a command as long as there can be one, or an argument.
func (l *commandLine) take(word string) {
	next := commandline.Find(l.command.Subcommands, word)
	if next == nil || len(l.args) > 0 || l.ended {
		l.args = append(l.args, word)
		return
	}
	l.path, l.command = append(l.path, next.Name), next
}

func (l *commandLine) lookup(name string) (_ cli.Flag, global bool) {
	if f := commandline.Lookup(l.command.Flags, name); f != nil {
		return f, false
	}
	f := commandline.Lookup(l.app.Flags, name)
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
	if l.ended && strings.HasPrefix(l.command.ArgsUsage, "-- ") { // a command of the shell's
		return answer{kind: KindFiles}
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
	a := answer{kind: KindWords}
	for _, c := range commands {
		if !c.Hidden {
			a.candidates = append(a.candidates, candidate{c.Name, c.Usage})
		}
	}
	return a
}

func (l *commandLine) options() answer {
	a := answer{kind: KindWords}
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
