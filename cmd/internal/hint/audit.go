package hint

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// records returns hints for uses and changes that could not be recorded.
func records(err error) string {
	unrecorded, about := (*hsmkeys.Unrecorded)(nil), (*audit.Error)(nil)
	if !errors.As(err, &about) {
		return ""
	}
	mend := ofDestination(about)
	if errors.As(err, &unrecorded) && unrecorded.Done {
		return "what the command was to do is done, and must not be done again (hsmkeys log shows it); only the second line of its record is missing: " + mend
	}
	return mend
}

func ofDestination(about *audit.Error) string {
	switch err := about.Err; {
	case errors.Is(err, audit.ErrNoDaemon):
		return "start the daemon; --audit names where records go"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "the daemon does not take messages any more: restart it"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG), errors.Is(err, io.ErrShortWrite):
		return "make room there; without a record nothing is used and nothing is changed"
	case errors.Is(err, ownfile.ErrKind):
		return "--audit file:PATH names a regular file"
	case errors.Is(err, ownfile.ErrForeign):
		return ofFacts(err)
	case errors.Is(err, fs.ErrNotExist):
		if at := (*fs.PathError)(nil); errors.As(err, &at) {
			return "make the directory: mkdir -m 700 " + shellWord(filepath.Dir(at.Path))
		}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "this user cannot write there; --audit names where records go"
	}
	return "without a record nothing is used and nothing is changed; --audit names where records go"
}
