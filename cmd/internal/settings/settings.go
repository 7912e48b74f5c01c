// Package settings reads the options that all commands have in common: from the command line, the
// environment and the configuration file, in this order of precedence.
package settings

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// Settings are the values of the global options for one run.
type Settings struct {
	Module         string
	Token          string // a label, or an RFC 7512 URI
	Store          string // see [Settings.StorePath]
	PINSource      string // see [Settings.UserPINSource]
	PasswordSource string
	JSON           bool
	SigningKey     string
	RequireToken   bool
	Sessions       int // 0: as many as the token takes
	ModuleTimeout  time.Duration
	ReadBack       bool
	Keyring        string        // identifier of the keyring that the store must hold
	Checkpoint     string        // N:DIGEST
	MaxAge         time.Duration // 0: any
	OlderState     bool
	Wide           bool
	FinalTry       bool
	AnyPINLength   bool
	Agent          string // see [Settings.AgentSocket]
	NoAgent        bool
	Audit          string // see [audit.Open]; "" for nowhere

	// Fields that commands set, as no option does.

	MakePairs   bool // log in so that key exchange pairs can be made
	IgnoreCache bool // try what the token can do, whatever the cache says
	WholeStore  bool // bypass the disk cache of the store
	Stays       bool // keep the keyring open, and look for changes whenever it is used

	// NeedsAllowed is what the command does that an agent must have been allowed: reveal, load or
	// export. Without that the agent is not used.
	NeedsAllowed string
	// TokenPatience is [token.Config.Patience].
	TokenPatience time.Duration
	AuditLog      *audit.Log // once it is open

	// ProposeTo is the file to which a change of members is written as a proposal, in place of being
	// made, and ProposeFor how long another owner can approve it; "" makes the change.
	ProposeTo  string
	ProposeFor time.Duration

	line        map[string]string // values by name of the option, as given on the command line,
	environment map[string]string // in the environment,
	section     map[string]string // in the section of the token,
	top         map[string]string // and at the top of the configuration file

	path     string // of the configuration file; "" for none
	confined bool   // see Source
	sections []section
	bound    bool // the section of the token, if there is one, is in force
}

// A Source is where settings come from, besides the environment and the configuration file.
type Source struct {
	Line map[string]string // values given on the command line by the name of the option

	// Confined refuses relative paths. age runs its plugins in the directory for temporary files,
	// where anybody may have put what a relative path names: a library that would be loaded, a
	// command that would be run.
	Confined bool
}

// Load reads the environment and the configuration file, and checks all values. An error has the
// status [failure.StatusUsage].
func Load(from Source) (*Settings, error) {
	s := &Settings{line: map[string]string{}, environment: map[string]string{}, confined: from.Confined}
	for name, value := range from.Line {
		s.line[name] = value
	}
	for _, name := range []string{"config", "module", "store", "agent", "audit"} {
		if value, ok := s.line[name]; ok && value == "" { // a variable of the shell that is not set
			return nil, failure.Usage("the value of option --%s is empty", name)
		}
	}
	for i := range Options {
		if err := s.given(&Options[i]); err != nil {
			return nil, err
		}
	}
	if err := s.moduleHere(); err != nil {
		return nil, err
	}
	file, err := s.readFile()
	if err != nil {
		return nil, err
	}
	if s.top, err = s.parse(file); err != nil {
		return nil, err
	}
	s.resolve()
	return s, s.bindByName()
}

// given reads an option from the environment, and checks its value there and on the command line.
// A variable that is set to nothing counts as not set.
func (s *Settings) given(o *Option) error {
	if value, ok := s.line[o.Name]; ok {
		if err := o.check(value, "option --"+o.Name); err != nil {
			return failure.Usage("%w", err)
		}
	}
	value := os.Getenv(o.Variable)
	if o.Variable == "" || value == "" {
		return nil
	}
	s.environment[o.Name] = value
	if _, ok := s.line[o.Name]; ok {
		return nil // which has precedence, and is not confined: it is the identity's
	}
	if err := o.check(value, "variable "+o.Variable); err != nil {
		return failure.Usage("%w", err)
	}
	return s.absolute(o.Name, value, o.Variable)
}

// resolve sets the field of every option from the place that has precedence. The command line goes
// first, and then the environment, except for the PIN: a variable does not say which token its PIN is
// for, and the section does.
func (s *Settings) resolve() {
	for _, o := range Options {
		order := []map[string]string{s.line, s.environment, s.section, s.top}
		if o.Name == "pin-source" {
			order[1], order[2] = order[2], order[1]
		}
		value := o.initial
		for _, values := range order {
			if v, ok := values[o.Name]; ok {
				value = v
				break
			}
		}
		o.set(s, value)
	}
}

// For returns the settings as they are with another value of --token.
func (s *Settings) For(token string) (*Settings, error) {
	other := *s
	other.line = maps.Clone(s.line)
	other.line["token"] = token
	other.section, other.bound = nil, false
	other.resolve()
	return &other, other.bindByName()
}

// OnLine reports whether the command line has an option.
func (s *Settings) OnLine(name string) bool {
	_, ok := s.line[name]
	return ok
}

// moduleHere makes --module FILE name the file in the current directory, if there is one. The
// dynamic loader looks for a name without a slash in its own directories alone. That is left so in
// the environment and in the configuration file: what they name must not depend on the directory
// that one happens to be in. Nor is another user's file taken, as in /tmp.
func (s *Settings) moduleHere() error {
	name := s.line["module"]
	if s.confined || name == "" || strings.ContainsRune(name, filepath.Separator) {
		return nil
	}
	path := "." + string(filepath.Separator) + name
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	f, err := ownfile.Open(path, false)
	if err != nil {
		return failure.Usage("--module %s: %w", name, err)
	}
	_ = f.Close()
	s.line["module"] = path
	return nil
}

// StorePath returns the directory of the store: that of --store, or else the usual one; or "" if the
// environment names no home for it.
func (s *Settings) StorePath() string {
	if s.Store != "" {
		return s.Store
	}
	return XDG("XDG_DATA_HOME", ".local/share")
}

// AgentSocket returns the path of the agent's socket: that of --agent, or else the usual one; or "" if
// the environment names no directory for it.
func (s *Settings) AgentSocket() string {
	if s.Agent != "" {
		return s.Agent
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "hsmkeys", "agent.sock")
	}
	return ""
}

// NamedStore returns [Settings.StorePath], or an error if there is none.
func (s *Settings) NamedStore() (string, error) {
	path := s.StorePath()
	if path == "" {
		return "", failure.Usage("no --store, and neither $XDG_DATA_HOME nor $HOME is an absolute path")
	}
	return path, nil
}

// ParseDuration parses a duration of package time or a number of days, such as 30d.
func ParseDuration(s string) (time.Duration, error) {
	const most = 100 * 366
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil && n <= most {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(s)
}
