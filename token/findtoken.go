package token

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/miekg/pkcs11"
)

// Find returns the one token that the selector names, of all tokens that the modules show. Its
// Info has the module. A token that two modules show is ambiguous too: only the caller can say
// which is meant. The modules are asked through list, as in [ListAll], or if it is nil in this
// process; then a module that does not answer within 10 seconds ends the search. The errors are
// [ErrNoToken], [ErrAmbiguous] and [ErrModule].
func Find(ctx context.Context, modules []ModuleConfig, sel Selector, list Lister) (Info, error) {
	began := time.Now()
	for try := 1; ; try++ {
		info, err := searchModules(ctx, modules, answerTimeout, ReadTokens, list).pick(ctx, sel)
		// As in attach: SoftHSM hides a token that another process is logging in to.
		if try == attachTries || !errors.Is(err, ErrNoToken) || time.Since(began) > time.Second {
			return info, err
		}
		time.Sleep(attachPause)
	}
}

// pick is [find] over all modules.
func (s searched) pick(ctx context.Context, sel Selector) (Info, error) {
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

// find returns the one token of a module that the selector names.
func find(ctx *pkcs11.Ctx, module string, sel Selector) (Info, error) {
	all, err := tokens(ctx, module)
	if err != nil {
		return Info{}, err
	}
	return pick(all, module, sel)
}

func pick(all []Info, module string, sel Selector) (Info, error) {
	op := "find the token in " + module
	var match []Info
	var broken error
	for _, info := range all {
		if info.Problem != "" {
			broken = cmp.Or(broken, info.problem)
		} else if info.Initialized && sel.matches(info) {
			match = append(match, info)
		}
	}
	switch len(match) {
	case 1:
		return match[0], nil
	case 0:
		return Info{}, &Error{Op: op, Token: sel.String(), Kind: ErrNoToken, Err: broken, Facts: &TokensFound{Selector: sel, Tokens: all}}
	}
	return Info{}, &Error{Op: op, Token: sel.String(), Kind: ErrAmbiguous, Facts: &TokensFound{Selector: sel, Tokens: match}}
}
