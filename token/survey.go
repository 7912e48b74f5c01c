package token

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/miekg/pkcs11"
)

// This file looks for a token in many modules.

// answerWithin is how long a module may take to show its tokens. Some wait for a
// daemon or a network that is not there. List also tries what the tokens can do.
var answerWithin, listWithin = 10 * time.Second, time.Minute

// ListAll is [List] for every module. Those that fail do not stop the others: failed
// has an error for each, whose Token is the module's path. No module is asked twice,
// whatever its names.
//
// One that does not answer within a minute does stop the others: calls into a
// module cannot be taken back, and only one is made at a time. From then on the
// process can open no token, and should end.
func ListAll(ctx context.Context, modules []ModuleConfig) (all []Info, failed []error) {
	s := survey(ctx, modules, listWithin, List)
	return s.tokens, s.failed
}

// Find picks the one token, of all that the modules show, that the selector names.
// Its Info has the module. A token that two modules show is ambiguous too: which one
// is meant, only the caller can say. As with ListAll, a module that does not answer
// stops it, here within 10 seconds. Its errors are [ErrNotFound], [ErrAmbiguous] and
// [ErrModule].
func Find(ctx context.Context, modules []ModuleConfig, sel Selector) (Info, error) {
	began := time.Now()
	for try := 1; ; try++ {
		info, err := survey(ctx, modules, answerWithin, seen).pick(ctx, sel)
		// As in attach: SoftHSM hides a token that another process is logging in to.
		if try == attachTries || !errors.Is(err, ErrNotFound) || time.Since(began) > time.Second {
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

// seen is what a module shows, as [find] looks at it: no token is tried that is only
// passed by.
func seen(module string) (all []Info, err error) {
	librariesMu.Lock()
	defer librariesMu.Unlock()
	err = visit(module, func(ctx *pkcs11.Ctx) error {
		all, err = tokens(ctx, module)
		return err
	})
	return all, err
}

func survey(ctx context.Context, modules []ModuleConfig, within time.Duration, list func(module string) ([]Info, error)) surveyed {
	var s surveyed
	done := map[string]bool{}
	for _, m := range modules {
		path := resolve(m.Path)
		if m.Err != nil {
			s.failed = append(s.failed, m.Err)
			continue
		}
		if done[path] || ctx.Err() != nil {
			continue
		}
		done[path] = true
		found, err, answered := ask(ctx, path, within, list)
		switch {
		case !answered:
			s.hung = err
			s.failed = append(s.failed, err)
			return s
		case err != nil:
			s.failed = append(s.failed, err)
		default:
			s.looked = append(s.looked, path)
			s.tokens = append(s.tokens, found...)
		}
	}
	return s
}

// ask leaves a module alone that does not answer.
func ask(ctx context.Context, path string, within time.Duration, list func(string) ([]Info, error)) (_ []Info, _ error, answered bool) {
	type answer struct {
		tokens []Info
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		found, err := list(path)
		done <- answer{found, err}
	}()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case a := <-done:
		return a.tokens, a.err, true
	case <-ctx.Done():
		return nil, ctx.Err(), false
	case <-timer.C:
		return nil, &Error{Op: "list its tokens", Token: path, Kind: ErrModule, Err: fmt.Errorf("no answer within %v", within),
			hint: "name the module you want with --module, or write disable-in: " + program + " into this one's configuration for p11-kit"}, false
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
	var match []Info
	have := map[string][]string{}
	for _, info := range s.tokens {
		if !info.Initialized {
			continue
		}
		have[info.Module] = append(have[info.Module], fmt.Sprintf("%q", info.Label))
		if sel.matches(info) {
			match = append(match, info)
		}
	}
	const op = "find the token in the modules that p11-kit knows"
	switch len(match) {
	case 1:
		return match[0], nil
	case 0:
		var looked []string
		for _, path := range s.looked {
			tokens := strings.Join(have[path], ", ")
			if tokens == "" {
				tokens = "no token"
			}
			looked = append(looked, fmt.Sprintf("%s (%s)", path, tokens))
		}
		for _, err := range s.failed {
			looked = append(looked, err.Error())
		}
		if looked == nil {
			looked = []string{"p11-kit knows no module"}
		}
		return Info{}, &Error{Op: op, Token: sel.String(), Kind: ErrNotFound,
			hint: "looked at: " + strings.Join(looked, "; ") + "; another module is named with --module"}
	default:
		var serials []string
		for _, info := range match {
			serials = append(serials, fmt.Sprintf("pkcs11:serial=%s?module-path=%s (%q, slot %d)",
				url.PathEscape(info.Serial), escapePath(info.Module), info.Label, info.Slot))
		}
		return Info{}, &Error{Op: op, Token: sel.String(), Kind: ErrAmbiguous,
			hint: "name one by its serial and module: " + strings.Join(serials, ", ")}
	}
}
