package manual

import (
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

var (
	markdownTitle   = regexp.MustCompile(`(?m)^# .*\n`)
	markdownComment = regexp.MustCompile(`(?m)^<!--.*-->\n`)
)

// markdown adds a document without its title. It corrects two faults of md2man's output: code has
// to stay as it is, and an empty line is not a paragraph.
func (p *page) markdown(text string) {
	text = markdownComment.ReplaceAllString(markdownTitle.ReplaceAllString(text, ""), "")
	code := false
	for line := range strings.Lines(string(md2man.Render([]byte(text)))) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == ".EX":
			code = true
			p.paragraph()
			p.line("%s", line)
		case line == ".EE":
			code = false
			p.line("%s", line)
		case code:
			p.line("%s", roff(line, literal))
		case line == "", line == ".nh", line == `'\" t`, line == ".PP" && p.begun:
		case strings.HasPrefix(line, ".SH "):
			p.section(strings.ToUpper(roff(strings.TrimPrefix(line, ".SH "), plain)))
		default:
			p.line("%s", roff(line, plain))
		}
	}
}

// What md2man has escaped already it has escaped with a backslash.
var (
	plain   = strings.NewReplacer()
	literal = strings.NewReplacer(`\-`, `\-`, "-", `\-`, `\'`, `\(aq`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)
)
