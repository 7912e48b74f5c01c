package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hsmkeys/hsmkeys/blob"
)

// sourceReader remembers an error of the source, so that a disk that fails is not
// taken for a file that is damaged.
type sourceReader struct {
	src io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// classify returns what an error of package age means for the file.
func (s *sourceReader) classify(err error) error {
	var own *identityError
	switch {
	case s.err != nil && !errors.Is(s.err, blob.ErrIntegrity): // or else it is of Dearmor
		return fmt.Errorf("read the file: %w", s.err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &own):
		return own.error
	default:
		if !errors.Is(err, blob.ErrIntegrity) {
			err = fmt.Errorf("%w: %w", err, blob.ErrIntegrity)
		}
		return fmt.Errorf("not an intact age file: %w", err)
	}
}

// errNotIntact is what is recorded of a file that is no intact age file.
var errNotIntact = fmt.Errorf("not an intact age file: %w", blob.ErrIntegrity)

type plainReader struct {
	plain  io.Reader
	source *sourceReader
	use    *fileUse
}

func (r *plainReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	if err != nil && err != io.EOF {
		err = r.use.end(r.source.classify(err))
	}
	return n, err
}
