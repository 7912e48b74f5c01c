package blob

import (
	"errors"
	"testing"
)

func TestANewNameIsNoOption(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{"a": true, "a-b": true, "a/-b": true, "-": false, "-x": false, "--store": false, "../a": false, "": false} {
		if err := ValidNewName(name); (err == nil) != ok || err != nil && !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
