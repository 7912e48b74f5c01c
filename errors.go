package hsmkeys

// hinted is an error that knows what to do about it.
type hinted struct {
	error
	hint string
}

func hint(err error, hint string) error { return &hinted{err, hint} }

func (e *hinted) Unwrap() error { return e.error }

// Hint says what to do.
func (e *hinted) Hint() string { return e.hint }
