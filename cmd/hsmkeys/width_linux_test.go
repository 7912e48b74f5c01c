package main

import (
	"bytes"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
	"unsafe"
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
		Until(t, "the end of the output", func() bool { return strings.HasSuffix(p.shows(), "\x00") })
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
