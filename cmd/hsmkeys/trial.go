package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/hint"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

// This file tries modules in a process of their own, so that one that hangs, crashes, ends
// the process or eats up the memory does not take the others with it.

// trialWord is what the program calls itself with: what to try, for how long, the module.
const trialWord = "__try-module"

// What a trial looks at.
const (
	tryTokens = "tokens" // what token.Look does: whoever searches in many modules
	tryAll    = "all"    // what the module is, and what its tokens do
)

const (
	// searchWithin is how long a module may take in a search: another one has the token.
	searchWithin = 10 * time.Second
	// trialGrace is for a process to start and to tell that its module was late.
	trialGrace = 10 * time.Second
	// trialMemory bounds the data of the process, beside the stacks of its threads. It needs
	// some 70 MB itself.
	trialMemory = 384 << 20
	// trialAnswer bounds what it prints, in bytes.
	trialAnswer = 16 << 20
)

// A trial is what was found out about a module.
type trial struct {
	Module token.ModuleInfo `json:"module"`
	Tokens []token.Info     `json:"tokens"`

	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// moduleError is what is wrong with a module, as its trial told.
type moduleError struct{ text, hint string }

func (e *moduleError) Error() string        { return e.text }
func (e *moduleError) Hint() string         { return e.hint }
func (e *moduleError) Is(target error) bool { return target == token.ErrModule }

// tryModule tries a module in a process of its own.
func tryModule(ctx context.Context, what, path string, within time.Duration) (trial, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within+trialGrace, errors.New("late"))
	defer cancel()
	self := "/proc/self/exe" // also where the program was replaced meanwhile
	if runtime.GOOS != "linux" {
		var err error
		if self, err = os.Executable(); err != nil {
			return trial{}, err
		}
	}
	var out, said bounded
	cmd := exec.CommandContext(ctx, self, trialWord, what, within.String(), path)
	cmd.Args[0] = "hsmkeys"
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = time.Second // what the module has started may hold the pipes open
	err := cmd.Run()
	if ctx.Err() != nil && context.Cause(ctx).Error() != "late" {
		return trial{}, context.Cause(ctx)
	}
	var t trial
	if json.Unmarshal(out.Bytes(), &t) == nil {
		if t.Error != "" {
			return t, &moduleError{t.Error, t.Hint}
		}
		return t, nil
	}
	return trial{}, &moduleError{text: lastWords(path, said.String(), ctx.Err(), err)}
}

// lastWords describes the end of a trial that had no answer.
func lastWords(path, said string, late, err error) string {
	what := fmt.Sprintf("module %s", path)
	var fatal string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "hsmkeys: module "); ok {
			return "module " + text
		}
		if fatal == "" && strings.HasPrefix(line, "fatal error: ") {
			fatal = line
		}
	}
	switch {
	case late != nil:
		return what + " did not answer, and was given up"
	case fatal != "":
		return what + " ended its process: " + fatal
	case err != nil:
		return what + " ended its process: " + err.Error()
	}
	return what + " ended its process without an answer"
}

// bounded keeps what is written until it is too much.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > trialAnswer {
		return 0, errors.New("too much is printed")
	}
	return b.Buffer.Write(p)
}

// runTrial is the process of a trial. It prints one JSON document.
func runTrial(args []string) int {
	if len(args) != 3 {
		return failure.StatusUsage
	}
	within, err := time.ParseDuration(args[1])
	if err != nil {
		return failure.StatusUsage
	}
	limitMemory()
	go guard.Watch(within, endLate)
	var t trial
	if args[0] == tryAll {
		if t.Module, err = token.ReadModule(args[2]); err == nil {
			t.Tokens, err = token.List(args[2])
		}
	} else {
		t.Tokens, err = token.Look(args[2])
	}
	if err != nil {
		t.Error, t.Hint = err.Error(), hint.For(err)
	}
	if output.JSON(t) != nil {
		return failure.StatusFailed
	}
	return 0
}

// limitMemory bounds the memory of a trial. What Go reserves and does not use counts under
// RLIMIT_AS, so that is no measure; stacks of threads count in full.
func limitMemory() {
	if runtime.GOOS != "linux" { // elsewhere RLIMIT_DATA says nothing of mmap(2)
		return
	}
	runtime.GOMAXPROCS(2) // or there are as many threads as processors
	const threads = 16
	stack := unix.Rlimit{}
	if unix.Getrlimit(unix.RLIMIT_STACK, &stack) != nil || stack.Cur > 1<<30 {
		stack.Cur = 8 << 20
	}
	limit := trialMemory + threads*stack.Cur
	_ = unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: limit, Max: limit})
}

// endLate ends the program: a call into a module cannot be taken back.
func endLate(late guard.Late) {
	err := &moduleError{late.Error(), "hsmkeys doctor looks at modules; --module-timeout lets them take longer"}
	if f := beforeEnd.Load(); f != nil {
		(*f)(err)
	}
	message.Error(err)
	guard.Exit(failure.StatusToken)
}

// beforeEnd is called with what ended the program, where a command has something to tell
// that it has found out until then.
var beforeEnd atomic.Pointer[func(error)]

var watching sync.Once

// watchModules ends the program when a module does not return from a call in time.
func watchModules(limit time.Duration) {
	watching.Do(func() { go guard.Watch(limit, endLate) })
}

// moduleTimeout is --module-timeout.
func moduleTimeout(c *cli.Context) time.Duration { return c.Duration("module-timeout") }

// search lists the tokens of a module in a search.
func search(c *cli.Context) token.Lister {
	return func(ctx context.Context, path string) ([]token.Info, error) {
		t, err := tryModule(ctx, tryTokens, path, min(searchWithin, moduleTimeout(c)))
		return t.Tokens, err
	}
}

// listed lists the tokens of a module and what they do.
func listed(c *cli.Context) token.Lister {
	return func(ctx context.Context, path string) ([]token.Info, error) {
		t, err := tryModule(ctx, tryAll, path, moduleTimeout(c))
		return t.Tokens, err
	}
}
