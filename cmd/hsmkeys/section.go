package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

// This file is about the sections of the configuration file, each of which is for one
// token: [token.office] by its label, [token."pkcs11:serial=1f2e"] by a URI. What belongs
// to a token stands there, above all where its PIN comes from, so that no token gets the
// PIN of another: each wrong one uses up a try, and cards have three.

// ofTokens are the options that a section can set.
var ofTokens = []string{"module", "store", "pin-source", passwordOption, "signing-key", "require-token", "sessions"}

// A section is what the configuration file says of one token.
type section struct {
	name   string         // as it stands in the file
	token  token.Selector // label, serial, manufacturer and model alone
	values map[string]any // by the name of the option
}

func (x section) pinSource() string {
	source, _ := x.values["pin-source"].(string)
	return source
}

// addSection checks a section and adds it.
func (s *settings) addSection(label string, value any, flags []cli.Flag) error {
	x := section{name: fmt.Sprintf("[token.%q]", label), values: map[string]any{}}
	sel, err := token.ParseSelector(label)
	clear(sel.PINValue)
	if err != nil || sel.PINValue != nil || sel.PINSource != "" {
		x.name = `[token."pkcs11:…"]` // there may be a secret in it
	}
	if err != nil {
		return s.bad("%s: %w", x.name, err)
	}
	x.token = token.Selector{Label: sel.Label, Serial: sel.Serial, Manufacturer: sel.Manufacturer, Model: sel.Model}
	if sel.Label+sel.Serial+sel.Manufacturer+sel.Model == "" || sel.PINValue != nil || sel.PINSource != "" || sel.Object != "" || len(sel.ID) > 0 ||
		sel.SlotID != nil || sel.ModulePath != "" || sel.ModuleName != "" {
		return s.bad("%s: a section is for a label, or for a URI with token, serial, manufacturer and model alone", x.name)
	}
	table, ok := value.(map[string]any)
	if !ok {
		return s.bad("%s is not a section; %s names the token, where there are sections", x.name, defaultToken)
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		value := table[name]
		where := fmt.Sprintf("%q of %s", name, x.name)
		if !slices.Contains(ofTokens, name) {
			return s.bad("%s is not an option that a section can set; it can set %s", where, strings.Join(ofTokens, ", "))
		}
		if x.values[name], err = s.value(flags, name, value, where); err != nil {
			return err
		}
	}
	s.sections = append(s.sections, x)
	return nil
}

// names reports whether a selector names the section's token: yes, no, or only the token
// that it finds can tell.
func (x section) names(sel token.Selector) (yes, unsure bool) {
	for _, attribute := range [][2]string{
		{x.token.Label, sel.Label}, {x.token.Serial, sel.Serial}, {x.token.Manufacturer, sel.Manufacturer}, {x.token.Model, sel.Model},
	} {
		switch theirs, wanted := attribute[0], attribute[1]; {
		case theirs == "" || theirs == wanted:
		case wanted != "":
			return false, false
		default:
			unsure = true
		}
	}
	return !unsure, unsure
}

// bindByName has the section count that --token names, where that can be told without
// looking at any token.
func (s *settings) bindByName(c *cli.Context) error {
	sel, err := token.ParseSelector(c.String("token"))
	clear(sel.PINValue)
	if err != nil {
		return nil // whoever needs the token says so
	}
	return s.bindTo(c, sel)
}

func (s *settings) bindTo(c *cli.Context, sel token.Selector) error {
	var named []section
	for _, x := range s.sections {
		yes, unsure := x.names(sel)
		if unsure {
			return nil
		}
		if yes {
			named = append(named, x)
		}
	}
	return s.use(c, named)
}

// bind has the section of the token count that is going to be used. Where its name does not
// tell which that is, the token is looked for, without a PIN.
func bind(c *cli.Context) error {
	s := settingsOf(c)
	if s.bound || len(s.sections) == 0 {
		return nil
	}
	sel, module, err := selector(c)
	clear(sel.PINValue)
	if err != nil {
		return err
	}
	known := []token.ModuleConfig{{Path: module}}
	switch {
	case module == "":
		if known, err = modules(c); err != nil {
			return err
		}
	case !s.onLine["module"] && os.Getenv("HSMKEYS_MODULE") == "" && module == c.String("module"): // the file's, beside those of sections
		known = append(known, s.modules()...)
	}
	info, err := token.Find(c.Context, known, sel, search(c))
	if e := (*token.Error)(nil); errors.As(err, &e) && (errors.Is(err, token.ErrNoToken) || errors.Is(err, token.ErrAmbiguous)) {
		e.Op = "find the token in the modules of the configuration"
	}
	if err != nil {
		return err
	}
	var named []section
	for _, x := range s.sections {
		if x.token.Matches(info) {
			named = append(named, x)
		}
	}
	if err := s.use(c, named); err != nil {
		return err
	}
	return c.Set("module", info.Module)
}

// modules are those that sections name.
func (s *settings) modules() []token.ModuleConfig {
	var all []token.ModuleConfig
	for _, x := range s.sections {
		if path, ok := x.values["module"].(string); ok {
			all = append(all, token.ModuleConfig{Name: x.name, Path: path})
		}
	}
	return all
}

// use has a section's values count, before what stands at the top of the file. The command
// line goes before, and so does the environment, but not for the PIN: a variable does not
// say which token its PIN is for, and the section does.
func (s *settings) use(c *cli.Context, named []section) error {
	s.bound = true
	if len(named) > 1 {
		return s.bad("%s and %s are for one token", named[0].name, named[1].name)
	}
	for _, x := range named {
		for name, value := range x.values {
			if s.onLine[name] || name != "pin-source" && inEnvironment(c.App.Flags, name) {
				continue
			}
			if err := c.Set(name, fmt.Sprint(value)); err != nil {
				return s.bad("%q of %s: %v", name, x.name, err)
			}
		}
	}
	return nil
}

func inEnvironment(flags []cli.Flag, name string) bool {
	d, ok := lookup(flags, name).(cli.DocGenerationFlag)
	return ok && slices.ContainsFunc(d.GetEnvVars(), func(variable string) bool { return os.Getenv(variable) != "" })
}

// checkSource refuses a source of a PIN that sections bind to other tokens alone.
func (s *settings) checkSource(source string, info token.Info) error {
	bound := ""
	for _, x := range s.sections {
		if !sameSource(x.pinSource(), source) {
			continue
		}
		if x.token.Matches(info) {
			return nil
		}
		bound = x.name
	}
	if bound == "" {
		return nil
	}
	return failure.Secret(fmt.Errorf("PIN of token %s: its source is bound to another token, by %s in %q; nothing was sent to the token", text.Printable(info.Label), bound, s.path))
}

// sameSource reports whether two sources are one, by whatever names of a file.
func sameSource(a, b string) bool {
	if a == "" || a == "prompt" || b == "" {
		return false
	}
	if strings.TrimSpace(a) == strings.TrimSpace(b) {
		return true
	}
	fileA, okA := strings.CutPrefix(a, "file:")
	fileB, okB := strings.CutPrefix(b, "file:")
	if !okA || !okB {
		return false
	}
	if filepath.Clean(fileA) == filepath.Clean(fileB) {
		return true
	}
	infoA, errA := os.Stat(fileA)
	infoB, errB := os.Stat(fileB)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}
