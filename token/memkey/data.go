package memkey

import "fmt"

// CheckData checks the size of a data key, see [keyspec.SessionKey] (RFC 3394 §2).
func CheckData(size int) error {
	if size < 16 || size > 64 || size%8 != 0 {
		return fmt.Errorf("a data key of %d bytes, not 16 to 64 and a multiple of 8", size)
	}
	return nil
}
