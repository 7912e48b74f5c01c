package main

import (
	"bytes"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
	"unsafe"

	"pgregory.net/rapid"
)

func TestTablesFitTheTerminal(t *testing.T) {
	o := newOffice(t)
	o.run(t, "create", "a/key/with/a/long/name/that/needs/a/column/of/its/own/or/more")
	onTerminal := func(t *testing.T, columns uint16, args ...string) []string {
		t.Helper()
		p := newTerminal(t)
		size := [4]uint16{24, columns}
		ioctl(t, p.person, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
		cmd := o.command(args...)
		cmd.Env, cmd.Stderr = append(cmd.Env, "NO_COLOR=1"), new(bytes.Buffer)
		p.attach(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait(t, cmd)
		if _, err := p.tty.WriteString("\x00"); err != nil { // what comes before it has been seen
			t.Fatal(err)
		}
		until(t, "the end of the output", func() bool { return strings.HasSuffix(p.shows(), "\x00") })
		return strings.Split(strings.TrimSuffix(p.shows(), "\r\n\x00"), "\r\n")
	}
	longest := func(lines []string) int {
		most := 0
		for _, line := range lines {
			if !strings.HasPrefix(strings.TrimSpace(line), "mend: ") { // a command, to be copied
				most = max(most, utf8.RuneCountInString(line))
			}
		}
		return most
	}
	for _, args := range [][]string{{"token", "list"}, {"list"}, {"doctor"}, {"show", "payroll"}, {"history", "payroll"}, {"owner", "list"}, {"drill"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			plain := append(slices.Clone(args), "--wide")
			whole := longest(onTerminal(t, 80, plain...))
			if got := longest(onTerminal(t, 80, args...)); got > 80 {
				t.Errorf("a line of %d characters on a terminal of 80 columns", got)
			}
			if got := longest(onTerminal(t, 500, args...)); got != whole {
				t.Errorf("a longest line of %d characters on a terminal of 500 columns, %d with --wide", got, whole)
			}
			out, _ := o.command(args...).Output()
			if got := longest(strings.Split(string(out), "\n")); got != whole {
				t.Errorf("a longest line of %d characters in a pipe, %d with --wide", got, whole)
			}
			if args[0] == "token" && whole <= 80 {
				t.Errorf("the widest line has %d characters, and nothing was tried", whole)
			}
		})
	}
}

// Words are cut only where there is no other way.
func TestColumnsKeepTheirWords(t *testing.T) {
	for _, test := range []struct {
		name           string
		columns, words []int
		width          int
		want           []int
	}{
		{"there is room", []int{20, 15}, []int{20, 9}, 37, []int{20, 15}},
		{"blanks go before a word", []int{20, 15}, []int{20, 9}, 34, []int{20, 12}},
		{"the widest that has blanks goes first", []int{30, 25, 20}, []int{5, 25, 5}, 70, []int{21, 25, 20}},
		{"then a word", []int{20, 15}, []int{20, 9}, 29, []int{18, 9}},
		{"nothing below the least", []int{20, 15}, []int{20, 9}, 5, []int{8, 8}},
		{"no limit", []int{20, 15}, []int{20, 9}, 0, []int{20, 15}},
	} {
		if got := fit(test.columns, test.words, test.width); !slices.Equal(got, test.want) {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestNothingIsLostByWrapping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.StringMatching(`[a-zé:]{1,30}`)).Draw(t, "words"), " ")
		width := rapid.IntRange(1, 40).Draw(t, "width")
		lines := wrapText(text, width)
		for _, line := range lines {
			if utf8.RuneCountInString(line) > width {
				t.Errorf("%q in %d columns", line, width)
			}
		}
		if got := strings.Join(lines, ""); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(text, " ", "") {
			t.Errorf("%q is left of %q", got, text)
		}
	})
}
