package main

import (
	"os/exec"
	"strings"
	"testing"
)

// Somebody types half a word at a real bash and a real zsh, and presses Tab. What the
// shell makes of the line then tells whether it was quoted well.
func TestTab(t *testing.T) {
	o := completionOffice(t)
	o.env = append(o.env, "TERM=dumb", "HISTFILE=")
	const zsh = "bindkey -e; unset zle_bracketed_paste; autoload -U compinit; "
	for _, shell := range []struct{ name, args, setup string }{
		{"bash", "bash --norc --noprofile -i", "bind 'set enable-bracketed-paste off'; source <(hsmkeys completion bash)"},
		{"zsh", "zsh -f -i", zsh + "compinit -u -D; source <(hsmkeys completion zsh)"},
		{"zsh, installed", "zsh -f -i", zsh + "mkdir site; hsmkeys completion zsh >site/_hsmkeys; fpath=($PWD/site $fpath); compinit -u -D"},
	} {
		t.Run(shell.name, func(t *testing.T) {
			p := newTerminal(t)
			args := strings.Fields(shell.args)
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Dir, cmd.Env = o.dir, o.env
			p.attach(cmd)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			p.person.WriteString(shell.setup + "; PS1='READY''> '\n")
			Until(t, "a prompt", func() bool { return strings.HasSuffix(p.shows(), "READY> ") })
			for _, tt := range []struct{ typed, want string }{
				{"hsmkeys sh", "<hsmkeys><show>"},
				{"hsmkeys show pay", "<show><payroll>"},
				{"hsmkeys show site", "<show><site-b/>"},
				{"hsmkeys show site-b/a", "<show><site-b/audit>"},
				{"hsmkeys show site-b/audit@", "<show><site-b/audit@1>"},
				{"hsmkeys list --token ba", "<--token><back office (2nd)>"},
				{"hsmkeys list --token 'ba", "<--token><back office (2nd)>"},
				{`hsmkeys list --token "ba`, "<--token><back office (2nd)>"},
				{`hsmkeys list --token back\ o`, "<--token><back office (2nd)>"},
				{"hsmkeys list --token=ba", "<list><--token=back office (2nd)>"},
				{"hsmkeys --token it", "<--token><it's $HOME>"},
				{`hsmkeys --token back\ office show pay`, "<--token><back office><show><payroll>"},
				{"hsmkeys create x --algorithm=aes2", "<x><--algorithm=aes256>"},
				{"hsmkeys create x --from-p", "<x><--from-password>"},
				{"hsmkeys list --pin-source fi", "<--pin-source><file:>"},
				{"hsmkeys list --pin-source file:let", "<--pin-source><file:letter.txt>"},
				{"hsmkeys encrypt my", "<encrypt><my letter.txt>"},
				{"hsmkeys encrypt --output=my", "<encrypt><--output=my letter.txt>"},
				{"hsmkeys list --store sto", "<--store><store" /* zsh takes the slash away again */},
			} {
				seen := len(p.shows())
				p.person.WriteString(tt.typed + "\t\x01printf '<%s>' \n")
				Until(t, tt.typed, func() bool {
					_, after, ok := strings.Cut(p.shows()[seen:], "<hsmkeys>")
					return ok && strings.Contains(after, "READY> ")
				})
				_, got, _ := strings.Cut(p.shows()[seen:], "<hsmkeys>")
				if got, _, _ = strings.Cut(got, "READY> "); !strings.Contains("<hsmkeys>"+got, tt.want) {
					t.Errorf("%s: %q, want %q", tt.typed, "<hsmkeys>"+got, tt.want)
				}
			}
		})
	}
}
