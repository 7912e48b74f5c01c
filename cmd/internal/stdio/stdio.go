// Package stdio keeps what PKCS #11 modules print apart from what this program prints. A module runs
// in the same process and writes to descriptors 1 and 2 as it likes; so these are left to modules,
// and the program's own stdout is another descriptor.
//
// On Windows a module prints where it likes: there the package does nothing.
package stdio

import "errors"

// MuteModule calls f and discards what a module prints meanwhile. tpm2-pkcs11 prints that a PKCS #1
// v1.5 padding could not be removed, which is exactly what an import must not reveal.
func MuteModule(f func() error) (err error) {
	restore, err := Mute()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	return f()
}
