// Package hint words what to do about an error. The libraries return errors with the facts;
// only this package knows which command or option helps.
package hint

import "errors"

// For returns one sentence or one command that helps with err, or "" if there is none. The root
// package knows most of what was to be done, so its facts count before those of a token.
func For(err error) string {
	for _, hint := range []func(error) string{given, ofAgent, records, keyring, ofToken, ofStates, store} {
		if text := hint(err); text != "" {
			return text
		}
	}
	return ""
}

// given returns the hint that an error of the command line has itself.
func given(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
