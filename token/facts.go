package token

import (
	"errors"
	"fmt"
	"strings"
)

// Situations that a caller may want to explain to a person, found with [errors.Is]. An [Error]
// has them as its Err, where they are part of the message, or as its Facts.
var (
	ErrNoModule       = errors.New("no module named")
	ErrModulePath     = errors.New("there is no such module")
	ErrModuleFile     = errors.New("not a file")
	ErrModuleRead     = errors.New("the module cannot be read")
	ErrModuleHere     = errors.New("the module is in the working directory, where the loader does not look")
	ErrModuleLoad     = errors.New("the module cannot be loaded")
	ErrNoAnswer       = errors.New("no answer")
	ErrModuleSettings = errors.New("the configuration of p11-kit cannot be used")

	ErrTokensChanged = errors.New("the tokens changed while they were looked at")
	ErrNoUserPIN     = errors.New("no user PIN has been set")
	ErrNoPINYet      = errors.New("the token is initialised and has no user PIN")
	ErrPINEncoding   = errors.New("the PIN is not plain UTF-8")
	ErrPINCharacter  = errors.New("the PIN has a control character")
	ErrPINLength     = errors.New("the PIN is shorter or longer than the token announces")
	ErrPINNeeded     = errors.New("the token went away, and its PIN would have to be asked for")
	ErrKeyLost       = errors.New("the key went with its session")

	ErrURIStart = errors.New("text stands before the URI")
	ErrURIPIN   = errors.New("the URI is malformed, and has a PIN in it")
	ErrURIValue = errors.New("the attribute has no value")
	ErrURIType  = errors.New("the type is not that of a key pair")
	ErrURITwice = errors.New("two attributes say the same")
	ErrURIPath  = errors.New("a module's name is a path")
	ErrURIPINs  = errors.New("the PIN's source is of no known form")

	ErrLabelTaken   = errors.New("the label is taken")
	ErrKeyTaken     = errors.New("this key is on the token already")
	ErrMakesNoPairs = errors.New("the token makes no such pairs")
	ErrTakesNoPairs = errors.New("the token takes no such private key from outside")
	ErrLegacyPair   = errors.New("a legacy pair")
	ErrNoPublicKey  = errors.New("nothing on the token has the public key of the pair")
	ErrMayNotSign   = errors.New("the private key may not sign (CKA_SIGN)")
	ErrSamePair     = errors.New("it is the key exchange pair itself")

	ErrOpensNoKey  = errors.New("it opens no session key")
	ErrReadBack    = errors.New("the token has wrapped the session key wrongly")
	ErrReveals     = errors.New("the token reveals the value of a sensitive key")
	ErrNoCipher    = errors.New("the token does not know the cipher")
	ErrKeepsNoKeys = errors.New("the token keeps no session keys")
)

// Facts of an [Error] that are more than one word, found with [errors.As]. They are errors for
// that alone: the message of the Error does not have them.

// PairsFound is the fact of an [ErrNoPair], which pairs the token has, and of an [ErrAmbiguous],
// which pairs match.
type PairsFound struct {
	Pairs []PairName
	More  int // that are not in Pairs
}

func (f *PairsFound) Error() string {
	return fmt.Sprintf("pairs on the token: %v, and %d more", f.Pairs, f.More)
}

// TokensFound is the fact of an [ErrNoToken], which tokens there are, and of an [ErrAmbiguous],
// which tokens match.
type TokensFound struct {
	Selector Selector // what was looked for
	Tokens   []Info   // with their Problem, where one cannot be used

	// Searched is set where no module was named: Modules are then those that answered, and
	// Failed has an error for each that did not.
	Searched bool
	Modules  []string
	Failed   []error
}

func (f *TokensFound) Error() string {
	return fmt.Sprintf("tokens: %s; in modules %q; %v", named(f.Tokens), f.Modules, f.Failed)
}

func named(tokens []Info) string {
	var all []string
	for _, t := range tokens {
		all = append(all, fmt.Sprintf("%q (serial %s, slot %d)", t.Label, t.Serial, t.Slot))
	}
	return strings.Join(all, ", ")
}

// BlankTokens is the fact of a refusal of [Initialize] to choose a token.
type BlankTokens struct {
	Label  string
	Slot   *uint // that was named, or nil
	Tokens []Info
}

func (f *BlankTokens) Error() string { return "tokens: " + named(f.Tokens) }

// PINTried is the fact of an [ErrPIN] or [ErrPINLocked] of a login that the token refused. PIN is
// what the token says of its PIN now, or nil.
type PINTried struct{ PIN *PIN }

func (f *PINTried) Error() string { return "the PIN was tried once" }

// LoadedAlready is the cause of an [ErrTaken] of [KeyPair.Load]: a secret key that has the id, or
// the label, of the one to be loaded.
type LoadedAlready struct {
	Key    Loaded
	SameID bool
}

func (f *LoadedAlready) Error() string {
	const public = "that anybody can make and use without the PIN (CKA_PRIVATE is false)"
	switch {
	case f.SameID && f.Key.Public:
		return fmt.Sprintf("a secret key %q %s has its id", f.Key.Label, public)
	case f.SameID:
		return "this very key is there already"
	case f.Key.Public:
		return fmt.Sprintf("a secret key %s has this label", public)
	}
	return "another secret key has this label"
}

// ModulesNamed is the fact of an [ErrModule] of [ModuleNamed]: the names of the modules that
// there are, or the paths of those that have the name.
type ModulesNamed struct {
	Known []string // sorted
	Paths []string // two or more, or none
}

func (f *ModulesNamed) Error() string { return fmt.Sprintf("modules: %v %v", f.Known, f.Paths) }

// URIAttribute is the cause of an [ErrURI] with an attribute that is not supported.
type URIAttribute struct {
	Name  string
	Known []string // at that place of a URI
}

func (f *URIAttribute) Error() string { return fmt.Sprintf("attribute %q is not supported", f.Name) }
