package main

import (
	"crypto/aes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
	"github.com/miekg/pkcs11"
)

// faultScenarios are the commands that the faults are tried on.
func faultScenarios(keyType string) []faultScenario {
	owner, both := []string{"office"}, []string{"office", "vault"}
	nameGuest := [][]string{{"office", "authority", "add", "--yes", "guest.pem"}}
	guestJoins := append(nameGuest, []string{"guest", "join", "--yes", "--vouched-by", "office.pem"})
	return []faultScenario{
		{
			name: "init", token: "blank", args: []string{"--store", "new", "init", "--key-type", keyType},
			done: func(s *faultSite, _ faultRun) error {
				if s.honest("blank", "--store", "new", "verify").status != 0 {
					// A pair without a keyring is what a failure leaves, and what is adopted.
					if err := s.does("blank", "--store", "new", "init", "--adopt"); err != nil {
						return err
					}
				}
				return errors.Join(
					s.does("blank", "--store", "new", "create", "x"),
					s.does("blank", "--store", "new", "encrypt", "--key", "x", "-o", "x.age", "in"),
					s.does("blank", "--store", "new", "decrypt", "-o", "x", "x.age"),
					s.does("blank", "--store", "new", "verify"))
			},
		},
		{
			name: "create", token: "office", args: []string{"create", "c"}, holders: both,
			done: func(s *faultSite, r faultRun) error {
				return errors.Join(
					s.does("office", "encrypt", "--key", "c", "-o", "c.age", "in"),
					s.opens("office", "c.age"), s.proves(r, "vault", "c.age"), s.does("office", "verify"))
			},
		},
		{
			name: "rotate", token: "office", args: []string{"rotate", "a"}, holders: both,
			done: func(s *faultSite, r faultRun) error {
				return errors.Join(
					s.does("office", "reveal", "a@3"), s.does("office", "encrypt", "--key", "a", "-o", "a3.age", "in"),
					s.opens("office", "a3.age"), s.proves(r, "vault", "a3.age"), s.does("office", "verify"))
			},
		},
		{
			name: "encrypt", token: "office", args: []string{"encrypt", "--key", "a", "-o", "out.age", "in"}, holders: owner,
			done: func(s *faultSite, _ faultRun) error {
				return errors.Join(s.opens("office", "out.age"), s.opens("vault", "out.age"))
			},
		},
		{
			name: "decrypt", token: "office", args: []string{"decrypt", "a1.age"}, holders: owner,
			done: func(_ *faultSite, r faultRun) error { return same(r.stdout, faultPlaintext) },
		},
		{
			name: "reencrypt", token: "office", args: []string{"reencrypt", "a1.age"}, holders: owner,
			done: func(s *faultSite, _ faultRun) error {
				return errors.Join(s.opens("office", "a1.age"), s.opens("vault", "a1.age"))
			},
		},
		{
			name: "destroy", before: [][]string{{"office", "create", "d"}}, token: "office", args: []string{"destroy", "d", "--reason", "test", "--yes"}, holders: owner,
			done: func(s *faultSite, _ faultRun) error {
				if r := s.honest("office", "reveal", "d"); r.status != 4 {
					return fmt.Errorf("the destroyed key is revealed: status %d", r.status)
				}
				return s.does("office", "verify")
			},
		},
		{
			name: "reveal", token: "office", args: []string{"reveal", "a"}, holders: owner,
			done: func(s *faultSite, r faultRun) error { return same(r.stdout, s.read("a.key")) },
		},
		{
			name: "load", token: "office", args: []string{"load", "a", "--label", "loaded"}, holders: owner,
			done: func(s *faultSite, _ faultRun) error { return s.loaded("loaded", s.read("a.key")) },
		},
		{
			name: "verify", token: "office", args: []string{"verify"}, holders: owner,
			done: func(_ *faultSite, r faultRun) error { return same(r.stdout, "ok  a\nok  b\n") },
		},
		{
			name: "authority add", token: "office", args: []string{"authority", "add", "--yes", "guest.pem"}, holders: both,
			done: func(s *faultSite, _ faultRun) error {
				return errors.Join(
					s.does("office", "rewrap"), s.does("guest", "join", "--yes", "--vouched-by", "office.pem"),
					s.opens("guest", "a1.age", "a2.age", "b.age"), s.does("office", "verify"))
			},
		},
		{
			name: "join", before: nameGuest, token: "guest", args: []string{"join", "--yes", "--vouched-by", "office.pem"}, holders: owner,
			done: func(s *faultSite, _ faultRun) error { return s.does("guest", "verify") },
		},
		{
			name: "rewrap", before: guestJoins, token: "office", args: []string{"rewrap"}, holders: both,
			done: func(s *faultSite, r faultRun) error {
				return errors.Join(s.proves(r, "guest", "a1.age", "a2.age", "b.age"), s.does("office", "verify"))
			},
		},
		{
			name: "recover", token: "vault", args: []string{"recover", "--yes", "--from", "office.pem", "--to", "spare.pem", "--reason", "fire"}, holders: []string{"vault"},
			done: func(s *faultSite, r faultRun) error {
				return errors.Join(
					s.does("spare", "join", "--yes", "--vouched-by", "vault.pem"),
					s.proves(r, "spare", "a1.age", "a2.age", "b.age"), s.opens("vault", "a1.age", "a2.age", "b.age"))
			},
		},
	}
}

func same(got, want string) error {
	if got != want {
		return fmt.Errorf("%q in place of %q", got, want)
	}
	return nil
}

// loaded checks that the key of that label on token office is the one of that value, by
// what it wraps, and is there for nobody without the PIN.
func (s *faultSite) loaded(label, value string) error {
	block, err := aes.NewCipher([]byte(value))
	if err != nil {
		return err
	}
	want, err := josecipher.KeyWrap(block, []byte(faultPlainKey))
	if err != nil {
		return err
	}
	cmd := exec.Command(wrapProgram, s.env.Module(), "office", filepath.Join(s.dir, "pin"), label)
	cmd.Env = append(os.Environ(), s.env.Environ()...)
	got, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("wrap with the loaded key: %w: %s", err, got)
	}
	return same(fmt.Sprintf("%x", got), fmt.Sprintf("%x", want))
}

// wrapProgram is wrapWithLoaded: SoftHSM serves one environment in a process.
const wrapProgram, faultPlainKey = "wrap-with-loaded", "a key of 16 byte"

// wrapWithLoaded is another application, which wraps with a key that it finds on a token.
func wrapWithLoaded() {
	if err := wrapWith(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func wrapWith(module, label, pinFile, object string) error {
	pin, err := os.ReadFile(pinFile)
	if err != nil {
		return err
	}
	p := pkcs11.New(module)
	if err := p.Initialize(); err != nil {
		return err
	}
	defer p.Finalize()
	slots, err := p.GetSlotList(true)
	if err != nil {
		return err
	}
	slot := slices.IndexFunc(slots, func(slot uint) bool {
		info, err := p.GetTokenInfo(slot)
		return err == nil && info.Label == label
	})
	if slot < 0 {
		return fmt.Errorf("no token %q", label)
	}
	session, err := p.OpenSession(slots[slot], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	if err := p.Login(session, pkcs11.CKU_USER, strings.TrimSpace(string(pin))); err != nil {
		return err
	}
	err = p.FindObjectsInit(session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, object)})
	if err != nil {
		return err
	}
	found, _, err := p.FindObjects(session, 10)
	if err != nil || len(found) != 1 {
		return fmt.Errorf("%d keys %q: %w", len(found), object, err)
	}
	if err := p.FindObjectsFinal(session); err != nil {
		return err
	}
	about, err := p.GetAttributeValue(session, found[0], []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, nil), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, nil)})
	if err != nil {
		return err
	}
	if about[0].Value[0] != 1 || about[1].Value[0] != 0 {
		return fmt.Errorf("the key has CKA_PRIVATE %v and CKA_DECRYPT %v", about[0].Value, about[1].Value)
	}
	key, err := p.CreateObject(session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE, faultPlainKey)})
	if err != nil {
		return err
	}
	wrapped, err := p.WrapKey(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP, nil)}, found[0], key)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(wrapped)
	return err
}
