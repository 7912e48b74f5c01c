package audit

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// table returns the words in backquotes in the first column of the table that begins with a line.
func table(t *testing.T, page, head string) (all []string) {
	t.Helper()
	_, rows, ok := strings.Cut(page, head+"\n")
	if !ok {
		t.Fatalf("there is no table %q", head)
	}
	rows, _, _ = strings.Cut(rows, "\n\n")
	for row := range strings.Lines(rows) {
		first, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(first, -1) {
			all = append(all, m[1])
		}
	}
	slices.Sort(all)
	return all
}

func TestTheDocsHaveEveryFieldAndOperation(t *testing.T) {
	data, err := os.ReadFile("../../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, f := range fullRecord().fields() {
		fields = append(fields, f.name)
	}
	slices.Sort(fields)
	if got := table(t, string(data), "| field | what |"); !slices.Equal(got, fields) {
		t.Errorf("fields:\ngot  %q\nwant %q", got, fields)
	}
	// What changes a key is called as in the signed log.
	operations := []string{"create", "rotate", "rewrap", "adopt", "merge", "activate", "deactivate", "compromise", "destroy", "describe", "rename", "compact", "replace-pin"}
	for _, file := range []string{"../../../use.go", "audit.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^\tOp\w+ += "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
			operations = append(operations, m[1])
		}
	}
	slices.Sort(operations)
	if got := table(t, string(data), "| operation | what |"); !slices.Equal(got, operations) {
		t.Errorf("operations:\ngot  %q\nwant %q", got, operations)
	}
}
