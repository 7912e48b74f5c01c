package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/hsmkeys/hsmkeys/token"
)

// outputs looks in the current directory, where -o usually writes, for what a process that
// was killed has left of its output: it can be plaintext.
func (d *doctor) outputs() {
	left, err := filepath.Glob(".hsmkeys-*")
	if err != nil {
		d.failure("outputs", "", err)
		return
	}
	if len(left) > 0 {
		d.warn("outputs", "rm -- "+shellQuote(left[0]), "%s here, such as %q, part of what a process was writing with -o, perhaps plaintext, unless it is still at work",
			plural(len(left), "file is", "files are"), left[0])
		return
	}
	here, err := os.Open(".")
	if err != nil {
		d.failure("outputs", "", err)
		return
	}
	defer here.Close()
	switch file, err := newUnnamed(here, "."); {
	case errors.Is(err, errors.ErrUnsupported):
		d.warn("outputs", "", "a process that is killed while it writes with -o leaves part of its output here, in .hsmkeys-*, as this file system has no files without a name (O_TMPFILE)")
	case err != nil:
		d.ok("outputs", "nothing can be written with -o here: %v", err)
	default:
		d.ok("outputs", "a process that is killed while it writes with -o leaves nothing here")
		_ = file.Close()
	}
}

// softHSM tells of what it does with its files. Nobody would think of that before it has
// happened.
func (d *doctor) softHSM(t token.Info) {
	if strings.Contains(t.Model, "SoftHSM") {
		d.ok("softhsm", "token %s: SoftHSM writes the token's file anew at each login, and can lose the token when a process is killed there; keep a copy of its directory (directories.tokendir in softhsm2.conf)", printable(t.Label))
	}
}
