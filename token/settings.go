package token

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// This file reads the files of p11-kit, pkcs11.conf(5). It reads only those that nobody but this
// user or root can have written, because they name libraries that are loaded.

// Configuration files are small; a larger file is not one.
const (
	maxSettingsFile = 64 << 10 // bytes
	maxSettings     = 200
)

func readSettings(path string) (map[string]string, error) {
	data, err := ownfile.Read(path, maxSettingsFile)
	if missing := (*fs.PathError)(nil); errors.As(err, &missing) {
		err = missing.Err // the caller names the path
	}
	if err != nil {
		return nil, err
	}
	return parseSettings(data)
}

// parseSettings parses the format of pkcs11.conf(5): lines of "name: value", blank lines, and
// comments after #. A name that is set twice is refused: which module it means must not depend on
// the reader.
func parseSettings(data []byte) (map[string]string, error) {
	if len(data) > maxSettingsFile {
		return nil, fmt.Errorf("longer than %d bytes", maxSettingsFile)
	}
	set := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxSettingsFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.Trim(lines.Text(), " \t\r\v\f")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
		switch _, twice := set[name]; {
		case !ok || name == "" || strings.ContainsFunc(name, notInName):
			return nil, fmt.Errorf("line %d is not of the form name: value", n)
		case strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }):
			return nil, fmt.Errorf("line %d has a control character", n)
		case twice:
			return nil, fmt.Errorf("line %d sets %q a second time", n, name)
		case len(set) == maxSettings:
			return nil, fmt.Errorf("more than %d settings", maxSettings)
		}
		set[name] = value
	}
	return set, lines.Err()
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
}
