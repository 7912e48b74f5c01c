// Package hint words what to do about an error. The libraries return errors with the facts;
// only this package knows which command or option helps.
package hint

import "errors"

// For returns one sentence or one command that helps with err, or "" if there is none.
func For(err error) string {
	for _, hint := range []func(error) string{given, ofToken, keyring, store} {
		if text := hint(err); text != "" {
			return text
		}
	}
	return ""
}

// given returns the hint that the error itself has, as errors of the command line do.
func given(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
