package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages returns the Markdown of the project by path, relative to the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"../*.md", "*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.Join("docs", path)] = string(text)
		}
	}
	if len(all) < 10 {
		t.Fatalf("%d pages", len(all))
	}
	return all
}

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// links returns the links of a page to files of the project: the path relative to the root,
// and the anchor of the heading, if any.
func links(path, text string) [][2]string {
	var found [][2]string
	for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		if strings.Contains(match[1], "://") {
			continue
		}
		file, anchor, _ := strings.Cut(match[1], "#")
		to := path
		if file != "" {
			to = filepath.Join(filepath.Dir(path), file)
		}
		found = append(found, [2]string{to, anchor})
	}
	return found
}

// anchors returns the anchors of the headings of a page, as GitHub derives them.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(match[1]), "")
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	all := pages(t)
	for path, text := range all {
		for _, to := range links(path, text) {
			if _, err := os.Stat(filepath.Join("..", to[0])); err != nil {
				t.Errorf("%s: there is no %s", path, to[0])
			} else if to[1] != "" && !anchors(all[to[0]])[to[1]] {
				t.Errorf("%s: %s has no heading #%s", path, to[0], to[1])
			}
		}
	}
}

// A page that is not linked from the README will not be found.
func TestEveryPageIsReachedFromTheReadme(t *testing.T) {
	all := pages(t)
	reached := map[string]bool{"README.md": true}
	for _, to := range links("README.md", all["README.md"]) {
		reached[to[0]] = true
	}
	for path := range all {
		if !reached[path] {
			t.Errorf("%s is not linked from the README", path)
		}
	}
}

func TestTheShortPagesAreShort(t *testing.T) {
	for path, most := range map[string]int{"README.md": 1200, "docs/architecture.md": 1200} {
		if n := len(strings.Fields(pages(t)[path])); n > most {
			t.Errorf("%s: %d words, at most %d", path, n, most)
		}
	}
}

// A function that the page on the architecture names with a file is in that file.
func TestTheArchitectureNamesFiles(t *testing.T) {
	page, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(?:\\w+\\.)?(\\w+)`\\s+\\(([a-z]+\\.go)\\)").FindAllStringSubmatch(string(page), -1)
	if len(named) < 5 {
		t.Fatalf("%d functions with files", len(named))
	}
	for _, n := range named {
		source, err := os.ReadFile(filepath.Join("..", n[2]))
		if err != nil {
			t.Error(err)
		} else if !regexp.MustCompile(`(?m)^func (\(.*\) )?` + n[1] + `\(`).Match(source) {
			t.Errorf("%s is not in %s", n[1], n[2])
		}
	}
}
