package token

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// An attack is what an attacker does who can reach the token and does not have the PIN. It runs in a
// process of its own, because a login belongs to the process: in this one the attacker would be
// logged in.
type attack struct {
	Module, Serial string
	Change, To     []rawAttribute   // first what to change, and to what
	Destroy        []rawAttribute   // then what to destroy: all that match
	Create         [][]rawAttribute // then objects to make
}

type rawAttribute struct {
	Type  uint
	Value []byte
}

const attackVariable = "HSMKEYS_TEST_ATTACK"

func rawAttributes(template []*pkcs11.Attribute) (all []rawAttribute) {
	for _, a := range template {
		all = append(all, rawAttribute{a.Type, a.Value})
	}
	return all
}

func template(all []rawAttribute) (template []*pkcs11.Attribute) {
	for _, a := range all {
		template = append(template, attr(a.Type, a.Value))
	}
	return template
}

// run carries out the attack, and returns the token's refusal if there is one.
func (a attack) run(t testing.TB, st softhsm.Token) error {
	t.Helper()
	a.Module, a.Serial = env.Module(), st.Serial
	script, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), env.Environ()...), attackVariable+"="+string(script))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// must carries out an attack that the token is known to allow.
func (a attack) must(t testing.TB, st softhsm.Token) {
	t.Helper()
	if err := a.run(t, st); err != nil {
		t.Fatalf("the attack could not be carried out: %v", err)
	}
}

// plant makes objects without a PIN.
func plant(t testing.TB, st softhsm.Token, objects ...[]*pkcs11.Attribute) {
	t.Helper()
	var a attack
	for _, object := range objects {
		a.Create = append(a.Create, rawAttributes(object))
	}
	a.must(t, st)
}

func attackMain(script string) int {
	if err := carryOut(script); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func carryOut(script string) error {
	var a attack
	if err := json.Unmarshal([]byte(script), &a); err != nil {
		return err
	}
	ctx := pkcs11.New(a.Module)
	if err := ctx.Initialize(); err != nil {
		return err
	}
	defer func() { _ = ctx.Finalize() }()
	s, err := openRawSession(ctx, a.Serial)
	if err != nil {
		return err
	}
	each := func(match []rawAttribute, f func(pkcs11.ObjectHandle) error) error {
		if len(match) == 0 {
			return nil
		}
		if err := ctx.FindObjectsInit(s, template(match)); err != nil {
			return err
		}
		found, _, err := ctx.FindObjects(s, 100)
		if err != nil {
			return err
		}
		if err := ctx.FindObjectsFinal(s); err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("nothing found")
		}
		for _, object := range found {
			if err := f(object); err != nil {
				return err
			}
		}
		return nil
	}
	if err := each(a.Change, func(o pkcs11.ObjectHandle) error { return ctx.SetAttributeValue(s, o, template(a.To)) }); err != nil {
		return fmt.Errorf("C_SetAttributeValue: %w", err)
	}
	if err := each(a.Destroy, func(o pkcs11.ObjectHandle) error { return ctx.DestroyObject(s, o) }); err != nil {
		return fmt.Errorf("C_DestroyObject: %w", err)
	}
	for _, object := range a.Create {
		if _, err := ctx.CreateObject(s, template(object)); err != nil {
			return fmt.Errorf("C_CreateObject: %w", err)
		}
	}
	return nil
}
