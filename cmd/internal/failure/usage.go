package failure

import (
	"errors"
	"fmt"

	"github.com/xrash/smetrics"
)

// Usage returns an error for a command line that cannot be carried out.
func Usage(format string, args ...any) error { return &usageError{err: fmt.Errorf(format, args...)} }

// UsageHint is [Usage] with what to type instead.
func UsageHint(hint, format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...), hint}
}

// usageError is a command line that cannot be carried out.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// Hint returns what to type instead, or else the hint of the cause.
func (e *usageError) Hint() string {
	var cause interface{ Hint() string }
	if e.hint == "" && errors.As(e.err, &cause) {
		return cause.Hint()
	}
	return e.hint
}

// DidYouMean returns a hint with the known word that is most like word, as write writes it, or ""
// if none is like it.
func DidYouMean(word string, known []string, write func(string) string) string {
	best, likeness := "", 0.0
	for _, other := range known {
		if l := smetrics.JaroWinkler(word, other, 0.7, 4); l > likeness {
			best, likeness = other, l
		}
	}
	if likeness < 0.8 || len(word) < 2 {
		return ""
	}
	return "did you mean " + write(best) + "?"
}
