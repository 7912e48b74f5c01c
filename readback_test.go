package hsmkeys_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// faultySite is a site whose module does wrong what it is told to, see [softhsm.Fault].
func faultySite(t *testing.T, label string, kind token.KeyType) *site {
	t.Helper()
	ctx := context.Background()
	module, err := env.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	siteNumber++
	s := &site{}
	if s.soft, err = env.InitToken(fmt.Sprintf("%s %d", label, siteNumber)); err != nil {
		t.Fatal(err)
	}
	if s.tok, err = token.Open(ctx, token.Config{
		Module: module, Token: token.Selector{Label: s.soft.Label},
		PIN: func(context.Context, token.Info) ([]byte, error) { return []byte(s.soft.PIN), nil },
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.tok.Close() })
	if s.pair, err = s.tok.GenerateKeyPair(ctx, "hsmkeys", kind); err != nil {
		t.Fatal(err)
	}
	if s.cert, err = s.pair.Certify(ctx, label); err != nil {
		t.Fatal(err)
	}
	return s
}

// fault has the module do something wrong until the test ends, or honest is called.
func fault(t *testing.T, faults ...softhsm.Fault) {
	t.Helper()
	t.Cleanup(func() { honest(t) })
	if err := errors.Join(env.RecordCalls(), env.SetFaults(faults...)); err != nil {
		t.Fatal(err)
	}
}

// honest ends that, and reports whether anything was done wrong.
func honest(t *testing.T) (done bool) {
	t.Helper()
	calls, err := env.Calls()
	if err == nil {
		err = env.SetFaults()
	}
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(calls, func(c softhsm.Call) bool { return c.Fault != "" })
}

// wrongAnswers are what a module may do wrong with secrets and signatures.
var wrongAnswers = []softhsm.Fault{
	{Function: "C_WrapKey", Action: softhsm.Flip},
	{Function: "C_WrapKey", Action: softhsm.Zeros},
	{Function: "C_WrapKey", Action: softhsm.Repeat},
	{Function: "C_WrapKey", Action: softhsm.Shorten},
	{Function: "C_WrapKey", Action: softhsm.Skip},
	{Function: "C_UnwrapKey", Action: softhsm.Foreign},
	{Function: "C_UnwrapKey", Action: softhsm.ShortKey},
	{Function: "C_UnwrapKey", Action: softhsm.Repeat},
	{Function: "C_GenerateKey", Action: softhsm.ShortKey},
	{Function: "C_GenerateKey", Action: softhsm.Repeat},
	{Function: "C_GenerateKey", Action: softhsm.Invalid},
	{Function: "C_GenerateRandom", Action: softhsm.Zeros},
	{Function: "C_GenerateRandom", Action: softhsm.Repeat},
	{Function: "C_Sign", Action: softhsm.Flip},
	{Function: "C_Sign", Action: softhsm.Repeat},
	{Function: "C_Sign", Action: softhsm.Zeros},
	{Function: "C_DeriveKey", Action: softhsm.Foreign},
	{Function: "C_GetAttributeValue", Action: softhsm.Flip, Arg: 0x11}, // CKA_VALUE
	{Function: "C_CreateObject", Action: softhsm.Repeat},
}

// TestNothingWrongIsStored has a module give one wrong answer at a time, the first, the
// second and so on or always, while keys are made, rotated and rewrapped and files are
// encrypted. What is reported as done must hold when the module is honest again, and what
// was there before must still open.
func TestNothingWrongIsStored(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []token.KeyType{token.RSA2048, token.P256} {
		t.Run(kind.String(), func(t *testing.T) {
			office := faultySite(t, "office", kind)
			vault := newSite(t, "vault").member(blob.BackupAuthority, "vault")
			acted, caught := 0, 0
			for _, wrong := range wrongAnswers {
				for _, call := range callsToSpoil {
					wrong.Call = call
					t.Run(fmt.Sprintf("%s %s %d", wrong.Function, wrong.Action, call), func(t *testing.T) {
						k, store, _ := office.found(t)
						create(t, k, "payroll")
						values := map[string][]byte{"payroll@1": reveal(t, k, "payroll@1")}
						add(t, k, vault) // so that there is something to rewrap
						for name, operation := range map[string]func() error{
							"create": func() error { _, err := k.Create(ctx, "new", keyspec.AES256, 0); return err },
							"mac":    func() error { _, err := k.Create(ctx, "mac", keyspec.HMACSHA256, 0); return err },
							"rotate": func() error { _, err := k.Rotate(ctx, "payroll", ""); return err },
							"rewrap": func() (err error) {
								for r := range k.Rewrap(ctx, []hsmkeys.Ref{{Name: "payroll", Version: 1}}, "") {
									err = r.Err
								}
								return err
							},
						} {
							fault(t, wrong)
							err := operation()
							if honest(t) {
								acted++
								if err != nil {
									caught++
								}
							}
							fresh, openErr := office.open(store)
							if openErr != nil {
								t.Fatal(openErr)
							}
							var warnings warned
							fresh.Options().Warn = warnings.add
							for _, ref := range versions(t, fresh) {
								value, openErr := fresh.Reveal(ctx, ref)
								if openErr != nil || warnings.say("") {
									t.Errorf("%s said %v; then %v does not open: %v", name, err, ref, openErr)
								}
								if was := values[ref.String()]; was != nil && !bytes.Equal(was, value) {
									t.Errorf("%s said %v; then %v is another key", name, err, ref)
								}
								if len(value) != 32 || bytes.Equal(value, make([]byte, 32)) {
									t.Errorf("%s said %v; then %v has %d bytes: or zeros", name, err, ref, len(value))
								}
								values[ref.String()] = value
							}
						}
						var sealed bytes.Buffer
						fault(t, wrong)
						err := encryptTo(k, &sealed, "payroll", "The salaries of March.")
						if honest(t) {
							acted++
						}
						if err != nil {
							return
						}
						plain, err := k.Decrypt(ctx, bytes.NewReader(sealed.Bytes()))
						if err != nil {
							t.Fatalf("encrypt said nothing, and the file does not open: %v", err)
						}
						if text, err := io.ReadAll(plain); err != nil || string(text) != "The salaries of March." {
							t.Errorf("%q, %v", text, err)
						}
					})
				}
			}
			t.Logf("%d wrong answers, %d refused", acted, caught)
			if acted < len(wrongAnswers) || caught == 0 {
				t.Errorf("%d wrong answers were given and %d refused: too few to prove anything", acted, caught)
			}
		})
	}
}

// callsToSpoil are which calls are answered wrongly; 0 is every one. HSMKEYS_TEST_EVERY_CALL
// has more of them tried.
var callsToSpoil = func() []int {
	if os.Getenv("HSMKEYS_TEST_EVERY_CALL") != "" {
		return []int{0, 1, 2, 3, 4, 5, 6, 7, 8}
	}
	return []int{0, 2}
}()

func reveal(t *testing.T, k *hsmkeys.Keyring, name string) []byte {
	t.Helper()
	ref, err := hsmkeys.ParseRef(name)
	if err != nil {
		t.Fatal(err)
	}
	value, err := k.Reveal(context.Background(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func encryptTo(k *hsmkeys.Keyring, out io.Writer, name, text string) error {
	w, err := k.Encrypt(context.Background(), out, []hsmkeys.Ref{{Name: name}})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return errors.Join(err, w.Close())
}

// TestAWrongWrapIsNotReadBackIfNobodyAsks shows what --read-back none does without: the
// key is reported as made, and opens nowhere. The next who opens it is told.
func TestAWrongWrapIsNotReadBackIfNobodyAsks(t *testing.T) {
	ctx := context.Background()
	office := faultySite(t, "office", token.RSA2048)
	k, store, dir := office.found(t)
	create(t, k, "payroll")
	value := reveal(t, k, "payroll@1")
	add(t, k, newSite(t, "vault").member(blob.BackupAuthority, "vault"))
	k.Options().NoReadBack = true
	var warnings warned
	k.Options().Warn = warnings.add
	payroll := []hsmkeys.Ref{{Name: "payroll", Version: 1}}
	// One C_WrapKey after the other, until it is the one to our own pair.
	for call := 1; ; call++ {
		fault(t, softhsm.Fault{Function: "C_WrapKey", Action: softhsm.Flip, Call: call})
		results := slices.Collect(k.Rewrap(ctx, payroll, ""))
		if !honest(t) {
			t.Fatal("no call of C_WrapKey is the one to our own pair")
		}
		if results[0].Err != nil { // it was seen that another key is unwrapped
			continue
		}
		if len(results[0].Unproven) != 2 {
			t.Fatalf("%+v", results)
		}
		if warnings.all = nil; k.CheckOpens(ctx, payroll[0]) == nil && warnings.say("does not open with this token") {
			break
		}
		if err := os.Remove(filepath.Join(dir, pathOf(t, store, "payroll", 1, 2))); err != nil {
			t.Fatal(err)
		}
	}
	k.Options().NoReadBack = false
	// The newest revision does not open; the one before it does, and is used with a warning.
	if got := reveal(t, k, "payroll@1"); !bytes.Equal(got, value) || !warnings.say("revision 1, which holds the same key, is used") {
		t.Errorf("another value, or no warning: %v", warnings.all)
	}
	if r := slices.Collect(k.Rewrap(ctx, payroll, "")); len(r) != 1 || r[0].Err != nil || r[0].Done {
		t.Errorf("rewrap, which opens nothing that is up to date: %+v", r)
	}
	if r := slices.Collect(k.RewrapDamaged(ctx, payroll, "", false)); len(r) != 1 || r[0].Err != nil || !r[0].Done || r[0].Entry.Revision != 3 {
		t.Errorf("rewrap --damaged: %+v", r)
	}
	warnings.say("")
	if got := reveal(t, k, "payroll@1"); !bytes.Equal(got, value) || warnings.say("") {
		t.Errorf("after rewrap --damaged: another value, or a warning: %v", warnings.all)
	}
	if r := slices.Collect(k.RewrapDamaged(ctx, payroll, "", false)); len(r) != 1 || r[0].Err != nil || r[0].Done {
		t.Errorf("rewrap --damaged of what opens: %+v", r)
	}
	if _, err := k.History(ctx, "payroll"); err != nil {
		t.Error(err)
	}
}

// TestWhatAnAuthorityCannotOpenIsMadeAnew wraps wrongly to the authority, which the owner
// cannot notice: the rehearsal does.
func TestWhatAnAuthorityCannotOpenIsMadeAnew(t *testing.T) {
	ctx := context.Background()
	office, vault := faultySite(t, "office", token.RSA2048), newSite(t, "vault")
	k, store, _ := office.found(t)
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	a := vault.join(t, store, office)
	for call := 1; ; call++ {
		name := fmt.Sprintf("k%d", call)
		fault(t, softhsm.Fault{Function: "C_WrapKey", Action: softhsm.Flip, Call: call})
		e, err := k.Create(ctx, name, keyspec.AES256, 0)
		if !honest(t) {
			t.Fatal("no call of C_WrapKey is the one to the authority")
		}
		if err != nil {
			continue
		}
		if holders := k.Unproven(e); len(holders) != 1 || holders[0].Label != "vault" {
			t.Errorf("not proven: %v", holders)
		}
		ref := []hsmkeys.Ref{{Name: name, Version: 1}}
		r := slices.Collect(a.Prove(ctx, ref, time.Now()))
		if len(r) == 1 && r[0].Err == nil {
			continue // what was spoilt was only looked at
		}
		if len(r) != 1 || !errors.Is(r[0].Err, blob.ErrIntegrity) || !damaged(r[0].Err, name) {
			t.Fatalf("prove: %+v", r)
		}
		if r := slices.Collect(k.RewrapDamaged(ctx, ref, "", false)); r[0].Err != nil || r[0].Done {
			t.Errorf("the owner opens it: %+v", r)
		}
		if r := slices.Collect(k.RewrapDamaged(ctx, ref, "", true)); r[0].Err != nil || !r[0].Done {
			t.Errorf("rewrap --damaged %s: %+v", name, r)
		}
		if r := slices.Collect(a.Prove(ctx, ref, time.Now())); r[0].Err != nil || !r[0].Done {
			t.Errorf("prove: %+v", r)
		}
		if r := slices.Collect(k.RewrapDamaged(ctx, ref, "", true)); r[0].Err != nil || r[0].Done {
			t.Errorf("rewrap --damaged of what is proven: %+v", r)
		}
		return
	}
}

// TestARecoveryThatTheNewOwnerCannotOpen wraps wrongly to the new owner, which the
// authority cannot notice, and expects it to be told, and made anew.
func TestARecoveryThatTheNewOwnerCannotOpen(t *testing.T) {
	ctx := context.Background()
	office, vault, spare := newSite(t, "office"), faultySite(t, "vault", token.RSA2048), newSite(t, "spare")
	k, store, _ := office.found(t)
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	create(t, k, "payroll")
	value := reveal(t, k, "payroll@1")
	a := vault.join(t, store, office)
	r, err := a.BeginRecovery(ctx, office.cert, spare.member(blob.Owner, "spare"), "fire")
	if err != nil {
		t.Fatal(err)
	}
	payroll := []hsmkeys.Ref{{Name: "payroll", Version: 1}}
	// One C_WrapKey after the other, until it is the one to the new owner: the others are
	// noticed, and nothing is stored.
	refused := 0
	for call := 1; ; call++ {
		fault(t, softhsm.Fault{Function: "C_WrapKey", Action: softhsm.Flip, Call: call})
		results := slices.Collect(r.Keys(ctx, payroll))
		wrong := honest(t)
		if !wrong {
			t.Fatal("no call of C_WrapKey is the one to the new owner")
		}
		if results[0].Err != nil {
			if !errors.Is(results[0].Err, token.ErrWrapped) {
				t.Error(results[0].Err)
			}
			refused++
			continue
		}
		if !results[0].Done || len(results[0].Unproven) != 1 || results[0].Unproven[0].Label != "spare" {
			t.Fatalf("%+v", results)
		}
		break
	}
	if refused == 0 {
		t.Error("no wrong answer was noticed")
	}
	s := spare.join(t, store, vault)
	if _, err := s.Open(ctx, payroll[0]); !errors.Is(err, blob.ErrIntegrity) || !damaged(err, payroll[0].Name) {
		t.Errorf("the new owner: %v", err)
	}
	for result := range s.Rewrap(ctx, payroll, "") {
		if !errors.Is(result.Err, blob.ErrIntegrity) {
			t.Errorf("the new owner rewraps: %+v", result)
		}
	}
	if results := slices.Collect(r.Keys(ctx, payroll)); results[0].Err != nil || results[0].Done {
		t.Errorf("recover again: %+v", results)
	}
	if results := slices.Collect(r.DamagedKeys(ctx, payroll)); results[0].Err != nil || !results[0].Done || results[0].Entry.Revision != 2 {
		t.Fatalf("recover --damaged: %+v", results)
	}
	if got := reveal(t, s, "payroll@1"); !bytes.Equal(got, value) {
		t.Error("the new owner has another key")
	}
	// What the new owner has proven is left alone.
	for result := range s.Prove(ctx, payroll, time.Now()) {
		if result.Err != nil {
			t.Error(result.Err)
		}
	}
	if results := slices.Collect(r.DamagedKeys(ctx, payroll)); results[0].Err != nil || results[0].Done {
		t.Errorf("recover --damaged of what is proven: %+v", results)
	}
	if results := slices.Collect(s.Rewrap(ctx, payroll, "")); results[0].Err != nil || !results[0].Done {
		t.Errorf("the new owner rewraps: %+v", results)
	}
	if _, err := s.History(ctx, "payroll"); err != nil {
		t.Error(err)
	}
}

// TestARecoveryIsRepeated has a recovery make a key anew more often than anybody should need
// to: whatever it stores has to be believed afterwards.
func TestARecoveryIsRepeated(t *testing.T) {
	ctx := context.Background()
	office, vault, spare := newSite(t, "office"), newSite(t, "vault"), newSite(t, "spare")
	k, store, _ := office.found(t)
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	create(t, k, "payroll")
	value := reveal(t, k, "payroll@1")
	r, err := vault.join(t, store, office).BeginRecovery(ctx, office.cert, spare.member(blob.Owner, "spare"), "fire")
	if err != nil {
		t.Fatal(err)
	}
	payroll := []hsmkeys.Ref{{Name: "payroll", Version: 1}}
	for run := range 12 {
		if results := slices.Collect(r.DamagedKeys(ctx, payroll)); results[0].Err != nil || !results[0].Done || results[0].Entry.Revision != 2 {
			t.Fatalf("run %d: %+v", run+1, results)
		}
	}
	s := spare.join(t, store, vault)
	if got := reveal(t, s, "payroll@1"); !bytes.Equal(got, value) {
		t.Error("the new owner has another key")
	}
	for result := range s.Rewrap(ctx, payroll, "") {
		if result.Err != nil || !result.Done {
			t.Errorf("the new owner rewraps: %+v", result)
		}
	}
}

// damaged reports whether an error says that a blob of a key does not open.
func damaged(err error, name string) bool {
	about := (*hsmkeys.DoesNotOpen)(nil)
	return errors.As(err, &about) && about.Name == name
}
