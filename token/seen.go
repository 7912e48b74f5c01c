package token

import "context"

// Seen is what the modules show, without what [List] tries with the tokens: nothing is
// written, and no more is asked than each token's CK_TOKEN_INFO. It is for those who
// want labels soon. Modules that fail are left out; one that does not answer before ctx
// is done ends the list. After that the process can open no token, and should end.
func Seen(ctx context.Context, modules []ModuleConfig) []Info {
	return survey(ctx, modules, answerWithin, seen).tokens
}
