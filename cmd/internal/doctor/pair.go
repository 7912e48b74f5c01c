package doctor

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

// pinSource checks where the PIN comes from, not the PIN.
func (d *doctor) pinSource() {
	sel, _, err := d.s.Selector()
	if err != nil {
		return // the check of the token has said so
	}
	defer clear(sel.PINValue)
	source, value := d.s.UserPINSource(sel)
	if value != nil {
		d.warn("pin-source", "hsmkeys --pin-source prompt doctor", "%v", settings.ErrPINValue)
		return
	}
	kind, name, _ := strings.Cut(source, ":")
	switch kind {
	case "", "prompt":
		d.ok("pin-source", "it is asked for at the terminal")
	case "env":
		d.ok("pin-source", "the variable %s of the environment, which other processes of this user can read", text.Printable(name))
	case "exec":
		d.ok("pin-source", "a command") // not which: it may have a secret in it
	case "file":
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			d.warn("pin-source", "chmod 600 "+text.ShellQuote(name), "others can read the PIN in %q", name)
		} else if err == nil {
			d.ok("pin-source", "file %s, for this user alone", text.Printable(name))
		} // what cannot be read, the login says
	}
}

// pair finds the key exchange pair and checks its attributes.
func (d *doctor) pair(t *token.Token, sel token.Selector) *token.KeyPair {
	pair, err := session.FindPair(d.ctx, d.s, t, nil, token.PairName{Label: sel.Object, ID: sel.ID})
	if err != nil {
		mend := "hsmkeys init"
		if d.founded { // what init would found is there; the new pair is to join it
			mend += " --pair-only"
		}
		if can := t.Info().Mechanisms; !can.GenerateRSA && !can.GenerateEC { // many cards: their own tools have made it
			mend += " --adopt --label LABEL"
		}
		d.failure("pair", mend, err)
		return nil
	}
	a, err := pair.Attributes(d.ctx)
	if err != nil {
		d.failure("pair", "", err)
		return pair
	}
	_, isRSA := pair.Public().(*rsa.PublicKey)
	if another := pair.Signing().Public(); !pair.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(another) {
		a.Sign = true // with that one
	}
	d.attributes(text.Printable(pair.Label()), isRSA, a)
	d.strays(pair)
	d.residence(pair)
	return pair
}

// strays reports objects that have the pair's id and do not belong to it. Most are harmless.
func (d *doctor) strays(pair *token.KeyPair) {
	all, err := pair.Mismatches(d.ctx)
	if err != nil {
		d.failure("pair", "", err)
	}
	for _, s := range all {
		d.warn("pair", "", "skipped, as it has the id of pair %s and not its key: %s", text.Printable(pair.Label()), s.What)
	}
}

// attributes checks the attributes of the private key.
func (d *doctor) attributes(label string, isRSA bool, a token.Attributes) {
	const another = "hsmkeys init --pair-only --label NEW"
	opens := a.Derive
	if isRSA {
		opens = a.Unwrap || a.Decrypt
	}
	switch {
	case !opens:
		d.fail("pair", another, "pair %s must neither unwrap nor decrypt nor agree on keys (CKA_UNWRAP, CKA_DECRYPT, CKA_DERIVE): it opens no session key", label)
		return
	case !a.Sign:
		d.fail("pair", another, "pair %s must not sign (CKA_SIGN): it cannot own a keyring", label)
		return
	case !a.AlwaysSensitive || !a.NeverExtractable:
		d.warn("pair", another, "pair %s is sensitive and cannot be extracted now, but the token does not say that it always was (CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE): it may have come from outside, and a copy may be there", label)
	default:
		d.ok("pair", "pair %s has always been sensitive and could never be extracted; it may %s", label, strings.Join(usesOf(a), ", "))
	}
	if a.AlwaysAuthenticate {
		d.warn("pair", "", "pair %s wants the PIN for each use (CKA_ALWAYS_AUTHENTICATE): commands that use it often ask often", label)
	}
}

func usesOf(a token.Attributes) []string {
	var words []string
	for _, one := range []struct {
		yes  bool
		word string
	}{{a.Sign, "sign"}, {a.Unwrap, "unwrap"}, {a.Decrypt, "decrypt"}, {a.Derive, "derive"}} {
		if one.yes {
			words = append(words, one.word)
		}
	}
	return words
}

// residence reports where session keys live while they are used.
func (d *doctor) residence(pair *token.KeyPair) {
	where, err := pair.Residence(d.ctx)
	switch {
	case err != nil:
		d.failure("residence", "", err)
	case where == keyspec.InMemory:
		d.warn("residence", "", "session keys live in the memory of this program while they are used: %s; --require-token refuses that", pair.WhyMemory())
	default:
		d.ok("residence", "session keys live on the token and never in this program")
	}
}

// certificate checks the certificate on the token: the pair's own, or an issued one.
func (d *doctor) certificate(pair *token.KeyPair) {
	const certify = "hsmkeys init --pair-only --adopt" // makes one where the pair has none of its own
	replace := d.pkcs11Tool(fmt.Sprintf("--login --delete-object --type cert --id %x && %s", pair.ID(), certify))
	own, err := pair.Certificate(d.ctx)
	if err != nil {
		d.failure("certificate", replace, err)
		return
	}
	if own != nil {
		d.validity(d.fail, "certificate", "the pair's own certificate on the token", "nobody takes it for a new member", replace, own, time.Now())
		return
	}
	issued, err := pair.IssuedCertificate(d.ctx)
	switch {
	case err != nil:
		d.failure("certificate", replace, err)
	case issued != nil:
		d.validity(d.warn, "certificate", "the certificate that was issued for the pair", "nobody takes it for a new member; the pair can sign one itself", certify, issued, time.Now())
	default:
		d.warn("certificate", certify, "the token has none for the pair: hsmkeys certificate has nothing to print")
	}
}

// soon is how long before the end of a certificate there is a warning.
const soon = 30 * 24 * time.Hour

// validity checks whether session keys can be wrapped to a certificate, now and in a month.
func (d *doctor) validity(bad func(check, mend, what string, args ...any), check, whose, means, mend string, c *x509.Certificate, now time.Time) {
	switch err := hsmkeys.CheckRecipient(c, now); {
	case err != nil:
		bad(check, mend, "%s: %v: %s", whose, err, means)
	case now.Add(soon).After(c.NotAfter):
		d.warn(check, mend, "%s expires on %s: from then on, %s", whose, text.Time(c.NotAfter), means)
	default:
		d.ok(check, "%s has its key and is valid until %s", whose, text.Time(c.NotAfter))
	}
}
