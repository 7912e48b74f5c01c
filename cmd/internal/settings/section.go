package settings

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

// Each section of the configuration file is for one token: [token.office] by its label,
// [token."pkcs11:serial=1f2e"] by a URI. It has what belongs to the token, above all where its PIN
// comes from, so that no token gets the PIN of another: each wrong one uses up a try, and cards have
// three.

// InSection are the options that a section can set.
var InSection = []string{"module", "store", "pin-source", PasswordOption, "signing-key", "require-token", "sessions"}

// A section is what the configuration file says about one token.
type section struct {
	name   string            // as it stands in the file
	token  token.Selector    // label, serial, manufacturer and model alone
	values map[string]string // by name of the option
}

// addSection checks a section and adds it.
func (s *Settings) addSection(label string, value any) error {
	x := section{name: fmt.Sprintf("[token.%q]", label), values: map[string]string{}}
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
		return s.bad("%s is not a section; %s names the token, where there are sections", x.name, DefaultToken)
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		where := fmt.Sprintf("%q of %s", name, x.name)
		if !slices.Contains(InSection, name) {
			return s.bad("%s is not an option that a section can set; it can set %s", where, strings.Join(InSection, ", "))
		}
		if x.values[name], err = s.value(name, table[name], where); err != nil {
			return err
		}
	}
	s.sections = append(s.sections, x)
	return nil
}

// names reports whether a selector names the section's token. If only the token that the selector
// finds can tell, unsure is true.
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

// bindByName puts the section in force that --token names, if that can be told without looking at
// any token.
func (s *Settings) bindByName() error {
	sel, err := token.ParseSelector(s.Token)
	clear(sel.PINValue)
	if err != nil {
		return nil // commands that need the token report it
	}
	return s.BindTo(sel)
}

// BindTo puts the section in force that a selector names, if that can be told without looking at any
// token.
func (s *Settings) BindTo(sel token.Selector) error {
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
	return s.use(named)
}

// Bind puts the section in force of the token that is going to be used. If its name does not tell
// which section that is, the token is searched for with list, which needs no PIN.
func (s *Settings) Bind(ctx context.Context, list token.Lister) error {
	if s.bound || len(s.sections) == 0 {
		return nil
	}
	sel, module, err := s.Selector()
	clear(sel.PINValue)
	if err != nil {
		return err
	}
	known := []token.ModuleConfig{{Path: module}}
	switch {
	case module == "":
		if known, err = s.Modules(); err != nil {
			return err
		}
	case !s.OnLine("module") && s.environment["module"] == "" && module == s.Module: // the file's, beside those of sections
		known = append(known, s.sectionModules()...)
	}
	info, err := token.Find(ctx, known, sel, list)
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
	if err := s.use(named); err != nil {
		return err
	}
	s.Module = info.Module
	return nil
}

// sectionModules returns the modules that sections name.
func (s *Settings) sectionModules() []token.ModuleConfig {
	var all []token.ModuleConfig
	for _, x := range s.sections {
		if path, ok := x.values["module"]; ok {
			all = append(all, token.ModuleConfig{Name: x.name, Path: path})
		}
	}
	return all
}

// use puts a section in force.
func (s *Settings) use(named []section) error {
	s.bound = true
	switch len(named) {
	case 0:
	case 1:
		s.section = named[0].values
		s.resolve()
	default:
		return s.bad("%s and %s are for one token", named[0].name, named[1].name)
	}
	return nil
}

// CheckSource refuses a source of a PIN for a token if sections bind it to other tokens alone.
func (s *Settings) CheckSource(source string, info token.Info) error {
	bound := ""
	for _, x := range s.sections {
		if !sameSource(x.values["pin-source"], source) {
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

// sameSource reports whether two sources are the same, also by different names of a file.
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
