// Package manual writes the manual pages from what help shows, and from docs/format.md. Its users
// are the program that is built with the tag manual, and tests. The pages that package cli writes
// have neither examples nor exit statuses, nor a page for each command.
package manual

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/build"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/docs"
)

// Write writes the pages below a directory, each in the directory of its section.
func Write(app *cli.App, dir string) error {
	for name, text := range Pages(app) {
		path := filepath.Join(dir, "man"+name[len(name)-1:], name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// Pages returns the pages by their file names.
func Pages(app *cli.App) map[string]string {
	pages := map[string]string{
		"hsmkeys.1":        programPage(app),
		"hsmkeys-config.5": configPage(app),
		"hsmkeys-format.5": formatPage(docs.Format),
	}
	var add func(path string, commands []*cli.Command)
	add = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			if c.Hidden {
				continue
			}
			full := path + " " + c.Name
			pages[PageName(full)+".1"] = commandPage(full, c)
			add(full, c.Subcommands)
		}
	}
	add(app.Name, app.Commands)
	return pages
}

// PageName returns the name of the page of a command by its full name.
func PageName(path string) string { return strings.ReplaceAll(path, " ", "-") }

var exitStatuses = []struct {
	status int
	means  string
}{
	{0, "done"},
	{failure.StatusFailed, "failed, also where what is to be made exists, a FILE cannot be read, or the program was interrupted; of doctor and drill also: they have found something"},
	{failure.StatusUsage, "the command line or the configuration cannot be carried out"},
	{failure.StatusIntegrity, "integrity: a signature, a digest or a name did not hold"},
	{failure.StatusNotFound, "not found: the store, or a key, a version or a member in it; or the key is not wrapped to this token"},
	{failure.StatusToken, "the token or its module was not found or failed, or its PIN or a password could not be had or was wrong"},
}

// PseudoVersion matches what go puts into the version of a commit without a tag: a time and a hash,
// which are too long to stand beside the date at the foot of a page.
var PseudoVersion = regexp.MustCompile(`(?:0\.)?[0-9]{14}-([0-9a-f]{7})[0-9a-f]*`)

// heading starts a page. Its date is that of the commit, so that the pages are reproducible.
func (p *page) heading(name, section, about string) {
	b := build.Read()
	date, _, _ := strings.Cut(b.Date, "T")
	if date == "" {
		date = time.Now().UTC().Format(time.DateOnly)
	}
	version := PseudoVersion.ReplaceAllString(b.Version, "$1")
	p.line(`.TH %s %s %s "hsmkeys %s" "hsmkeys manual"`, strings.ToUpper(RoffCode(name)), section, date, RoffCode(version))
	p.section("NAME")
	p.line(`%s \- %s`, RoffCode(name), RoffText(about))
	p.section("SYNOPSIS")
}

func (p *page) description(usage, text string) {
	p.section("DESCRIPTION")
	p.text(sentence(usage))
	if text != "" {
		p.text(text)
	}
}

// sentence makes a sentence of a line of help.
func sentence(s string) string {
	return strings.ToUpper(s[:1]) + strings.TrimRight(s[1:], ".") + "."
}

// options describes options with their defaults.
func (p *page) options(flags []cli.Flag) {
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok || !f.(cli.VisibleFlag).IsVisible() {
			continue
		}
		var names []string
		for _, name := range f.Names() {
			if len(name) == 1 {
				names = append(names, Bold("-"+name))
			} else {
				names = append(names, Bold("--"+name))
			}
		}
		tag := strings.Join(names, ", ")
		if d.TakesValue() {
			tag += " " + italic(commandline.Placeholder(d))
		}
		p.entry(tag, commandline.Described(d))
	}
}

func (p *page) examples(all []commandline.Example) {
	p.section("EXAMPLES")
	for _, e := range all {
		if e.What != "" {
			p.text(strings.TrimRight(e.What, ".?") + ending(e.What))
		}
		p.code(e.Line)
	}
}

func ending(what string) string {
	if strings.HasSuffix(what, "?") {
		return "?"
	}
	return ":"
}

func (p *page) exitStatus() {
	p.section("EXIT STATUS")
	p.text("With --json each message on the standard error is a JSON object on a line of its own: error with the exit status and perhaps a hint, warning, or note.")
	for _, s := range exitStatuses {
		p.entry(Bold(strconv.Itoa(s.status)), sentence(s.means))
	}
	p.text("When the reader of a pipe goes away, SIGPIPE ends the program: 141 to a shell.")
}

func (p *page) seeAlso(pages ...string) {
	p.section("SEE ALSO")
	for i, name := range pages {
		base, section, _ := strings.Cut(name, ".")
		comma := ","
		if i == len(pages)-1 {
			comma = ""
		}
		p.line(".BR %s (%s)%s", RoffCode(base), section, comma)
	}
}

func programPage(app *cli.App) string {
	p := &page{}
	p.heading(app.Name, "1", app.Usage)
	p.line(`%s [%s] %s [%s]`, Bold(app.Name), italic("OPTION…"), italic("COMMAND"), italic("ARGUMENT…"))
	p.description("A key exchange pair lives on a PKCS #11 token and never leaves it. A session key is made on the token, wrapped to the pair's public key and signed by the pair. The signed key blob may lie on storage that nobody needs to trust",
		"To use a key again, hsmkeys verifies the signature first, then unwraps the key in the token, and then uses it for files. Options may stand anywhere on the command line; -- ends them. Data goes to the standard output, messages to the standard error.")
	p.section("COMMANDS")
	also := []string{"hsmkeys-config.5", "hsmkeys-format.5"}
	for _, c := range app.Commands {
		if c.Hidden {
			continue
		}
		full := app.Name + " " + c.Name
		p.entry(Bold(c.Name), sentence(c.Usage))
		also = append(also, PageName(full)+".1")
	}
	p.section("OPTIONS")
	p.text("Most of them can also be given in the environment and in a file, see hsmkeys-config(5).")
	p.options(app.Flags)
	p.section("ENVIRONMENT")
	for _, o := range settings.Options {
		if o.Variable != "" {
			p.entry(Bold(o.Variable), "As --"+o.Name+".")
		}
	}
	p.entry(Bold("NO_COLOR"), "When it is set and not empty, there are no colours on the terminal either.")
	p.section("FILES")
	p.entry(italic("$XDG_CONFIG_HOME/hsmkeys/config.toml"), "The configuration file.")
	p.entry(italic("$XDG_DATA_HOME/hsmkeys"), "The store, where no other is named.")
	p.entry(italic("$XDG_STATE_HOME/hsmkeys/pins"), "Which list of members was accepted last, where the token keeps no data objects.")
	p.examples(commandline.ExamplesOf(app.Name))
	p.exitStatus()
	p.seeAlso(also...)
	return p.String()
}

func commandPage(full string, c *cli.Command) string {
	p := &page{}
	p.heading(PageName(full), "1", c.Usage)
	synopsis := Bold(full)
	if len(c.Subcommands) > 0 {
		synopsis += " " + italic("COMMAND")
	}
	p.line("%s", strings.TrimSpace(synopsis+" ["+italic("OPTION…")+"] "+RoffCode(c.ArgsUsage)))
	p.description(c.Usage, c.Description)
	also := []string{"hsmkeys.1", "hsmkeys-config.5"}
	if len(c.Subcommands) > 0 {
		p.section("COMMANDS")
		for _, sub := range c.Subcommands {
			p.entry(Bold(sub.Name), sentence(sub.Usage))
			also = append(also, PageName(full+" "+sub.Name)+".1")
		}
	}
	p.section("OPTIONS")
	p.options(append(slices.Clone(c.Flags), cli.HelpFlag))
	p.text("And those of all commands, such as --token, --store and --json, see hsmkeys(1).")
	p.examples(commandline.ExamplesOf(full))
	p.exitStatus()
	p.seeAlso(also...)
	return p.String()
}

// configPage describes how each global option is called in the environment and in the file.
func configPage(app *cli.App) string {
	p := &page{}
	p.heading("hsmkeys-config", "5", "options of hsmkeys in a file and in the environment")
	p.line("%s", italic("$XDG_CONFIG_HOME/hsmkeys/config.toml"))
	p.description("The command line takes precedence over the environment, that over the section of the token in the file, and that over the top of the file; the PIN source is an exception, see below. The file is TOML, with a key for each option. A key that is no option is refused: with a word misspelt the keys would go to another store than the one that was meant",
		"The file need not be there, unless --config or HSMKEYS_CONFIG names it; /dev/null is none. A variable that is set to nothing is taken for one that is not set.")
	p.section("SECTIONS FOR TOKENS")
	p.text("A section [token.LABEL] sets options for one token, whether --token names it by its label, by a URI or not at all. In place of the label there may be an RFC 7512 URI, in quotes, with token, serial, manufacturer or model. Beside sections the option token is called default-token in the file, because TOML has one key for one thing. A section can set " +
		text.Enumerate(settings.InSection) + ". Where no token is used, as by verify --certificate, a section counts only when --token names it.")
	p.text("A PIN source that a section names is bound to its token: no other token is sent what comes from there, unless its own section names it too; the command ends with status 5 before the login. It also takes precedence over HSMKEYS_PIN_SOURCE, which does not say whose PIN it is. In all, the PIN comes from --pin-source on the command line, the token's URI, its section, HSMKEYS_PIN_SOURCE, or the top of the file, in this order. Files are compared by where their names lead, variables and commands as text.")
	p.section("PATHS")
	p.text("In the file a leading ~/ is the home directory, in module, in store and after file: in a source of a PIN or password; ~USER is refused. Other relative paths are relative to the current directory. On the command line, a --module without a slash is the file of that name in the current directory if there is one and it is this user's or root's; otherwise, and always in the environment and in the file, the dynamic loader looks for it.")
	p.section("WHOSE FILES ARE READ")
	p.text("The configuration file, p11-kit's module files, files with a PIN or a password, and the pins and the cache of this program have to belong to this user or to root, and so do the directories on the way to them; neither group nor others may be able to write to them, except in sticky directories such as /tmp. They are regular files; a PIN or password may also come from a pipe of this user's. Under age, which runs its plugins in the directory for temporary files, every path has to be absolute.")
	p.section("OPTIONS")
	for _, f := range app.Flags {
		d, o := f.(cli.DocGenerationFlag), settings.Lookup(f.Names()[0])
		if o == nil || o.Variable == "" && !o.InFile { // o is nil for --help
			continue
		}
		value := "true"
		if d.TakesValue() {
			value = `"` + commandline.Placeholder(d) + `"`
		}
		p.entry(Bold("--"+o.Name), commandline.Described(d))
		p.line(".RS")
		if o.Variable != "" {
			p.line(".PP\nEnvironment: %s", Bold(o.Variable))
		}
		if o.InFile {
			p.line(".br\nFile: %s = %s", Bold(o.Name), italic(value))
		}
		p.line(".RE")
	}
	p.examples([]commandline.Example{
		{What: "A configuration file", Line: `module = "/usr/lib/softhsm/libsofthsm2.so"`},
		{What: "", Line: `token = "office"`},
		{What: "", Line: `pin-source = "file:/run/secrets/pin"`},
		{What: "A section for each of two tokens", Line: `default-token = "office"`},
		{What: "", Line: `[token.office]`},
		{What: "", Line: `store = "/srv/keys"`},
		{What: "", Line: `pin-source = "exec:pass show hsm/office"`},
		{What: "", Line: `[token."pkcs11:serial=1f2e3d4c"]`},
		{What: "", Line: `module = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"`},
		{What: "For one command another store", Line: "HSMKEYS_STORE=/mnt/share/keys hsmkeys verify --certificate owner.pem"},
	})
	p.exitStatus()
	p.seeAlso("hsmkeys.1", "hsmkeys-format.5")
	return p.String()
}

// formatPage makes a manual page of docs/format.md. Its first line makes man run tbl for the
// tables.
func formatPage(markdown string) string {
	p := &page{}
	p.line(`'\" t`)
	p.heading("hsmkeys-format", "5", "the format of what hsmkeys stores")
	p.line("%s", italic("keys/NAME/VERSION.REVISION.SHA256.cms"))
	p.line(".br\n%s", italic("state/NNNNNNN/NNN"))
	p.section("DESCRIPTION")
	p.markdown(markdown)
	p.seeAlso("hsmkeys.1", "hsmkeys-config.5", "openssl-cms.1ssl", "sha256sum.1")
	return p.String()
}
