package hsmkeys

import "errors"

// hinted is an error that knows what to do about it.
type hinted struct {
	error
	hint string
}

func hint(err error, hint string) error { return &hinted{err, hint} }

func (e *hinted) Unwrap() error { return e.error }

// hintOf returns what an error says about what to do, or nothing.
func hintOf(err error) string {
	if e := (*hinted)(nil); errors.As(err, &e) {
		return e.hint
	}
	return ""
}

// Hint says what to do.
func (e *hinted) Hint() string { return e.hint }
