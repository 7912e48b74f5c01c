package blob

import (
	"fmt"
	"strings"
)

// maxName is the longest key name, in bytes.
const maxName = 128

// ValidName returns an error unless name may name a key: segments of the characters a-z, 0-9, '.',
// '_' and '-', joined by '/', at most 128 bytes in all; no segment empty, starting with '.' or
// ending in ".cms". The error is an [ErrName] and says which rule is broken.
//
// Such a name is the same on every file system (no capitals to fold, no
// Unicode to normalise), cannot climb out of its directory, and cannot collide
// with the store's own files: those end in ".cms" or start with '.'.
func ValidName(name string) error {
	bad := func(rule string) error { return fmt.Errorf("%w: key name %q %s", ErrName, shorten(name), rule) }
	switch {
	case name == "":
		return bad("is empty")
	case len(name) > maxName:
		return bad(fmt.Sprintf("has %d bytes, at most %d are allowed", len(name), maxName))
	}
	for segment := range strings.SplitSeq(name, "/") {
		switch {
		case segment == "":
			return bad("has an empty segment: '/' may only stand between two others")
		case segment[0] == '.':
			return bad("has a segment that starts with '.'")
		case strings.HasSuffix(segment, ".cms"):
			return bad(`has a segment that ends in ".cms"`)
		}
		for _, r := range segment {
			if !nameRune(r) {
				return bad(fmt.Sprintf("has the character %q, allowed are a-z, 0-9, '.', '_', '-' and '/'", r))
			}
		}
	}
	return nil
}

// ValidNewName is [ValidName] for a key that is to be made: it does not begin with '-'
// either, or commands would take the name for an option.
func ValidNewName(name string) error {
	if err := ValidName(name); err != nil {
		return err
	}
	if name[0] == '-' {
		return fmt.Errorf("%w: key name %q begins with '-', as options do", ErrName, name)
	}
	return nil
}

func nameRune(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-'
}

// shorten keeps an error message one line when the name is a whole file.
func shorten(name string) string {
	if len(name) <= maxName+2 {
		return name
	}
	return name[:maxName] + "…"
}
