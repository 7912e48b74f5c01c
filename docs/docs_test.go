package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The threat model names, for each defence, the function that implements it and the tests
// that check it. Both must exist, or the table makes empty promises.
func TestTheThreatModelNamesWhatThereIs(t *testing.T) {
	there := map[string]bool{"make demo": true, "make faults": true}
	function := regexp.MustCompile(`(?m)^func (?:\([^)]*\) )?(\w+)[(\[]`)
	variable := regexp.MustCompile(`(?m)^(?:var |\t)(\w+)(?: error)?\s+= `)
	typeName := regexp.MustCompile(`(?m)^type (\w+) `)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			there[d.Name()] = true // packages
		case strings.HasSuffix(path, ".txtar"):
			there[d.Name()] = true
		case strings.HasSuffix(path, ".go"):
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, declared := range []*regexp.Regexp{function, variable, typeName} {
				for _, match := range declared.FindAllStringSubmatch(string(source), -1) {
					there[match[1]] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("`([^`]+)`")
	test := regexp.MustCompile("`(?:(?:Test|Fuzz)[A-Z]\\w*|[\\w-]+\\.txtar)`")
	for _, span := range test.FindAllString(string(page), -1) {
		if !there[strings.Trim(span, "`")] {
			t.Errorf("there is no test %s", span)
		}
	}
	_, table, _ := strings.Cut(string(page), "| attacker does |")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")[2:]
	if len(rows) < 50 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		cells := strings.Split(strings.Trim(row, "|"), " | ")
		if len(cells) != 4 {
			t.Errorf("%d cells in %q", len(cells), row)
			continue
		}
		if len(code.FindAllString(cells[3], -1)) == 0 {
			t.Errorf("no test is named in %q", row)
		}
		for _, span := range code.FindAllStringSubmatch(cells[2], -1) {
			if name := span[1][strings.LastIndex(span[1], ".")+1:]; !there[name] {
				t.Errorf("there is no %s, which %q names", span[1], cells[0])
			}
		}
	}
}
