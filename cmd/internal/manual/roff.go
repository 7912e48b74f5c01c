package manual

import (
	"fmt"
	"strings"
)

// A page is a manual page for man(7).
type page struct {
	strings.Builder
	begun bool // a section has just begun: its first paragraph needs no .PP
}

func (p *page) line(format string, args ...any) {
	fmt.Fprintf(p, format+"\n", args...)
	p.begun = false
}

func (p *page) section(title string) {
	p.line(".SH %s", title)
	p.begun = true
}

func (p *page) paragraph() {
	if !p.begun {
		p.line(".PP")
	}
}

func (p *page) text(s string) {
	p.paragraph()
	p.words(s)
}

func (p *page) words(s string) {
	for line := range strings.SplitSeq(strings.TrimSpace(s), "\n") {
		p.line("%s", roffLine(RoffText(line)))
	}
}

// entry adds a paragraph with a tag, which is roff already.
func (p *page) entry(tag, s string) {
	p.line(".TP\n%s", tag)
	p.words(s)
}

// code adds lines that are shown as they are, and can be copied from the terminal.
func (p *page) code(lines ...string) {
	p.paragraph()
	p.line(".RS 4\n.EX")
	for _, line := range lines {
		p.line("%s", roffLine(RoffCode(line)))
	}
	p.line(".EE\n.RE")
}

// roffLine protects text that would be taken for a request.
func roffLine(s string) string {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}

// Bold returns literal text in bold.
func Bold(s string) string { return `\fB` + RoffCode(s) + `\fR` }

// italic returns literal text in italics.
func italic(s string) string { return `\fI` + RoffCode(s) + `\fR` }

// RoffCode escapes text that has to be literal: otherwise a - may become a hyphen, and a quote one
// that no shell knows.
func RoffCode(s string) string {
	return roff(s, strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`))
}

// RoffText escapes running text, in which only options are literal.
func RoffText(s string) string {
	words := strings.Split(s, " ")
	for i, word := range words {
		if strings.HasPrefix(strings.TrimLeft(word, "(["), "-") {
			words[i] = RoffCode(word)
		} else {
			words[i] = roff(word, strings.NewReplacer(`\`, `\e`, "--", `\-\-`, "^", `\(ha`, "~", `\(ti`))
		}
	}
	return strings.Join(words, " ")
}

func roff(s string, escapes *strings.Replacer) string {
	var b strings.Builder
	for _, r := range escapes.Replace(s) {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\[u%04X]`, r)
		}
	}
	return b.String()
}
