// Package guard stands between this program and PKCS #11 modules, which are other people's
// code in our process. It loads a module for miekg/pkcs11 and puts functions of its own in
// the place of the module's. They bound what the module says that it returns, and know which
// function of which module is being called, for [NoticeEnds] and [Watch].
//
// On Windows the package loads and unloads modules, and guards nothing: PKCS #11 packs its
// structures there, and no module has been tried.
package guard

import (
	"fmt"
	"time"
)

// Late is a call that has not returned in time.
type Late struct {
	Module, Function string
	After            time.Duration
}

func (l Late) Error() string {
	return fmt.Sprintf("module %s has not returned from %s within %v", l.Module, l.Function, l.After)
}
