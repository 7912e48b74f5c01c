package doctor

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

// outputs looks in the current directory, where -o usually writes, for unfinished output of a
// process that was killed: it can be plaintext.
func (d *doctor) outputs() {
	left, err := filepath.Glob(".hsmkeys-*")
	if err != nil {
		d.failure("outputs", "", err)
		return
	}
	if len(left) > 0 {
		d.warn("outputs", "rm -- "+text.ShellQuote(left[0]), "%s here, such as %q, part of what a process was writing with -o, perhaps plaintext, unless it is still at work",
			text.Plural(len(left), "file is", "files are"), left[0])
		return
	}
	switch err := datafile.TryUnnamed("."); {
	case errors.Is(err, errors.ErrUnsupported):
		d.warn("outputs", "", "a process that is killed while it writes with -o leaves part of its output here, in .hsmkeys-*, as this file system has no files without a name (O_TMPFILE)")
	case err != nil:
		d.ok("outputs", "nothing can be written with -o here: %v", err)
	default:
		d.ok("outputs", "a process that is killed while it writes with -o leaves nothing here")
	}
}

// records opens where uses and changes are recorded, if they are.
func (d *doctor) records() {
	if d.s.Audit == "" {
		return
	}
	if _, err := session.AuditLog(d.s); err != nil {
		d.failure("audit", "", err)
		return
	}
	d.ok("audit", "each use of a key and each change is recorded, in %s", text.Printable(d.s.Audit))
}

// softHSM warns that SoftHSM can lose a token.
func (d *doctor) softHSM(t token.Info) {
	if strings.Contains(t.Model, "SoftHSM") {
		d.ok("softhsm", "token %s: SoftHSM rewrites the token's file at each login, and can lose the token if a process is killed meanwhile; keep a copy of its directory (directories.tokendir in softhsm2.conf)", text.Printable(t.Label))
	}
}
