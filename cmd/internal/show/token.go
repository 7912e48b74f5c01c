package show

import (
	"fmt"
	"strings"

	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

// Legacy describes a legacy pair, as its public half has it. No PIN is needed to read that, or to
// write it.
func Legacy(key token.LegacyKey) string {
	return fmt.Sprintf("the pair %s is legacy, RSA with %d bits: it opens SIMPLEBLOBs (hsmkeys import --pair) and does nothing else", text.Printable(key.Label), key.Bits)
}

// PINState returns the state of a token's PIN.
func PINState(t token.Info) string {
	if t.PINPad {
		return t.PIN.String() + ", typed on the reader"
	}
	return t.PIN.String()
}

// Tried returns what a token does when it is tried.
func Tried(t token.Probe) string {
	if t.Why != "" || t == (token.Probe{}) {
		return "-"
	}
	words := []string{"unwraps OAEP " + t.OAEPHash}
	if !t.Unwraps {
		words[0] = "does not unwrap"
	}
	for _, one := range []struct {
		yes  bool
		text string
	}{{t.SignPSS, "signs PSS"}, {t.WrapAES, "wraps AES"}, {t.Leaks, "LEAKS"}, {t.Unwraps && !t.Leaks, "keeps"}} {
		if one.yes {
			words = append(words, one.text)
		}
	}
	return strings.Join(words, ", ")
}

// Can returns what a token can do by its list of mechanisms.
func Can(c token.Mechanisms) string {
	var words []string
	for _, one := range []struct {
		yes  bool
		name string
	}{
		{c.GenerateRSA, "rsa"}, {c.WrapRSA, "oaep-wrap"}, {c.DecryptRSA, "oaep-decrypt"}, {c.SignPSS, "pss"}, {c.GenerateAES, "aes"}, {c.WrapAES, "aes-key-wrap"},
		{c.GenerateEC, "ec"}, {c.DeriveECDH, "ecdh"}, {c.SignECDSA, "ecdsa"},
	} {
		if one.yes {
			words = append(words, one.name)
		}
	}
	if words == nil {
		return "-"
	}
	return strings.Join(words, " ")
}
