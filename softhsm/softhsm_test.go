package softhsm_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/miekg/pkcs11"
)

// initialise initialises the module in this process until the test ends.
func initialise(t *testing.T, module string) *pkcs11.Ctx {
	t.Helper()
	p := pkcs11.New(module)
	if p == nil {
		t.Fatalf("cannot load %q", module)
	}
	if err := p.Initialize(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Finalize(); err != nil {
			t.Error(err)
		}
		p.Destroy()
	})
	return p
}

// slots returns the slots that hold initialised tokens, by serial.
func slots(t *testing.T, p *pkcs11.Ctx) map[string]uint {
	t.Helper()
	ids, err := p.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]uint)
	for _, id := range ids {
		info, err := p.GetTokenInfo(id)
		if err != nil {
			t.Fatal(err)
		}
		if info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			found[info.SerialNumber] = id
		}
	}
	return found
}

// login logs in to a token, makes a key there, and logs out again.
func login(t *testing.T, p *pkcs11.Ctx, tok softhsm.Token, user uint, pin string) error {
	t.Helper()
	slot, ok := slots(t, p)[tok.Serial]
	if !ok {
		return fmt.Errorf("token %q, serial %s, is not there", tok.Label, tok.Serial)
	}
	session, err := p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	defer p.CloseSession(session)
	if err := p.Login(session, user, pin); err != nil {
		return err
	}
	if user == pkcs11.CKU_SO {
		return nil
	}
	_, err = p.GenerateKey(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)},
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)})
	return err
}

func mustInitToken(t *testing.T, env *softhsm.Env, label string) softhsm.Token {
	t.Helper()
	tok, err := env.InitToken(label)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func mustNew(t *testing.T) *softhsm.Env {
	t.Helper()
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	return env
}

func TestFindModule(t *testing.T) {
	t.Run("finds the installed module", func(t *testing.T) {
		t.Setenv("SOFTHSM2_MODULE", "")
		path, err := softhsm.FindModule()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	})
	t.Run("takes the named module", func(t *testing.T) {
		want := filepath.Join(t.TempDir(), "mine.so")
		if err := os.WriteFile(want, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("SOFTHSM2_MODULE", want)
		if got, err := softhsm.FindModule(); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
		t.Chdir(filepath.Dir(want))
		t.Setenv("SOFTHSM2_MODULE", "mine.so")
		if got, err := softhsm.FindModule(); err != nil || got != want {
			t.Errorf("from where it is: got %q, %v; want %q", got, err, want)
		}
	})
	t.Run("does not replace a named module that is missing", func(t *testing.T) {
		t.Setenv("SOFTHSM2_MODULE", "/nowhere/libsofthsm2.so")
		if got, err := softhsm.FindModule(); !errors.Is(err, softhsm.ErrNotInstalled) {
			t.Errorf("got %q, %v; want ErrNotInstalled", got, err)
		}
		if _, err := softhsm.New(); !errors.Is(err, softhsm.ErrNotInstalled) {
			t.Errorf("New: %v; want ErrNotInstalled", err)
		}
	})
}

func TestTokenLogin(t *testing.T) {
	env := softhsm.NewT(t)
	one, two := mustInitToken(t, env, "one"), mustInitToken(t, env, "two")
	p := initialise(t, env.Module())

	for _, tt := range []struct {
		name string
		tok  softhsm.Token
		user uint
		pin  string
		want error
	}{
		{"user of the first token", one, pkcs11.CKU_USER, one.PIN, nil},
		{"user of the second token", two, pkcs11.CKU_USER, two.PIN, nil},
		{"security officer", one, pkcs11.CKU_SO, one.SOPIN, nil},
		{"the other token's PIN", one, pkcs11.CKU_USER, two.PIN, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)},
		{"the security officer's PIN as the user's", one, pkcs11.CKU_USER, one.SOPIN, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := login(t, p, tt.tok, tt.user, tt.pin); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	env := softhsm.NewT(t)
	long := strings.Repeat("x", 32)
	a, b := mustInitToken(t, env, "same"), mustInitToken(t, env, "same")
	c := mustInitToken(t, env, long)
	if a.Serial == b.Serial || a.PIN == b.PIN || a.SOPIN == b.SOPIN || a.PIN == a.SOPIN {
		t.Errorf("tokens share what they must not: %+v, %+v", a, b)
	}
	p := initialise(t, env.Module())
	found := slots(t, p)
	for _, tok := range []softhsm.Token{a, b, c} {
		slot, ok := found[tok.Serial]
		if !ok {
			t.Errorf("no token with serial %q", tok.Serial)
			continue
		}
		if info, err := p.GetTokenInfo(slot); err != nil || info.Label != tok.Label {
			t.Errorf("label %q, %v; want %q", info.Label, err, tok.Label)
		}
	}
	for _, label := range []string{"", long + "x"} {
		if _, err := env.InitToken(label); err == nil {
			t.Errorf("label %q was taken", label)
		}
	}
}

// A token made while the module is initialised must be seen at once, stay when it
// is initialised the next time, and must not disturb sessions that are logged in.
func TestInitTokenWhileInitialised(t *testing.T) {
	env := softhsm.NewT(t)
	first := mustInitToken(t, env, "first")
	p := initialise(t, env.Module())
	session, err := p.OpenSession(slots(t, p)[first.Serial], pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Login(session, pkcs11.CKU_USER, first.PIN); err != nil {
		t.Fatal(err)
	}

	second := mustInitToken(t, env, "second")
	if info, err := p.GetSessionInfo(session); err != nil || info.State != pkcs11.CKS_RO_USER_FUNCTIONS {
		t.Errorf("the session of another token is in state %d, %v", info.State, err)
	}
	if err := login(t, p, second, pkcs11.CKU_USER, second.PIN); err != nil {
		t.Error(err)
	}

	if err := p.Finalize(); err != nil {
		t.Fatal(err)
	}
	if err := p.Initialize(); err != nil {
		t.Fatal(err)
	}
	for _, tok := range []softhsm.Token{first, second} {
		if err := login(t, p, tok, pkcs11.CKU_USER, tok.PIN); err != nil {
			t.Errorf("after C_Finalize and C_Initialize: %s: %v", tok.Label, err)
		}
	}
}

// InitToken must leave the module as it found it: not initialised.
func TestInitTokenDoesNotInitialise(t *testing.T) {
	env := softhsm.NewT(t)
	mustInitToken(t, env, "one")
	p := pkcs11.New(env.Module())
	defer p.Destroy()
	if _, err := p.GetInfo(); !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
		t.Errorf("C_GetInfo: %v, want CKR_CRYPTOKI_NOT_INITIALIZED", err)
	}
	entries, err := os.ReadDir(env.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 {
		t.Errorf("files besides configuration, tokens and the path of the module are left: %v", entries)
	}
}

func TestInitTokenConcurrently(t *testing.T) {
	env := softhsm.NewT(t)
	var (
		mu   sync.Mutex
		toks []softhsm.Token
		wg   sync.WaitGroup
	)
	initMany := func() {
		for range 8 {
			wg.Go(func() {
				tok, err := env.InitToken("many")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				toks = append(toks, tok)
			})
		}
	}
	initMany()
	wg.Wait()
	p := initialise(t, env.Module())
	initMany()
	wg.Wait()
	if len(toks) != 16 {
		t.Fatalf("%d tokens, want 16", len(toks))
	}
	for _, tok := range toks {
		if err := login(t, p, tok, pkcs11.CKU_USER, tok.PIN); err != nil {
			t.Error(err)
		}
	}
}

func TestDestroyToken(t *testing.T) {
	env := softhsm.NewT(t)
	lost, kept := mustInitToken(t, env, "same"), mustInitToken(t, env, "same")
	if err := env.DestroyToken(lost); err != nil {
		t.Fatal(err)
	}
	p := initialise(t, env.Module())
	found := slots(t, p)
	if _, ok := found[lost.Serial]; ok {
		t.Error("the token is still there")
	}
	if _, ok := found[kept.Serial]; !ok {
		t.Error("the other token of that label is gone")
	}
	if err := env.DestroyToken(lost); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("destroyed again: %v, want fs.ErrNotExist", err)
	}
	if err := env.DestroyToken(softhsm.Token{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("destroyed no token: %v, want fs.ErrNotExist", err)
	}
}

// A process in which the module is initialised must see what the documentation says.
func TestDestroyTokenWhileInitialised(t *testing.T) {
	env := softhsm.NewT(t)
	p := initialise(t, env.Module())
	lost := mustInitToken(t, env, "lost")
	slot := slots(t, p)[lost.Serial]
	if err := env.DestroyToken(lost); err != nil {
		t.Fatal(err)
	}
	if _, err := p.GetTokenInfo(slot); !errors.Is(err, pkcs11.Error(pkcs11.CKR_GENERAL_ERROR)) {
		t.Errorf("C_GetTokenInfo: %v, want CKR_GENERAL_ERROR", err)
	}
	next := mustInitToken(t, env, "next")
	if err := p.Finalize(); err != nil {
		t.Fatal(err)
	}
	if err := p.Initialize(); err != nil {
		t.Fatal(err)
	}
	if _, ok := slots(t, p)[lost.Serial]; ok {
		t.Error("the token is still there after C_Finalize and C_Initialize")
	}
	if err := login(t, p, next, pkcs11.CKU_USER, next.PIN); err != nil {
		t.Errorf("a token made after the loss: %v", err)
	}
}

// A child process works in the environment that its variables name, whatever the
// parent uses.
func TestEnvironOfChild(t *testing.T) {
	if os.Getenv("SOFTHSM_TEST_CHILD") != "" {
		module, err := softhsm.FindModule()
		if err != nil {
			t.Fatal(err)
		}
		for serial := range slots(t, initialise(t, module)) {
			fmt.Println("serial", serial)
		}
		return
	}
	used, other := softhsm.NewT(t), mustNew(t)
	mustInitToken(t, used, "used")
	tok := mustInitToken(t, other, "other")
	cmd := exec.Command(os.Args[0], "-test.run=^TestEnvironOfChild$")
	cmd.Env = append(os.Environ(), "SOFTHSM_TEST_CHILD=1")
	cmd.Env = append(cmd.Env, other.Environ()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := string(out); strings.Count(got, "serial ") != 1 || !strings.Contains(got, tok.Serial) {
		t.Errorf("the child sees\n%swant serial %s alone", got, tok.Serial)
	}
}

func TestEnvironmentsAreApart(t *testing.T) {
	one, two := mustNew(t), mustNew(t)
	a, b := mustInitToken(t, one, "token"), mustInitToken(t, two, "token")
	if got := os.Getenv("SOFTHSM2_CONF"); got == one.ConfPath() || got == two.ConfPath() {
		t.Errorf("SOFTHSM2_CONF is %q without Use", got)
	}

	if err := one.Use(); err != nil {
		t.Fatal(err)
	}
	p := initialise(t, one.Module())
	if err := two.Use(); err == nil {
		t.Error("another environment was put in use while the module is initialised")
	}
	c := mustInitToken(t, two, "token") // must not go to the environment in use
	found := slots(t, p)
	if _, ok := found[a.Serial]; !ok || len(found) != 1 {
		t.Errorf("tokens %v, want %q alone", found, a.Serial)
	}
	for _, tok := range []softhsm.Token{b, c} {
		if err := two.DestroyToken(tok); err != nil {
			t.Error(err)
		}
	}
}

// A variable changed by hand under an initialised module would lead a token into
// another environment's storage.
func TestConfigurationChangedBehindOurBack(t *testing.T) {
	one, two := mustNew(t), mustNew(t)
	t.Setenv("SOFTHSM2_CONF", one.ConfPath())
	initialise(t, one.Module())
	t.Setenv("SOFTHSM2_CONF", two.ConfPath())
	if _, err := two.InitToken("stray"); err == nil {
		t.Error("no error")
	}
}

func TestClose(t *testing.T) {
	t.Setenv("SOFTHSM2_CONF", "/the/user's/own")
	env := mustNew(t)
	if err := env.Use(); err != nil {
		t.Fatal(err)
	}
	if got := os.Getenv("SOFTHSM2_CONF"); got != env.ConfPath() {
		t.Errorf("in use: SOFTHSM2_CONF is %q", got)
	}
	mustInitToken(t, env, "one")
	for range 2 {
		if err := env.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(env.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	if got := os.Getenv("SOFTHSM2_CONF"); got != "/the/user's/own" {
		t.Errorf("after Close: SOFTHSM2_CONF is %q", got)
	}
	if _, err := env.InitToken("late"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("InitToken: %v, want os.ErrClosed", err)
	}
	if err := env.Use(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Use: %v, want os.ErrClosed", err)
	}
}

func TestPermissions(t *testing.T) {
	env := mustNew(t)
	for _, path := range []string{env.Dir(), env.TokenDir(), env.ConfPath()} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", filepath.Base(path), info.Mode())
		}
	}
}

// A recorder records a failure, which a real [testing.T] would report as its own.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	panic(r)
}

func TestNewTFailsWithoutSoftHSM(t *testing.T) {
	t.Setenv("SOFTHSM2_MODULE", "/nowhere/libsofthsm2.so")
	r := &recorder{TB: t}
	func() {
		defer func() { recover() }()
		softhsm.NewT(r)
	}()
	if !strings.Contains(r.failure, "scripts/install-softhsm.sh") {
		t.Errorf("failed with %q, which does not say how to install SoftHSM", r.failure)
	}
}

func Example() {
	env, err := softhsm.New()
	if err != nil {
		log.Fatal(err)
	}
	defer env.Close()
	if err := env.Use(); err != nil {
		log.Fatal(err)
	}
	token, err := env.InitToken("example")
	if err != nil {
		log.Fatal(err)
	}

	p := pkcs11.New(env.Module())
	if err := p.Initialize(); err != nil {
		log.Fatal(err)
	}
	defer p.Finalize()
	slots, err := p.GetSlotList(true)
	if err != nil {
		log.Fatal(err)
	}
	session, err := p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Login(session, pkcs11.CKU_USER, token.PIN))
	// Output: <nil>
}
