package token

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/miekg/pkcs11"
)

// List returns the tokens that a module shows, blank ones too, and tries what each can do. It
// needs no PIN. A token that cannot be read is in the list with its Problem.
func List(module string) ([]Info, error) {
	module = resolve(module)
	librariesMu.Lock()
	defer librariesMu.Unlock()
	var all []Info
	err := withModule(module, func(ctx *pkcs11.Ctx) error {
		var err error
		if all, err = tokens(ctx, module); err != nil {
			return err
		}
		for i := range all {
			if all[i].Problem == "" {
				if all[i].Mechanisms, err = readMechanisms(ctx, all[i].Slot); err != nil {
					all[i].unreadable("list its mechanisms", err)
				}
			}
		}
		return probeAll(ctx, all)
	})
	return all, err
}

// ReadTokens returns the tokens that a module shows, like [List], but tries nothing: it reads no
// more than CK_TOKEN_INFO.
func ReadTokens(module string) (all []Info, err error) {
	module = resolve(module)
	librariesMu.Lock()
	defer librariesMu.Unlock()
	err = withModule(module, func(ctx *pkcs11.Ctx) error {
		all, err = tokens(ctx, module)
		return err
	})
	return all, err
}

// tokens reads the tokens that are in their slots. A token that cannot be read has a Problem, and
// must not keep the others from being used.
func tokens(ctx *pkcs11.Ctx, module string) ([]Info, error) {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return nil, &Error{Op: "list slots", Token: module, Kind: ErrModule, Err: err}
	}
	var all []Info
	for _, slot := range slots {
		info, err := readInfo(ctx, module, slot)
		if is(err, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_DEVICE_REMOVED) {
			continue // removed since the list was made, or of a kind that the module cannot read
		}
		if err != nil {
			info = Info{Module: module, Slot: slot}
			info.unreadable("read the token", err)
		}
		all = append(all, info)
	}
	return all, nil
}

// A Lister returns what tokens a module shows, before ctx is done.
type Lister func(ctx context.Context, module string) ([]Info, error)

// ListAll returns the tokens of every module. A module that fails does not stop the others: failed
// has an error for each, whose Token is the module's path. No module is asked twice, whatever its
// names.
//
// The modules are asked through list, all at the same time, or if it is nil by [List] one after
// the other in this process. In this process a module that does not answer within a minute ends
// the search: calls into a module cannot be cancelled, and only one is made at a time. From then
// on the process can open no token, and should exit.
func ListAll(ctx context.Context, modules []ModuleConfig, list Lister) (all []Info, failed []error) {
	s := searchModules(ctx, modules, listTimeout, List, list)
	return s.tokens, s.failed
}

// ReadAllTokens is [ReadTokens] for many modules, for callers that need labels quickly. Modules
// that fail are left out. A module that does not answer before ctx is done ends the list; from
// then on the process can open no token, and should exit.
func ReadAllTokens(ctx context.Context, modules []ModuleConfig) []Info {
	return searchModules(ctx, modules, answerTimeout, ReadTokens, nil).tokens
}

// searched is what was found in the modules.
type searched struct {
	tokens []Info
	failed []error
	looked []string // modules that answered
	hung   error
}

// searchModules asks every module once: through others, or if that is nil through here.
func searchModules(ctx context.Context, modules []ModuleConfig, within time.Duration, here func(module string) ([]Info, error), others Lister) searched {
	var s searched
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
			if a, answered = listWithin(ctx, path, within, here); !answered {
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

// answerTimeout is how long a module may take to show its tokens, and listTimeout how long it may
// take for [List], which also tries what they can do. Some modules wait for a daemon or a network
// that is down.
var answerTimeout, listTimeout = 10 * time.Second, time.Minute

// An answer is that of a module.
type answer struct {
	tokens []Info
	err    error
}

// listWithin calls list, and gives up on a module that does not answer.
func listWithin(ctx context.Context, path string, within time.Duration, list func(string) ([]Info, error)) (_ answer, answered bool) {
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
