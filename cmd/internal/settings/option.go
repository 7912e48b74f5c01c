package settings

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
	"github.com/hsmkeys/hsmkeys/token"
)

// PasswordOption is the option that names where passwords come from.
const PasswordOption = "password-source"

// An Option can be given on the command line, mostly also in the environment and in the
// configuration file.
type Option struct {
	Name     string
	Aliases  []string
	Usage    string // the placeholder of the value is in backquotes
	Default  string // as help shows it
	Variable string // of the environment; "" for none
	InFile   bool
	Kind     Kind

	initial string // value if it is given nowhere
	set     func(*Settings, string)
	within  func(string) string // what a value must be, or "" if this one is; nil for any of the kind
}

// A Kind is what the values of an option are.
type Kind int

const (
	Text Kind = iota
	Bool
	Number
	Duration
)

// String returns what a value has to be.
func (k Kind) String() string {
	return [...]string{"text in quotes", "true or false", "a number", `a duration, such as "90s" or "5m"`}[k]
}

// check returns an error if the option cannot have a value, which where names.
func (o *Option) check(value, where string) error {
	var err error
	switch o.Kind {
	case Bool:
		_, err = strconv.ParseBool(value)
	case Number:
		_, err = strconv.Atoi(value)
	case Duration:
		_, err = ParseDuration(value)
	}
	if err != nil {
		return fmt.Errorf("%s is %s, not %q", where, o.Kind, value)
	}
	if o.within != nil {
		if want := o.within(value); want != "" {
			return fmt.Errorf("%s is %s, not %q", where, want, value)
		}
	}
	return nil
}

// Lookup returns an option by its name or an alias, or nil.
func Lookup(name string) *Option {
	i := slices.IndexFunc(Options, func(o Option) bool { return o.Name == name || slices.Contains(o.Aliases, name) })
	if i < 0 {
		return nil
	}
	return &Options[i]
}

func str(field func(*Settings) *string) func(*Settings, string) {
	return func(s *Settings, value string) { *field(s) = value }
}

// The values have been checked before they are set.

func boolean(field func(*Settings) *bool) func(*Settings, string) {
	return func(s *Settings, value string) { *field(s), _ = strconv.ParseBool(value) }
}

func duration(field func(*Settings) *time.Duration) func(*Settings, string) {
	return func(s *Settings, value string) { *field(s), _ = ParseDuration(value) }
}

// Options are the options that all commands have in common, in the order of help.
var Options = []Option{
	{Name: "config", Usage: "read options from this TOML `FILE`", Variable: "HSMKEYS_CONFIG", Default: "$XDG_CONFIG_HOME/hsmkeys/config.toml",
		set: func(*Settings, string) {}}, // see readFile
	{Name: "module", Usage: "the PKCS #11 `LIBRARY` of the token", Variable: "HSMKEYS_MODULE", InFile: true, Default: "those that p11-kit knows",
		set: str(func(s *Settings) *string { return &s.Module })},
	{Name: "token", Usage: "the token, a label or an RFC 7512 `URI`", Variable: "HSMKEYS_TOKEN", InFile: true, Default: "the only one",
		set: str(func(s *Settings) *string { return &s.Token })},
	{Name: "store", Usage: "the `STORE` of the key blobs, a directory or s3://BUCKET/PREFIX", Variable: "HSMKEYS_STORE", InFile: true, Default: "$XDG_DATA_HOME/hsmkeys",
		set: str(func(s *Settings) *string { return &s.Store })},
	{Name: "pin-source", Usage: "where the PIN comes from: prompt, env:`NAME`, file:PATH or exec:COMMAND", Variable: "HSMKEYS_PIN_SOURCE", InFile: true, Default: "prompt",
		set: str(func(s *Settings) *string { return &s.PINSource })},
	{Name: PasswordOption, Usage: "where the passwords of keys and files come from, as --pin-source", Variable: "HSMKEYS_PASSWORD_SOURCE", InFile: true, Default: "prompt",
		set: str(func(s *Settings) *string { return &s.PasswordSource })},
	{Name: "json", Usage: "print one JSON document, and messages in JSON; data such as reveal prints stays as it is", Variable: "HSMKEYS_JSON", InFile: true, Kind: Bool,
		set: boolean(func(s *Settings) *bool { return &s.JSON })},
	{Name: "signing-key", Usage: "the pair that signs, where the key exchange pair must not: a label, or an RFC 7512 `URI` with object or id", Variable: "HSMKEYS_SIGNING_KEY", InFile: true,
		set: str(func(s *Settings) *string { return &s.SigningKey })},
	{Name: "require-token", Usage: "refuse to use session keys outside the token, if it cannot hold them", Variable: "HSMKEYS_REQUIRE_TOKEN", InFile: true, Kind: Bool,
		set: boolean(func(s *Settings) *bool { return &s.RequireToken })},
	{Name: "sessions", Usage: "make at most `N` calls to the token at a time, up to 16", Variable: "HSMKEYS_SESSIONS", InFile: true, Kind: Number, Default: "as many as it takes",
		set: func(s *Settings, value string) { s.Sessions, _ = strconv.Atoi(value) }, within: func(value string) string {
			if n, _ := strconv.Atoi(value); n < 1 || n > token.MaxSessions {
				return fmt.Sprintf("a number from 1 to %d", token.MaxSessions)
			}
			return ""
		}},
	{Name: "module-timeout", Usage: "give up on a module that does not return from a call within this `TIME`", Variable: "HSMKEYS_MODULE_TIMEOUT", InFile: true, Kind: Duration, Default: "1m", initial: "1m",
		set: duration(func(s *Settings) *time.Duration { return &s.ModuleTimeout }), within: func(value string) string {
			if d, _ := ParseDuration(value); d < time.Second {
				return "a second at least, such as 90s or 5m"
			}
			return ""
		}},
	{Name: "read-back", Usage: "unwrap again what the token has wrapped to its own pair, before it is stored: `WHICH` is all or none", Variable: "HSMKEYS_READ_BACK", InFile: true, Default: "all", initial: "all",
		set: func(s *Settings, value string) { s.ReadBack = value != "none" }, within: func(value string) string {
			if value != "all" && value != "none" {
				return "all or none"
			}
			return ""
		}},
	{Name: "keyring", Usage: "the `ID` of the keyring that the store must hold", Variable: "HSMKEYS_KEYRING", InFile: true, Default: "the one that init or join has put or found there",
		set: str(func(s *Settings) *string { return &s.Keyring })},
	{Name: "checkpoint", Usage: "trust this checkpoint, `N:DIGEST`, as another member's hsmkeys checkpoint prints it", Variable: "HSMKEYS_CHECKPOINT",
		set: str(func(s *Settings) *string { return &s.Checkpoint })},
	{Name: "max-age", Usage: "encrypt nothing under a state of the keyring older than this `TIME`, such as 24h or 30d", Variable: "HSMKEYS_MAX_AGE", InFile: true, Kind: Duration, Default: "any", initial: "0",
		set: duration(func(s *Settings) *time.Duration { return &s.MaxAge }), within: func(value string) string {
			if d, _ := ParseDuration(value); d < 0 {
				return "a time such as 24h or 30d"
			}
			return ""
		}},
	{Name: "older-state", Usage: "decrypt with what is there, if the store lacks the newest state of the keyring", Variable: "HSMKEYS_OLDER_STATE", Kind: Bool,
		set: boolean(func(s *Settings) *bool { return &s.OlderState })},
	{Name: "agent", Usage: "the `SOCKET` of an agent, which is used if it has the token", Variable: "HSMKEYS_AGENT", InFile: true, Default: "$XDG_RUNTIME_DIR/hsmkeys/agent.sock",
		set: str(func(s *Settings) *string { return &s.Agent })},
	{Name: "no-agent", Usage: "use no agent", Variable: "HSMKEYS_NO_AGENT", InFile: true, Kind: Bool,
		set: boolean(func(s *Settings) *bool { return &s.NoAgent })},
	{Name: "audit", Usage: "record each use of a key and each change at this `DESTINATION`: file:PATH, syslog or journald", Variable: "HSMKEYS_AUDIT", InFile: true, Default: "nowhere",
		set: str(func(s *Settings) *string { return &s.Audit }), within: func(value string) string {
			if err := audit.Check(value); err != nil {
				return audit.Destinations
			}
			return ""
		}},
	{Name: "wide", Aliases: []string{"w"}, Usage: "do not fit tables to the width of the terminal", Kind: Bool,
		set: boolean(func(s *Settings) *bool { return &s.Wide })},
	{Name: "final-try", Usage: "log in even if one more wrong PIN locks the token", Kind: Bool,
		set: boolean(func(s *Settings) *bool { return &s.FinalTry })},
	{Name: "any-pin-length", Usage: "send a PIN that is shorter or longer than what the token says it takes", Kind: Bool,
		set: boolean(func(s *Settings) *bool { return &s.AnyPINLength })},
}
