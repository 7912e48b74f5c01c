package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestColorsOnATerminalOnly(t *testing.T) {
	o := newOffice(t)
	o.run(t, "create", "billing")
	commands := []struct {
		args []string
		want string // in colours
	}{
		{[]string{"verify"}, "\x1b[32mok\x1b[0m  payroll"},
		{[]string{"doctor"}, "\x1b[33mwarn\x1b[0m  members "},
		{[]string{"drill"}, "\x1b[31mwould be lost\x1b[0m"},
		{[]string{"show", "nothing"}, "\x1b[31mhsmkeys:\x1b[0m key \"nothing\": not found"},
	}
	for _, tt := range []struct {
		name    string
		env     []string
		colored bool
	}{
		{"a terminal", []string{"TERM=xterm", "NO_COLOR="}, true},
		{"NO_COLOR", []string{"TERM=xterm", "NO_COLOR=1"}, false},
		{"a terminal that knows none", []string{"TERM=dumb", "NO_COLOR="}, false},
		{"a terminal that does not say", []string{"TERM=", "NO_COLOR="}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, c := range commands {
				p := newTerminal(t)
				cmd := o.command(c.args...)
				cmd.Env = append(cmd.Env, tt.env...)
				p.attach(cmd)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				wait(t, cmd)
				want := c.want
				if !tt.colored {
					want = strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(want)
				}
				Until(t, want, func() bool { return strings.Contains(p.shows(), want) })
				if !tt.colored && strings.Contains(p.shows(), "\x1b") {
					t.Errorf("%q: %q", c.args, p.shows())
				}
			}
		})
	}
	for _, c := range commands {
		var out bytes.Buffer
		cmd := o.command(c.args...)
		cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=")
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait(t, cmd)
		if out.Len() == 0 || bytes.Contains(out.Bytes(), []byte("\x1b")) {
			t.Errorf("%q through a pipe: %q", c.args, out.String())
		}
	}
}
