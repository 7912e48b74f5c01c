package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"debug/elf"
	"encoding/binary"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

// newDoctor is a doctor with options, as the command line gives them.
func newDoctor(t *testing.T, options map[string]string) *doctor {
	t.Helper()
	s, err := settings.Load(settings.Source{Line: options})
	if err != nil {
		t.Fatal(err)
	}
	return &doctor{ctx: context.Background(), s: s}
}

// only is the one finding that there should be.
func (d *doctor) only(t *testing.T, status, what, mend string) {
	t.Helper()
	if len(d.findings) != 1 {
		t.Fatalf("%d findings, want one: %+v", len(d.findings), d.findings)
	}
	f := d.findings[0]
	if f.Status != status || !strings.Contains(f.What, what) || !strings.Contains(f.Mend, mend) || (mend == "") != (f.Mend == "") {
		t.Errorf("got %+v, want %s, %q, %q", f, status, what, mend)
	}
}

// SoftHSM never locks a PIN.
func TestDoctorPINFlags(t *testing.T) {
	set := func(edit func(*token.PIN)) token.PIN {
		p := token.PIN{Initialized: true}
		edit(&p)
		return p
	}
	for _, test := range []struct {
		name         string
		pin          token.PIN
		used, others string // status for the token that is used, and for others
		what, mend   string
	}{
		{"nothing is set", set(func(*token.PIN) {}), isOK, isOK, "PIN ok", ""},
		{"no user PIN", token.PIN{}, isFail, isOK, "no user PIN", "--init-pin"},
		{"locked", set(func(p *token.PIN) { p.Locked, p.FinalTry = true, true }), isFail, isWarn, "locked", "--token-label 'the office' --login --login-type so --init-pin"},
		{"one try left", set(func(p *token.PIN) { p.FinalTry, p.CountLow = true, true }), isFail, isWarn, "one more wrong PIN locks it", "hsmkeys --final-try doctor"},
		{"tries used", set(func(p *token.PIN) { p.CountLow = true }), isWarn, isWarn, "a wrong PIN was entered", ""},
		{"to be changed", set(func(p *token.PIN) { p.ToBeChanged = true }), isWarn, isWarn, "must be changed", "--change-pin"},
	} {
		for _, used := range []bool{true, false} {
			t.Run(test.name, func(t *testing.T) {
				d, want := newDoctor(t, nil), test.others
				if used {
					want = test.used
				}
				d.flags(token.Info{Module: "/lib/m.so", Label: "the office", Initialized: true, PIN: test.pin}, used)
				mend := test.mend
				if want == isOK {
					mend = ""
				}
				d.only(t, want, test.what, mend)
			})
		}
	}
}

// Whoever is sure may use the last try.
func TestDoctorFinalTryThatWasAllowed(t *testing.T) {
	d := newDoctor(t, map[string]string{"final-try": "true"})
	d.flags(token.Info{Label: "office", Initialized: true, PIN: token.PIN{Initialized: true, FinalTry: true}}, true)
	d.only(t, isWarn, "one more wrong PIN locks it", "")
}

func TestDoctorAbilities(t *testing.T) {
	rsa := token.Mechanisms{GenerateRSA: true, WrapRSA: true, SignPSS: true, GenerateAES: true, WrapAES: true}
	leaks := token.Probe{Unwraps: true, OAEPHash: "SHA-256", SignPSS: true, WrapAES: true, Leaks: true}
	required := map[string]string{"require-token": "true"}
	for _, test := range []struct {
		name    string
		options map[string]string
		info    token.Info
		used    bool
		status  string
		what    string
		mend    string
	}{
		{"leaks", nil, token.Info{Mechanisms: rsa, Probe: leaks}, true, isWarn, "reveals the value", ""},
		{"leaks where it must not", required, token.Info{Mechanisms: rsa, Probe: leaks}, true, isFail, "reveals the value", ""},
		{"another one leaks", required, token.Info{Mechanisms: rsa, Probe: leaks}, false, isWarn, "reveals the value", ""},
		{"can nothing", nil, token.Info{}, true, isFail, "cannot hold a key exchange pair", ""},
		{"another one can nothing", nil, token.Info{}, false, isWarn, "cannot hold a key exchange pair", ""},
		{"promises more than it does", nil, token.Info{Mechanisms: rsa}, true, isWarn, "although it claims to", ""},
		{"not tried", nil, token.Info{Mechanisms: rsa, Probe: token.Probe{Why: "no session"}}, true, isOK, "not tried, no session", ""},
		{"a card for EC", nil, token.Info{Mechanisms: token.Mechanisms{DeriveECDH: true, SignECDSA: true}, Probe: token.Probe{Why: "no RSA"}}, true, isOK, "ecdh", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDoctor(t, test.options)
			test.info.Label = "office"
			d.abilities(test.info, test.used)
			d.only(t, test.status, test.what, test.mend)
		})
	}
}

func TestDoctorAttributes(t *testing.T) {
	good := token.Attributes{Sign: true, Unwrap: true, AlwaysSensitive: true, NeverExtractable: true}
	for _, test := range []struct {
		name   string
		isRSA  bool
		edit   func(*token.Attributes)
		status string
		what   string
	}{
		{"good", true, func(*token.Attributes) {}, isOK, "it may sign, unwrap"},
		{"opens nothing", true, func(a *token.Attributes) { a.Unwrap, a.Derive = false, true }, isFail, "opens no session key"},
		{"EC opens nothing", false, func(*token.Attributes) {}, isFail, "opens no session key"},
		{"decrypts", true, func(a *token.Attributes) { a.Unwrap, a.Decrypt = false, true }, isOK, "decrypt"},
		{"EC", false, func(a *token.Attributes) { a.Unwrap, a.Derive = false, true }, isOK, "derive"},
		{"must not sign", true, func(a *token.Attributes) { a.Sign = false }, isFail, "must not sign"},
		{"came from outside", true, func(a *token.Attributes) { a.AlwaysSensitive = false }, isWarn, "a copy may be there"},
		{"could be taken out once", true, func(a *token.Attributes) { a.NeverExtractable = false }, isWarn, "a copy may be there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, mend := good, "hsmkeys init --pair-only --label NEW"
			test.edit(&a)
			if test.status == isOK {
				mend = ""
			}
			d := newDoctor(t, nil)
			d.attributes("hsmkeys", test.isRSA, a)
			d.only(t, test.status, test.what, mend)
		})
	}
}

func TestDoctorValidity(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from, until := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: until}
	for _, test := range []struct {
		name   string
		now    time.Time
		usage  x509.KeyUsage
		status string
		what   string
	}{
		{"valid", from.AddDate(0, 6, 0), 0, isOK, "valid until 2027-01-01"},
		{"not yet", from.Add(-time.Hour), 0, isFail, "not valid before"},
		{"31 days left", until.AddDate(0, 0, -31), 0, isOK, "valid until"},
		{"29 days left", until.AddDate(0, 0, -29), 0, isWarn, "expires on 2027-01-01"},
		{"expired", until.Add(time.Hour), 0, isFail, "it expired on"},
		{"for signatures alone", from.AddDate(0, 6, 0), x509.KeyUsageDigitalSignature, isFail, "key usage"},
	} {
		t.Run(test.name, func(t *testing.T) {
			template.KeyUsage = test.usage
			der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			mend := "renew"
			if test.status == isOK {
				mend = ""
			}
			d := newDoctor(t, nil)
			d.validity(d.fail, "certificate", "it", "so what", "renew", c, test.now)
			d.only(t, test.status, test.what, mend)
		})
	}
}

func TestDoctorClock(t *testing.T) {
	signed := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name        string
		now, signed time.Time
		status      string
		what        string
	}{
		{"after the signature", signed.Add(time.Hour), signed, isOK, "not before the newest signature"},
		{"nothing is signed", signed, time.Time{}, isOK, "no signature"},
		{"a little before it", signed.Add(-30 * time.Second), signed, isOK, ""},
		{"before it", signed.Add(-time.Hour), signed, isFail, "slow"},
		{"never set", time.Unix(0, 0), time.Time{}, isFail, "it is not 1970"},
		{"far ahead", time.Date(2127, 1, 1, 0, 0, 0, 0, time.UTC), signed, isFail, "it is not 2127"},
	} {
		t.Run(test.name, func(t *testing.T) {
			mend := "timedatectl"
			if test.status == isOK {
				mend = ""
			}
			d := newDoctor(t, nil)
			d.signed = test.signed
			d.clock(test.now)
			d.only(t, test.status, test.what, mend)
		})
	}
}

// elfFile writes a library with nothing in it but what says for whom it is.
func elfFile(t *testing.T, class elf.Class, machine elf.Machine) string {
	t.Helper()
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	var header any = elf.Header32{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1, Ehsize: 52, Shentsize: 40}
	if class == elf.ELFCLASS64 {
		header = elf.Header64{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1, Ehsize: 64, Shentsize: 64}
	}
	path := filepath.Join(t.TempDir(), "module.so")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := binary.Write(f, binary.LittleEndian, header); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDoctorModuleForAnotherMachine(t *testing.T) {
	ours, other := elf.ELFCLASS64, elf.ELFCLASS32
	if ^uint(0)>>32 == 0 {
		ours, other = other, ours
	}
	if err := notLoadable(elfFile(t, other, elf.EM_386)); err == nil || !strings.Contains(err.Error(), "bits, this program has") {
		t.Errorf("of the other size: %v", err)
	}
	if err := notLoadable(elfFile(t, ours, elf.EM_SPARCV9)); err == nil || !strings.Contains(err.Error(), "another processor") {
		t.Errorf("for another processor: %v", err)
	}
}

func TestDoctorQuotesForTheShell(t *testing.T) {
	for in, want := range map[string]string{
		"/usr/lib/m.so": "/usr/lib/m.so", "two words": "'two words'", "": "''", "-rf": "'-rf'", "it's": `'it'\''s'`, "$(reboot)": "'$(reboot)'",
	} {
		if got := text.ShellQuote(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}
