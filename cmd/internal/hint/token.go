package hint

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/xrash/smetrics"

	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// ofToken returns hints for errors of package token: modules, tokens, PINs and pairs.
func ofToken(err error) string {
	for _, hint := range []func(error) string{ofFacts, ofSituation, ofKind} {
		if text := hint(err); text != "" {
			return text
		}
	}
	return ""
}

// ofFacts returns a hint that names what there is on the machine or on the token.
func ofFacts(err error) string {
	if facts := (*ownfile.Error)(nil); errors.As(err, &facts) && facts.Writable {
		return "chmod go-w " + shellWord(facts.Path)
	}
	if facts := (*token.PairsFound)(nil); errors.As(err, &facts) {
		if errors.Is(err, token.ErrAmbiguous) {
			return choosePair(facts)
		}
		return otherPairs(facts)
	}
	if facts := (*token.TokensFound)(nil); errors.As(err, &facts) {
		if errors.Is(err, token.ErrAmbiguous) {
			return chooseToken(facts)
		}
		return otherTokens(facts)
	}
	if facts := (*token.BlankTokens)(nil); errors.As(err, &facts) {
		return otherSlots(facts)
	}
	if facts := (*token.PINTried)(nil); errors.As(err, &facts) && !errors.Is(err, token.ErrPINLocked) && !errors.Is(err, token.ErrLost) {
		return triesLeft(facts.PIN)
	}
	if facts := (*token.LoadedAlready)(nil); errors.As(err, &facts) {
		return loaded(facts)
	}
	if facts := (*token.ModulesNamed)(nil); errors.As(err, &facts) {
		if len(facts.Paths) > 0 {
			return "name one by its path: " + strings.Join(facts.Paths, ", ")
		}
		return "known modules: " + orNone(facts.Known, "none") + "; name any other by its path, with module-path or --module"
	}
	if facts := (*token.URIAttribute)(nil); errors.As(err, &facts) {
		return "known attributes: " + strings.Join(facts.Known, ", ")
	}
	if e := (*token.Error)(nil); errors.Is(err, token.ErrModuleWorkingDir) && errors.As(err, &e) {
		return "the dynamic loader looks up a name without a slash; the file in this directory is ./" + e.Token
	}
	return ""
}

const (
	otherModule = "name the module you want with --module, or write disable-in: hsmkeys into this one's configuration for p11-kit"
	newPIN      = "have the security officer set a new PIN (pkcs11-tool --init-pin)"
	notSent     = "; nothing was sent to the token, and no try was used up"
)

type situation struct {
	is   error
	hint string
}

// situations have one hint each.
var situations = []situation{
	{token.ErrNoModule, "name one with --module, HSMKEYS_MODULE or a URI's module-path"},
	{token.ErrModulePath, "check the path; on Linux SoftHSM2's module is often /usr/lib/softhsm/libsofthsm2.so"},
	{token.ErrModuleFile, "name the module's .so file itself"},
	{token.ErrModuleRead, "this user must be allowed to read the module"},
	{token.ErrModuleLoad, "is it the vendor's PKCS #11 library, for this processor?"},
	{token.ErrNoAnswer, otherModule},
	{token.ErrModuleSettings, "name the module with --module"},
	{token.ErrTokensChanged, "the tokens changed in the meantime; try again"},
	{token.ErrNoUserPIN, "have the security officer set one (pkcs11-tool --init-pin)"},
	{token.ErrInitializedWithoutPIN, "the token is initialised but has no user PIN; set it with pkcs11-tool --init-pin"},
	{token.ErrPINEncoding, "keep it in UTF-8, without a byte order mark and on one line" + notSent},
	{token.ErrPINCharacter, "look at where it comes from" + notSent},
	{token.ErrPINLength, "look at where it comes from; --any-pin-length sends it all the same" + notSent},
	{token.ErrPINNeeded, "open the token again; with a --pin-source other than prompt a program does that by itself"},
	{token.ErrKeyLost, "repeat the command"},
	{token.ErrURIPrefix, "a URI begins with pkcs11: and nothing before it"},
	{token.ErrURIPIN, "write special characters of the PIN as %XX; better, use pin-source=/path or --pin-source"},
	{token.ErrURIValue, "leave it out"},
	{token.ErrURIType, "leave type out, or use type=private"},
	{token.ErrURITwice, "use one of them"},
	{token.ErrURIPath, "use module-path for it"},
	{token.ErrURIPINSource, "it is a path, a URI of the scheme file, or | and a command"},
	{token.ErrLabelTaken, "choose another --label, or use the pair that is there with --adopt"},
	{token.ErrMakesNoPairs, "hsmkeys init --adopt uses a pair that is on the token already"},
	{token.ErrTakesNoPairs, "this token does not accept such a private key from outside; make a pair on it with hsmkeys init"},
	{token.ErrNoPublicKey, "store its certificate or public key on the token, with the private key's id (pkcs11-tool --write-object)"},
	{token.ErrMayNotSign, "name the pair that signs with --signing-key"},
	{token.ErrSamePair, "leave --signing-key out"},
	{token.ErrOpensNoKey, "session keys need a pair that may decrypt, unwrap or derive: hsmkeys init --label NEW makes one"},
	{token.ErrReadBack, "the token made a mistake; nothing was stored: try again, and if it happens again the token or its module is broken"},
	{token.ErrReveals, "without --require-token it is used all the same"},
	{token.ErrNoCipher, "the token does not know this cipher; hsmkeys reveal gives the key to a program that does"},
	{token.ErrKeepsNoKeys, "this token keeps no session keys; load works with tokens that do"},
	{syscall.EMFILE, "allow more open files, with ulimit -n"},
	{syscall.ENFILE, "allow more open files, with ulimit -n"},
}

// ofSituation returns a hint that depends on the situation alone.
func ofSituation(err error) string {
	const legacy = "hsmkeys import NAME --capi FILE --pair LABEL opens a SIMPLEBLOB with it"
	e := (*token.Error)(nil)
	errors.As(err, &e)
	switch {
	case errors.Is(err, token.ErrKeyTaken) && errors.Is(err, token.ErrLegacyPair):
		return legacy
	case errors.Is(err, token.ErrKeyTaken):
		return "hsmkeys init --adopt uses it"
	case e != nil && e.Facts == token.ErrLegacyPair:
		return "hsmkeys token import-pair --legacy takes RSA from 512 bits, to open SIMPLEBLOBs and for nothing else"
	case errors.Is(err, token.ErrLegacyPair):
		return legacy + "; all else needs RSA with 2048 bits, or EC"
	}
	for _, s := range situations {
		if errors.Is(err, s.is) {
			return s.hint
		}
	}
	return ""
}

// ofKind returns a hint for whatever failed with an error of a kind.
func ofKind(err error) string {
	switch {
	case errors.Is(err, token.ErrPINLocked):
		return newPIN
	case errors.Is(err, token.ErrFinalTry):
		return "a wrong PIN now locks the token; if you are sure of it, add --final-try"
	case errors.Is(err, token.ErrNoPair):
		return "hsmkeys init makes one; hsmkeys init --adopt uses one that is there"
	case errors.Is(err, token.ErrResidence):
		return "without --require-token they live in the memory of this program while they are used"
	case errors.Is(err, token.ErrURI):
		return "RFC 7512 defines the form: pkcs11:token=LABEL;object=PAIR?module-path=/path/module.so"
	case errors.Is(err, token.ErrLost) && errors.Is(err, token.ErrPIN):
		return "open the token again, with the right PIN"
	case errors.Is(err, token.ErrLost):
		return "put the token back, or start its daemon again, and repeat the command"
	}
	return ""
}

// otherPairs names the pairs on a token that has not the one that was named.
func otherPairs(facts *token.PairsFound) string {
	var names []string
	for _, p := range facts.Pairs {
		if p.Label != "" {
			names = append(names, strconv.Quote(p.Label))
		} else {
			names = append(names, p.URI())
		}
	}
	if facts.More > 0 {
		names = append(names, fmt.Sprintf("%d more", facts.More))
	}
	return "the token has these pairs: " + strings.Join(names, ", ")
}

// choosePair tells how to name one of several pairs.
func choosePair(facts *token.PairsFound) string {
	var all []string
	for _, p := range facts.Pairs {
		choice := fmt.Sprintf("%s (%q)", p.URI(), p.Label)
		if slices.Contains(all, choice) {
			return fmt.Sprintf("several have the same id and label, %s: give all but one another id, with pkcs11-tool --set-id", choice)
		}
		all = append(all, choice)
	}
	if facts.More > 0 {
		all = append(all, fmt.Sprintf("%d more", facts.More))
	}
	return "name one by its id: " + strings.Join(all, ", ")
}

// otherTokens names the tokens where there is not the one that was named.
func otherTokens(facts *token.TokensFound) string {
	have := map[string][]string{} // by module
	var all []string
	for _, t := range facts.Tokens {
		what := strconv.Quote(t.Label)
		switch {
		case t.Problem != "":
			what = fmt.Sprintf("one in slot %d that cannot be used: %s", t.Slot, t.Problem)
		case !t.Initialized:
			continue
		}
		all = append(all, what)
		have[t.Module] = append(have[t.Module], what)
	}
	if !facts.Searched {
		if len(all) == 0 {
			return "the module shows no initialised token; hsmkeys token init LABEL initialises a blank one"
		}
		return meant(facts) + "the module shows: " + strings.Join(all, ", ")
	}
	var looked []string
	for _, path := range facts.Modules {
		looked = append(looked, fmt.Sprintf("%s (%s)", path, orNone(have[path], "no token")))
	}
	for _, err := range facts.Failed {
		looked = append(looked, err.Error())
	}
	if looked == nil {
		looked = []string{"p11-kit knows no module"}
	}
	return meant(facts) + "looked at: " + strings.Join(looked, "; ") + "; another module is named with --module"
}

// meant asks whether the token is meant whose label is most like the one that was named, or
// returns "" if none is.
func meant(facts *token.TokensFound) string {
	named := facts.Selector.Label
	best, likeness := "", 0.8
	for _, t := range facts.Tokens {
		if l := smetrics.JaroWinkler(named, t.Label, 0.7, 4); t.Initialized && l > likeness {
			best, likeness = t.Label, l
		}
	}
	if best == "" || best == named {
		return ""
	}
	return fmt.Sprintf("did you mean %q? ", best)
}

// chooseToken tells how to name one of several tokens.
func chooseToken(facts *token.TokensFound) string {
	var all []string
	for _, t := range facts.Tokens {
		if facts.Searched {
			all = append(all, fmt.Sprintf("pkcs11:serial=%s?module-path=%s (%q, slot %d)", url.PathEscape(t.Serial), escapePath(t.Module), t.Label, t.Slot))
		} else {
			all = append(all, fmt.Sprintf("pkcs11:serial=%s (%q, slot %d)", t.Serial, t.Label, t.Slot))
		}
	}
	if facts.Searched {
		return "name one by its serial and module: " + strings.Join(all, ", ")
	}
	return "name one by its serial: " + strings.Join(all, ", ")
}

// escapePath makes a path the value of a query attribute (RFC 7512 §2.3).
func escapePath(path string) string {
	return strings.NewReplacer("%2F", "/", "&", "%26").Replace(url.PathEscape(path))
}

// otherSlots names the tokens that can be initialised where the one that was named cannot.
func otherSlots(facts *token.BlankTokens) string {
	inSlot := false
	var blank []string
	for _, t := range facts.Tokens {
		named := facts.Slot != nil && t.Slot == *facts.Slot
		inSlot = inSlot || named
		switch {
		case t.Initialized && t.Label == facts.Label:
			return fmt.Sprintf("a token with this label is in slot %d, serial %s; choose another label", t.Slot, t.Serial)
		case t.Initialized && named:
			return fmt.Sprintf("the token in slot %d is %q; it is not initialised a second time", t.Slot, t.Label)
		case !t.Initialized && t.Problem == "":
			blank = append(blank, fmt.Sprint(t.Slot))
		}
	}
	what := "the module shows no blank token"
	switch {
	case facts.Slot != nil && !inSlot:
		what = fmt.Sprintf("there is no token in slot %d", *facts.Slot)
	case facts.Slot != nil:
		what = fmt.Sprintf("there is no blank token in slot %d", *facts.Slot)
	}
	if len(blank) == 0 {
		return what + "; hsmkeys token list shows what there is"
	}
	return what + "; blank ones are in: " + strings.Join(blank, ", ")
}

// triesLeft tells after a wrong PIN what the token says; pin is nil where it says nothing.
func triesLeft(pin *token.PIN) string {
	const once = "it was tried once and is not tried again"
	switch {
	case pin == nil:
		return once
	case pin.Locked:
		return once + "; the token has locked the PIN"
	case pin.FinalTry:
		return once + "; the token says that one try is left"
	case pin.CountLow:
		return once + "; the token says that tries have been used up, not how many are left"
	}
	return once + "; the token does not say how many tries are left"
}

// loaded tells how to load a key whose id or label is taken.
func loaded(facts *token.LoadedAlready) string {
	switch {
	case facts.SameID && facts.Key.Public:
		return "load --replace takes its place, or hsmkeys unload removes it"
	case facts.SameID:
		return "hsmkeys list --loaded shows it, hsmkeys unload removes it"
	case facts.Key.Public:
		return "choose another --label, or delete that object (pkcs11-tool --delete-object --type secrkey); hsmkeys list --loaded shows its id"
	}
	return "load --replace takes the place of another version of the same key; hsmkeys list --loaded shows what is there, or choose another --label"
}

func orNone(all []string, none string) string {
	if len(all) == 0 {
		return none
	}
	return strings.Join(all, ", ")
}

// shellWord quotes a path for the shell where it has to be.
func shellWord(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%", r)
	}
	if path != "" && path[0] != '-' && !strings.ContainsFunc(path, func(r rune) bool { return !plain(r) }) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
