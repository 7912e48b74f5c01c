package token

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLabel is the length of the longest CKA_LABEL of an object made here, in bytes. PKCS #11 has
// no limit, but tokens have.
const maxLabel = 64

// ValidLabel returns an error unless label can be that of an object that is made here: 1 to 64
// bytes of printable UTF-8. Other programs show labels on terminals, where control characters take
// effect and a bidirectional override displays another label.
func ValidLabel(label string) error {
	if label == "" || len(label) > maxLabel || !printable(label) {
		return errors.New("a label has 1 to 64 bytes of printable UTF-8")
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
