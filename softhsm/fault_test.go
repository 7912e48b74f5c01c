package softhsm_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/miekg/pkcs11"
)

// faulty returns an environment in use, with a token, and its faulty module,
// initialised, with a session that is logged in.
func faulty(t *testing.T) (*softhsm.Env, *pkcs11.Ctx, pkcs11.SessionHandle) {
	t.Helper()
	env := softhsm.NewT(t)
	tok, err := env.InitToken("faulty")
	if err != nil {
		t.Fatal(err)
	}
	module, err := env.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	p := initialise(t, module)
	session, err := p.OpenSession(slots(t, p)[tok.Serial], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Login(session, pkcs11.CKU_USER, tok.PIN); err != nil {
		t.Fatal(err)
	}
	return env, p, session
}

func aesKey(t *testing.T, p *pkcs11.Ctx, session pkcs11.SessionHandle) pkcs11.ObjectHandle {
	t.Helper()
	key, err := p.GenerateKey(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_WRAP, true),
			pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func value(t *testing.T, p *pkcs11.Ctx, session pkcs11.SessionHandle, key pkcs11.ObjectHandle) []byte {
	t.Helper()
	attrs, err := p.GetAttributeValue(session, key, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err != nil {
		t.Fatal(err)
	}
	return attrs[0].Value
}

func TestFaultyModule(t *testing.T) {
	env, p, session := faulty(t)
	set := func(faults ...softhsm.Fault) {
		t.Helper()
		if err := env.SetFaults(faults...); err != nil {
			t.Fatal(err)
		}
	}
	keyWrap := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP, nil)}
	kek, key := aesKey(t, p, session), aesKey(t, p, session)
	wrapped, err := p.WrapKey(session, keyWrap, kek, key)
	if err != nil {
		t.Fatal(err)
	}
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
	}

	t.Run("flips a bit of the second wrapped key, and of no other", func(t *testing.T) {
		set(softhsm.Fault{Function: "C_WrapKey", Call: 2, Action: softhsm.Flip})
		for call := 1; call <= 3; call++ {
			got, err := p.WrapKey(session, keyWrap, kek, key)
			if err != nil {
				t.Fatal(err)
			}
			if same := bytes.Equal(got, wrapped); same == (call == 2) {
				t.Errorf("call %d: the wrapped key is right: %v", call, same)
			}
		}
	})
	t.Run("returns another key than the one that was wrapped", func(t *testing.T) {
		set(softhsm.Fault{Function: "C_UnwrapKey", Call: 1, Action: softhsm.Foreign})
		for _, want := range []bool{false, true} {
			got, err := p.UnwrapKey(session, keyWrap, kek, wrapped, template)
			if err != nil {
				t.Fatal(err)
			}
			if same := bytes.Equal(value(t, p, session, got), value(t, p, session, key)); same != want {
				t.Errorf("the key is the wrapped one: %v, want %v", same, want)
			}
		}
	})
	t.Run("makes a key of 16 bytes where 32 were asked for", func(t *testing.T) {
		set(softhsm.Fault{Function: "C_GenerateKey", Action: softhsm.ShortKey})
		if got := len(value(t, p, session, aesKey(t, p, session))); got != 16 {
			t.Errorf("the key has %d bytes", got)
		}
	})
	t.Run("changes and drops attributes of a template", func(t *testing.T) {
		set(softhsm.Fault{Function: "C_UnwrapKey", Call: 1, Action: softhsm.Flip, Arg: pkcs11.CKA_SENSITIVE},
			softhsm.Fault{Function: "C_UnwrapKey", Call: 1, Action: softhsm.Drop, Arg: pkcs11.CKA_EXTRACTABLE})
		got, err := p.UnwrapKey(session, keyWrap, kek, wrapped, template)
		if err != nil {
			t.Fatal(err)
		}
		attrs, err := p.GetAttributeValue(session, got, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil)})
		if err != nil {
			t.Fatal(err)
		}
		if attrs[0].Value[0] != 1 || attrs[1].Value[0] != 0 {
			t.Errorf("sensitive %v, extractable %v", attrs[0].Value, attrs[1].Value)
		}
	})
	t.Run("flips two attributes of a template, each by itself", func(t *testing.T) {
		set(softhsm.Fault{Function: "C_UnwrapKey", Call: 1, Action: softhsm.Flip, Arg: pkcs11.CKA_SENSITIVE},
			softhsm.Fault{Function: "C_UnwrapKey", Call: 1, Action: softhsm.Flip, Arg: pkcs11.CKA_EXTRACTABLE})
		got, err := p.UnwrapKey(session, keyWrap, kek, wrapped, template)
		if err != nil {
			t.Fatal(err)
		}
		attrs, err := p.GetAttributeValue(session, got, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil)})
		if err != nil {
			t.Fatal(err)
		}
		if attrs[0].Value[0] != 1 || attrs[1].Value[0] != 0 {
			t.Errorf("sensitive %v, extractable %v", attrs[0].Value, attrs[1].Value)
		}
	})
	t.Run("falsifies an attribute", func(t *testing.T) {
		set(softhsm.Fault{Function: "C_GetAttributeValue", Call: 1, Action: softhsm.Flip, Arg: pkcs11.CKA_VALUE})
		if bytes.Equal(value(t, p, session, key), value(t, p, session, key)) {
			t.Error("the value is the same twice")
		}
	})
	t.Run("returns zeros for random bytes, and the same bytes again", func(t *testing.T) {
		set(softhsm.Fault{Function: "C_GenerateRandom", Call: 1, Action: softhsm.Zeros},
			softhsm.Fault{Function: "C_GenerateRandom", Call: 2, Action: softhsm.Repeat})
		var got [3][]byte
		for i := range got {
			if got[i], err = p.GenerateRandom(session, 16); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got[0], make([]byte, 16)) {
			t.Errorf("not zeros: %x", got[0])
		}
		if bytes.Equal(got[1], got[0]) || !bytes.Equal(got[2], got[1]) {
			t.Errorf("not repeated: %x, %x", got[1], got[2])
		}
	})
	t.Run("finds objects without end", func(t *testing.T) {
		set(softhsm.Fault{Function: "C_FindObjects", Action: softhsm.Endless})
		if err := p.FindObjectsInit(session, nil); err != nil {
			t.Fatal(err)
		}
		defer p.FindObjectsFinal(session)
		for range 3 {
			if objects, _, err := p.FindObjects(session, 100); err != nil || len(objects) != 100 {
				t.Errorf("found %d objects, %v", len(objects), err)
			}
		}
	})
	t.Run("returns an error, before or after the deed", func(t *testing.T) {
		set(softhsm.Fault{Function: "C_DestroyObject", Call: 1, Action: softhsm.Fail, Arg: pkcs11.CKR_DEVICE_ERROR},
			softhsm.Fault{Function: "C_DestroyObject", Call: 2, Action: softhsm.Skip},
			softhsm.Fault{Function: "C_DestroyObject", Call: 1, Action: softhsm.FailAfter, Arg: pkcs11.CKR_HOST_MEMORY})
		doomed := aesKey(t, p, session)
		for call, want := range []pkcs11.Error{pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_OK, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_OBJECT_HANDLE_INVALID} {
			err := p.DestroyObject(session, doomed)
			if want == pkcs11.CKR_OK && err == nil {
				continue
			}
			if !errors.Is(err, want) {
				t.Errorf("call %d: %v, want %v", call+1, err, want)
			}
		}
	})
	t.Run("is honest without faults, and records the calls", func(t *testing.T) {
		set()
		if err := env.RecordCalls(); err != nil {
			t.Fatal(err)
		}
		if got, err := p.WrapKey(session, keyWrap, kek, key); err != nil || !bytes.Equal(got, wrapped) {
			t.Errorf("%x, %v", got, err)
		}
		set(softhsm.Fault{Function: "C_GenerateKey", Action: softhsm.Drop, Arg: pkcs11.CKA_SENSITIVE})
		aesKey(t, p, session)
		calls, err := env.Calls()
		if err != nil {
			t.Fatal(err)
		}
		if len(calls) != 3 || calls[0].Function != "C_WrapKey" || calls[1].Fault != "" {
			t.Fatalf("%+v", calls)
		}
		if c := calls[2]; c.Function != "C_GenerateKey" || c.Fault != softhsm.Drop || !slices.Contains(c.Attributes, pkcs11.CKA_SENSITIVE) {
			t.Errorf("%+v", c)
		}
	})
}

// Actions that end the process are tested with another program that loads modules.
func TestFaultyModuleEndsTheProcess(t *testing.T) {
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	if _, err := env.InitToken("origin"); err != nil {
		t.Fatal(err)
	}
	if _, err := env.FaultyModule(); err != nil {
		t.Fatal(err)
	}
	if env, err = env.Clone(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	module, err := env.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	listSlots := func(faults ...softhsm.Fault) (string, error) {
		t.Helper()
		if err := env.SetFaults(faults...); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("pkcs11-tool", "--module", module, "--list-token-slots")
		cmd.Env = append(os.Environ(), env.Environ()...)
		out, err := cmd.Output()
		return string(out), err
	}
	if out, err := listSlots(); err != nil || !strings.Contains(out, "origin") {
		t.Errorf("honest: %v\n%s", err, out)
	}
	if out, err := listSlots(softhsm.Fault{Function: "C_Initialize", Action: softhsm.Print}); err != nil || !strings.Contains(out, softhsm.Printed) {
		t.Errorf("print: %v\n%s", err, out)
	}
	for _, test := range []struct {
		fault softhsm.Fault
		want  string
	}{
		{softhsm.Fault{Function: "C_GetTokenInfo", Action: softhsm.Crash}, "signal: segmentation fault"},
		{softhsm.Fault{Function: "load", Action: softhsm.Abort}, "signal: aborted"},
		{softhsm.Fault{Function: "C_GetSlotList", Call: 2, Action: softhsm.Exit, Arg: 42}, "exit status 42"},
	} {
		if _, err := listSlots(test.fault); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %s", test.fault, err, test.want)
		}
	}
}
