package token

import (
	"context"

	"github.com/miekg/pkcs11"
)

// Look returns what tokens a module shows, as [List] does, and tries nothing: no more is
// asked than each token's CK_TOKEN_INFO.
func Look(module string) (all []Info, err error) {
	module = resolve(module)
	librariesMu.Lock()
	defer librariesMu.Unlock()
	err = visit(module, func(ctx *pkcs11.Ctx) error {
		all, err = tokens(ctx, module)
		return err
	})
	return all, err
}

// Seen returns what [Look] does of many modules. It is for those who want labels soon.
// Modules that fail are left out; one that does not answer before ctx is done ends the list.
// After that the process can open no token, and should end.
func Seen(ctx context.Context, modules []ModuleConfig) []Info {
	return survey(ctx, modules, answerWithin, Look, nil).tokens
}
