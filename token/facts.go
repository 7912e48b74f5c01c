package token

import (
	"errors"
	"fmt"
	"strings"
)

// Situations that a caller may want to explain to a person, found with [errors.Is]. An [Error]
// has them as its Err, where they are part of the message, or as its Facts.
var (
	// Of modules.
	ErrNoModule         = errors.New("no module named")
	ErrModulePath       = errors.New("there is no such module")
	ErrModuleFile       = errors.New("not a file")
	ErrModuleRead       = errors.New("the module cannot be read")
	ErrModuleWorkingDir = errors.New("the module is in the working directory, where the loader does not look")
	ErrModuleLoad       = errors.New("the module cannot be loaded")
	ErrNoAnswer         = errors.New("no answer")
	ErrModuleSettings   = errors.New("the configuration of p11-kit cannot be used")

	// Of tokens, their PINs and sessions.
	ErrTokensChanged         = errors.New("the tokens changed while they were read")
	ErrNoUserPIN             = errors.New("no user PIN has been set")
	ErrInitializedWithoutPIN = errors.New("the token is initialised and has no user PIN")
	ErrPINEncoding           = errors.New("the PIN is not plain UTF-8")
	ErrPINCharacter          = errors.New("the PIN has a control character")
	ErrPINLength             = errors.New("the PIN is shorter or longer than the token announces")
	ErrPINNeeded             = errors.New("the token went away, and its PIN would have to be asked for")
	ErrKeyLost               = errors.New("the key went with its session")

	// Of the names of tokens.
	ErrURIPrefix    = errors.New("text precedes the URI")
	ErrURIPIN       = errors.New("the URI is malformed and contains a PIN")
	ErrURIValue     = errors.New("the attribute has no value")
	ErrURIType      = errors.New("the type is not that of a key pair")
	ErrURITwice     = errors.New("two attributes say the same")
	ErrURIPath      = errors.New("the name of the module is a path")
	ErrURIPINSource = errors.New("the source of the PIN has no known form")

	// Of key exchange pairs.
	ErrLabelTaken   = errors.New("the label is taken")
	ErrKeyTaken     = errors.New("this key is on the token already")
	ErrMakesNoPairs = errors.New("the token cannot make such pairs")
	ErrTakesNoPairs = errors.New("the token does not import such a private key")
	ErrLegacyPair   = errors.New("a legacy pair")
	ErrNoPublicKey  = errors.New("nothing on the token has the public key of the pair")
	ErrMayNotSign   = errors.New("the private key may not sign (CKA_SIGN)")
	ErrSamePair     = errors.New("it is the key exchange pair itself")

	// Of session keys.
	ErrOpensNoKey  = errors.New("it opens no session key")
	ErrReadBack    = errors.New("the token has wrapped the session key wrongly")
	ErrReveals     = errors.New("the token reveals the value of a sensitive key")
	ErrNoCipher    = errors.New("the token does not know the cipher")
	ErrKeepsNoKeys = errors.New("the token keeps no session keys")
)

// Facts of an [Error] with details, found with [errors.As]. They are errors only for that purpose: the
// message of the Error does not contain those in its Facts.

// PairsFound are the facts of an [ErrNoPair], with the pairs that the token has, and of an
// [ErrAmbiguous], with the pairs that match.
type PairsFound struct {
	Pairs []PairName
	More  int // that are not in Pairs
}

func (f *PairsFound) Error() string {
	return fmt.Sprintf("pairs on the token: %v, and %d more", f.Pairs, f.More)
}

// TokensFound are the facts of an [ErrNoToken], with the tokens that exist, and of an [ErrAmbiguous],
// with the tokens that match.
type TokensFound struct {
	Selector Selector // what was searched for
	Tokens   []Info   // also those that cannot be used, with their Problem

	// Searched is set if no module was named: Modules are then those that answered, and Failed
	// has an error for each that did not.
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

// BlankTokens are the facts if [Initialize] refuses to choose a token, with all tokens of the module.
type BlankTokens struct {
	Label  string
	Slot   *uint // that was named, or nil
	Tokens []Info
}

func (f *BlankTokens) Error() string { return "tokens: " + named(f.Tokens) }

// PINTried are the facts of an [ErrPIN] or [ErrPINLocked] if the token refused a login. PIN is the
// state of its PIN afterwards, or nil if it is unknown.
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

// ModulesNamed are the facts of an [ErrModule] of [ModuleNamed]: the names of all modules, or the
// paths of those that have the name.
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
