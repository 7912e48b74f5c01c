package keyspec

// NewKind returns an error with a text of its own that [errors.Is] finds to be each of the kinds as
// well. It is for sentinels: their texts are not repeated.
func NewKind(text string, kinds ...error) error { return &kind{text, kinds} }

type kind struct {
	text  string
	kinds []error
}

func (k *kind) Error() string   { return k.text }
func (k *kind) Unwrap() []error { return k.kinds }
