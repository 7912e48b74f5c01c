// Package trial runs PKCS #11 modules in a process of their own, so that one that hangs, crashes, ends
// the process or uses up the memory does not affect the others; and it ends this process when a
// module does not return.
package trial

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

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/hint"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

// Command is the hidden command with which the program calls itself. Its arguments are the scope, the
// time limit and the module.
const Command = "__try-module"

// A Scope is how much of a module a trial looks at.
type Scope string

const (
	Tokens     Scope = "tokens" // its tokens, as [token.ReadTokens] does
	Everything Scope = "all"    // the module itself, its tokens, and what they can do
)

const (
	// searchWithin is how long a module may take in a search: another one may have the token.
	searchWithin = 10 * time.Second
	// grace is the time for a process to start and to report that its module was late.
	grace = 10 * time.Second
	// maxAnswer is the maximal size of the process's output, in bytes.
	maxAnswer = 16 << 20
)

// A Result is what a trial has found out about a module.
type Result struct {
	Module token.ModuleInfo `json:"module"`
	Tokens []token.Info     `json:"tokens"`

	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// moduleError is what is wrong with a module, as its trial reported.
type moduleError struct{ text, hint string }

func (e *moduleError) Error() string        { return e.text }
func (e *moduleError) Hint() string         { return e.hint }
func (e *moduleError) Is(target error) bool { return target == token.ErrModule }

// Run tries a module in a process of its own.
func Run(ctx context.Context, scope Scope, path string, within time.Duration) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within+grace, errors.New("late"))
	defer cancel()
	self := "/proc/self/exe" // works even if the file of the program has been replaced
	if runtime.GOOS != "linux" {
		var err error
		if self, err = os.Executable(); err != nil {
			return Result{}, err
		}
	}
	var out, said bounded
	cmd := exec.CommandContext(ctx, self, Command, string(scope), within.String(), path)
	cmd.Args[0] = "hsmkeys"
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = time.Second // processes that the module has started may hold the pipes open
	err := cmd.Run()
	if ctx.Err() != nil && context.Cause(ctx).Error() != "late" {
		return Result{}, context.Cause(ctx)
	}
	var t Result
	if json.Unmarshal(out.Bytes(), &t) == nil {
		if t.Error != "" {
			return t, &moduleError{t.Error, t.Hint}
		}
		return t, nil
	}
	return Result{}, &moduleError{text: lastWords(path, said.String(), ctx.Err(), err)}
}

// lastWords describes how a trial without an answer ended.
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

// bounded is a buffer that accepts maxAnswer bytes.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxAnswer {
		return 0, errors.New("too much is printed")
	}
	return b.Buffer.Write(p)
}

// Main is the process of a trial. It prints one JSON document, and returns the exit status.
func Main(args []string) int {
	if len(args) != 3 {
		return failure.StatusUsage
	}
	within, err := time.ParseDuration(args[1])
	if err != nil {
		return failure.StatusUsage
	}
	limitMemory()
	go guard.Watch(within, endLate)
	var t Result
	if Scope(args[0]) == Everything {
		if t.Module, err = token.ReadModule(args[2]); err == nil {
			t.Tokens, err = token.List(args[2])
		}
	} else {
		t.Tokens, err = token.ReadTokens(args[2])
	}
	if err != nil {
		t.Error, t.Hint = err.Error(), hint.For(err)
	}
	if output.JSON(t) != nil {
		return failure.StatusFailed
	}
	return 0
}

// endLate ends the program, since a call into a module cannot be aborted.
func endLate(late guard.Late) {
	err := &moduleError{late.Error(), "hsmkeys doctor looks at modules; --module-timeout lets them take longer"}
	if f := BeforeEnd.Load(); f != nil {
		(*f)(err)
	}
	message.Error(err)
	guard.Exit(failure.StatusToken)
}

// BeforeEnd is called with the error that ends the program, so that a command can print what it has
// found out so far.
var BeforeEnd atomic.Pointer[func(error)]

var watching sync.Once

// Watch ends the program when a module does not return from a call within the limit. Only the first
// call has an effect.
func Watch(limit time.Duration) {
	watching.Do(func() { go guard.Watch(limit, endLate) })
}

// Search returns a function that lists the tokens of a module in a search, with a limit for calls
// into the module.
func Search(limit time.Duration) token.Lister {
	return func(ctx context.Context, path string) ([]token.Info, error) {
		t, err := Run(ctx, Tokens, path, min(searchWithin, limit))
		return t.Tokens, err
	}
}

// List returns a function that lists the tokens of a module and what they can do, with a limit for
// calls into the module.
func List(limit time.Duration) token.Lister {
	return func(ctx context.Context, path string) ([]token.Info, error) {
		t, err := Run(ctx, Everything, path, limit)
		return t.Tokens, err
	}
}
