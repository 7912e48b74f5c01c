package token

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// This file looks for a token in many modules.

// answerWithin is how long a module may take to show its tokens. Some wait for a
// daemon or a network that is not there. List also tries what the tokens can do.
var answerWithin, listWithin = 10 * time.Second, time.Minute

// A Lister returns what tokens a module shows, before ctx is done.
type Lister func(ctx context.Context, module string) ([]Info, error)

// ListAll returns the tokens of every module. Modules that fail do not stop the others:
// failed has an error for each, whose Token is the module's path. No module is asked twice,
// whatever its names.
//
// They are asked by list, all at a time, or where it is nil by [List], one after the other
// in this process. Then one that does not answer within a minute does stop the others: calls
// into a module cannot be taken back, and only one is made at a time. From then on the
// process can open no token, and should end.
func ListAll(ctx context.Context, modules []ModuleConfig, list Lister) (all []Info, failed []error) {
	s := survey(ctx, modules, listWithin, List, list)
	return s.tokens, s.failed
}

// Find picks the one token, of all that the modules show, that the selector names.
// Its Info has the module. A token that two modules show is ambiguous too: which one
// is meant, only the caller can say. The modules are asked by list, as in [ListAll], or
// where it is nil in this process, and then one that does not answer within 10 seconds
// stops it. Its errors are [ErrNoToken], [ErrAmbiguous] and [ErrModule].
func Find(ctx context.Context, modules []ModuleConfig, sel Selector, list Lister) (Info, error) {
	began := time.Now()
	for try := 1; ; try++ {
		info, err := survey(ctx, modules, answerWithin, Look, list).pick(ctx, sel)
		// As in attach: SoftHSM hides a token that another process is logging in to.
		if try == attachTries || !errors.Is(err, ErrNoToken) || time.Since(began) > time.Second {
			return info, err
		}
		time.Sleep(attachPause)
	}
}

// surveyed is what was seen in the modules.
type surveyed struct {
	tokens []Info
	failed []error
	looked []string // modules that answered
	hung   error
}

// survey asks every module once, by others or else by here.
func survey(ctx context.Context, modules []ModuleConfig, within time.Duration, here func(module string) ([]Info, error), others Lister) surveyed {
	var s surveyed
	done := map[string]bool{}
	var paths []string
	for _, m := range modules {
		path := resolve(m.Path)
		switch {
		case m.Err != nil:
			s.failed = append(s.failed, m.Err)
		case !done[path]:
			done[path] = true
			paths = append(paths, path)
		}
	}
	answers := make([]answer, len(paths))
	if others != nil {
		var wait sync.WaitGroup
		for i, path := range paths {
			wait.Go(func() {
				found, err := others(ctx, path)
				answers[i] = answer{found, err}
			})
		}
		wait.Wait()
	}
	for i, path := range paths {
		if ctx.Err() != nil {
			break
		}
		a := answers[i]
		if others == nil {
			var answered bool
			if a, answered = ask(ctx, path, within, here); !answered {
				s.hung = a.err
				s.failed = append(s.failed, a.err)
				return s
			}
		}
		if a.err != nil {
			s.failed = append(s.failed, a.err)
			continue
		}
		s.looked = append(s.looked, path)
		s.tokens = append(s.tokens, a.tokens...)
	}
	return s
}

// answer is what a module answered.
type answer struct {
	tokens []Info
	err    error
}

// ask leaves a module alone that does not answer.
func ask(ctx context.Context, path string, within time.Duration, list func(string) ([]Info, error)) (_ answer, answered bool) {
	done := make(chan answer, 1)
	go func() {
		found, err := list(path)
		done <- answer{found, err}
	}()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case a := <-done:
		return a, true
	case <-ctx.Done():
		return answer{err: ctx.Err()}, false
	case <-timer.C:
		return answer{err: &Error{Op: "list its tokens", Token: path, Kind: ErrModule, Err: fmt.Errorf("%w within %v", ErrNoAnswer, within)}}, false
	}
}

// pick is [find] over all modules.
func (s surveyed) pick(ctx context.Context, sel Selector) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	if s.hung != nil {
		return Info{}, s.hung
	}
	const op = "find the token in the modules that p11-kit knows"
	var match []Info
	for _, info := range s.tokens {
		if info.Problem == "" && info.Initialized && sel.matches(info) {
			match = append(match, info)
		}
	}
	facts := &TokensFound{Selector: sel, Tokens: match, Searched: true, Modules: s.looked, Failed: s.failed}
	switch len(match) {
	case 1:
		return match[0], nil
	case 0:
		facts.Tokens = s.tokens
		return Info{}, &Error{Op: op, Token: sel.String(), Kind: ErrNoToken, Facts: facts}
	}
	return Info{}, &Error{Op: op, Token: sel.String(), Kind: ErrAmbiguous, Facts: facts}
}
