package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

var background = context.Background()

func parse(t testing.TB, s string) Selector {
	t.Helper()
	sel, err := ParseSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

func TestOpenFindsTheToken(t *testing.T) {
	st := newToken(t)
	newToken(t) // must do no harm
	label := url.PathEscape(st.Label)
	link := filepath.Join(t.TempDir(), "module.so")
	if err := os.Symlink(env.Module(), link); err != nil {
		t.Fatal(err)
	}
	beside := open(t, newToken(t)) // open all the time, under the module's own path
	for _, tt := range []struct{ name, token, module string }{
		{"by its label", st.Label, env.Module()},
		{"by a URI with its label", "pkcs11:token=" + label, env.Module()},
		{"by a URI with its serial", "pkcs11:serial=" + st.Serial, env.Module()},
		{"by a URI with all that it has", "pkcs11:token=" + label + ";serial=" + st.Serial + ";manufacturer=SoftHSM%20project;model=SoftHSM%20v2", env.Module()},
		{"by a URI that names pair and PIN source, which are for others", "pkcs11:token=" + label + ";object=pair;id=%01?pin-source=file:/pin", env.Module()},
		{"by a URI with the module's path", "pkcs11:token=" + label + "?module-path=" + env.Module(), ""},
		{"through a symbolic link to the module", st.Label, link},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tok, err := Open(background, Config{Module: tt.module, Token: parse(t, tt.token), PIN: pin(st.PIN)})
			if err != nil {
				t.Fatal(err)
			}
			defer tok.Close()
			info := tok.Info()
			if info.Label != st.Label || info.Serial != st.Serial || !info.Initialized || info.PIN.String() != "ok" {
				t.Errorf("opened %+v", info)
			}
			if want := (Mechanisms{true, true, true, true, true, true, true, true, true}); info.Mechanisms != want {
				t.Errorf("SoftHSM can %+v, want %+v", info.Mechanisms, want)
			}
			if got := tok.String(); !strings.Contains(got, st.Label) || !strings.Contains(got, st.Serial) {
				t.Errorf("it is called %q", got)
			}
		})
	}
	works(t, beside)
}

// works does something with the token for which a login is needed.
func works(t testing.TB, tok *Token) {
	t.Helper()
	k, err := tok.Generate(background, wraps(32))
	if err != nil {
		t.Error(err)
		return
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenFindsNoToken(t *testing.T) {
	twin, other := newTokenLabelled(t, "twin"), newTokenLabelled(t, "twin")
	beside := open(t, newTokenLabelled(t, "beside"))
	never := func(context.Context, Info) ([]byte, error) {
		t.Error("the PIN was asked for")
		return nil, nil
	}
	for _, tt := range []struct {
		name, token string
		kind        error
		hints       []string
	}{
		{"an unknown label", "nobody", ErrNoToken, []string{`"twin"`, `"beside"`}},
		{"a label in another case", "Twin", ErrNoToken, nil},
		{"a serial of another token", "pkcs11:token=beside;serial=" + twin.Serial, ErrNoToken, nil},
		{"an unknown slot", "pkcs11:slot-id=99999", ErrNoToken, nil},
		{"a label that two tokens have", "twin", ErrAmbiguous, []string{twin.Serial, other.Serial}},
		{"no name at all, where there are several tokens", "", ErrAmbiguous, []string{twin.Serial, other.Serial}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(background, Config{Module: env.Module(), Token: parse(t, tt.token), PIN: never})
			want(t, err, tt.kind)
			for _, text := range tt.hints {
				if got := facts(t, err); !strings.Contains(got, text) {
					t.Errorf("%q does not name %s", got, text)
				}
			}
			works(t, beside)
		})
	}
	t.Run("of two with one label, the serial finds each", func(t *testing.T) {
		for _, st := range []softhsm.Token{twin, other} {
			tok, err := Open(background, Config{Module: env.Module(), Token: parse(t, "pkcs11:token=twin;serial="+st.Serial), PIN: pin(st.PIN)})
			if err != nil {
				t.Fatal(err)
			}
			if tok.Info().Serial != st.Serial {
				t.Errorf("opened %s", tok)
			}
			tok.Close()
		}
	})
}

func TestOpenRefusesWhatIsNoModule(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "module.so")
	if err := os.WriteFile(file, []byte("not a module\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.so")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path string }{
		{"a text file", file},
		{"an empty file", empty},
		{"a library that is no PKCS #11 module", "libc.so.6"},
		{"a directory", dir},
		{"a device", "/dev/null"},
		{"a path that is not there", filepath.Join(dir, "missing.so")},
		{"a name that the loader does not find", "libmissing-pkcs11.so"},
		{"no name", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(background, Config{Module: tt.path, Token: Selector{Label: "x"}, PIN: pin("1234")})
			want(t, err, ErrModule)
			_, err = List(tt.path)
			want(t, err, ErrModule)
			_, err = Initialize(tt.path, NewToken{Label: "x", SOPIN: []byte("1234"), UserPIN: []byte("1234")})
			want(t, err, ErrModule)
		})
	}
}

func TestOpenTriesAWrongPINOnce(t *testing.T) {
	for _, tt := range []struct{ name, pin, code string }{
		{"a wrong PIN", "wrong PIN", "CKR_PIN_INCORRECT"},
		{"an empty PIN", "", "CKR_ARGUMENTS_BAD"},
		{"a PIN that is too long", strings.Repeat("x", 300), "CKR_PIN_"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := newToken(t)
			beside := open(t, newToken(t))
			var asked int
			given := []byte(tt.pin)
			cfg := config(st)
			cfg.AnyPINLength = true // for the token to refuse it
			cfg.PIN = func(_ context.Context, info Info) ([]byte, error) {
				if asked++; info.Serial != st.Serial {
					t.Errorf("asked for the PIN of %+v", info)
				}
				return given, nil
			}
			_, err := Open(background, cfg)
			want(t, err, ErrPIN, tt.code, st.Label)
			if strings.Contains(err.Error(), tt.pin) && tt.pin != "" {
				t.Errorf("the PIN is in %q", err)
			}
			var tried *PINTried
			if !errors.As(err, &tried) || tried.PIN == nil || !tried.PIN.Initialized {
				t.Errorf("what the token says of its PIN: %+v", tried)
			}
			if asked != 1 {
				t.Errorf("the PIN was asked for %d times", asked)
			}
			if !bytes.Equal(given, make([]byte, len(given))) {
				t.Errorf("the PIN is still in memory: %q", given)
			}
			works(t, beside)
			works(t, open(t, st)) // with the right one
			works(t, beside)
		})
	}
}

func TestOpenFailsWithoutALogin(t *testing.T) {
	st := newToken(t)
	beside := open(t, newToken(t))
	cancelled, cancel := context.WithCancel(background)
	cancel()
	broken := errors.New("the terminal is gone")
	var later context.CancelFunc
	for _, tt := range []struct {
		name string
		ctx  func() context.Context
		pin  func(context.Context, Info) ([]byte, error)
		want error
	}{
		{"when the PIN cannot be had", nil, func(context.Context, Info) ([]byte, error) { return []byte(st.PIN), broken }, broken},
		{"when the context is cancelled before", func() context.Context { return cancelled }, pin(st.PIN), context.Canceled},
		{"when the context is cancelled while the PIN is asked for", func() context.Context {
			ctx, cancel := context.WithCancel(background)
			later = cancel
			return ctx
		}, func(context.Context, Info) ([]byte, error) { later(); return []byte(st.PIN), nil }, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := background
			if tt.ctx != nil {
				ctx = tt.ctx()
			}
			cfg := config(st)
			var given []byte
			cfg.PIN = func(ctx context.Context, info Info) ([]byte, error) {
				var err error
				given, err = tt.pin(ctx, info)
				return given, err
			}
			_, err := Open(ctx, cfg)
			want(t, err, tt.want)
			if !bytes.Equal(given, make([]byte, len(given))) {
				t.Errorf("the PIN is still in memory: %q", given)
			}
			works(t, beside)
			r := openRaw(t, st)
			if info, err := r.GetSessionInfo(r.session); err != nil || info.State != pkcs11.CKS_RW_PUBLIC_SESSION {
				t.Errorf("session state %d, %v; want a public session", info.State, err)
			}
		})
	}
}

func TestOpenOverwritesThePIN(t *testing.T) {
	st := newToken(t)
	cfg := config(st)
	given := []byte(st.PIN)
	cfg.PIN = func(context.Context, Info) ([]byte, error) { return given, nil }
	tok, err := Open(background, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	if !bytes.Equal(given, make([]byte, len(given))) {
		t.Errorf("the PIN is still in memory: %q", given)
	}
}

// The PIN function may take long, and may use the package meanwhile.
func TestOpenHoldsNothingWhileThePINIsAskedFor(t *testing.T) {
	st := newToken(t)
	other := newToken(t)
	beside, err := Open(background, config(other))
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(st)
	cfg.PIN = func(context.Context, Info) ([]byte, error) {
		if _, err := List(env.Module()); err != nil {
			t.Error(err)
		}
		if err := beside.Close(); err != nil {
			t.Error(err)
		}
		tok, err := Open(background, config(other)) // its PIN may be on the other token
		if err != nil {
			t.Error(err)
		} else {
			defer tok.Close()
		}
		waiting, cancel := context.WithTimeout(background, 10*time.Millisecond)
		defer cancel()
		if _, err := Open(waiting, config(st)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second login did not wait for the first: %v", err)
		}
		return []byte(st.PIN), nil
	}
	tok, err := Open(background, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	works(t, tok)
}

func TestOpenAsksForThePINOnceInAProcess(t *testing.T) {
	st := newToken(t)
	var asked atomic.Int32
	cfg := config(st)
	cfg.PIN = func(context.Context, Info) ([]byte, error) {
		asked.Add(1)
		return []byte(st.PIN), nil
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			tok, err := Open(background, cfg)
			if err != nil {
				t.Error(err)
				return
			}
			works(t, tok)
			t.Cleanup(func() { tok.Close() })
		})
	}
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the PIN was asked for %d times", n)
	}
}

func TestOpenWithoutPIN(t *testing.T) {
	tok, err := Open(background, Config{Module: env.Module(), Token: Selector{Serial: newToken(t).Serial}})
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	_, err = tok.Generate(background, wraps(32))
	want(t, err, nil, "CKR_USER_NOT_LOGGED_IN")
	_, err = tok.KeyPair(background, PairName{Label: "pair"})
	want(t, err, ErrNoPair)
}

func TestClosingATokenWithoutALoginLogsNobodyOut(t *testing.T) {
	st, p := newPair(t)
	cfg := config(st)
	cfg.PIN = nil
	without, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := without.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.checkSigns(context.Background()); err != nil {
		t.Errorf("the other, which had logged in, cannot sign any more: %v", err)
	}
}

// SoftHSM counts no tries, so the flags are set by hand.
func TestPINFlags(t *testing.T) {
	for _, tt := range []struct {
		name     string
		pin      PIN
		finalTry bool
		kind     error
		says     string
	}{
		{"a PIN that is well", PIN{Initialized: true}, false, nil, "ok"},
		{"some tries used up", PIN{Initialized: true, CountLow: true}, false, nil, "some tries used"},
		{"one try left", PIN{Initialized: true, CountLow: true, FinalTry: true}, false, ErrFinalTry, "one try left"},
		{"one try left, and it is wanted", PIN{Initialized: true, FinalTry: true}, true, nil, "one try left"},
		{"locked", PIN{Initialized: true, Locked: true}, false, ErrPINLocked, "locked"},
		{"locked, and a final try wanted", PIN{Initialized: true, FinalTry: true, Locked: true}, true, ErrPINLocked, "locked"},
		{"never set", PIN{}, true, ErrPIN, "not set"},
		{"to be changed", PIN{Initialized: true, ToBeChanged: true}, false, nil, "must be changed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var kind error
			if e := tt.pin.refuses(tt.finalTry); e != nil {
				kind = e.Kind
			}
			if kind != tt.kind {
				t.Errorf("refused with %v, want %v", kind, tt.kind)
			}
			if got := tt.pin.String(); got != tt.says {
				t.Errorf("it is called %q, want %q", got, tt.says)
			}
		})
	}
	for code, kind := range map[uint]error{
		pkcs11.CKR_PIN_LOCKED: ErrPINLocked, pkcs11.CKR_PIN_INCORRECT: ErrPIN, pkcs11.CKR_PIN_EXPIRED: ErrPIN,
		pkcs11.CKR_USER_PIN_NOT_INITIALIZED: ErrPIN, pkcs11.CKR_DEVICE_ERROR: nil, pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: nil,
	} {
		if got := loginKind(pkcs11.Error(code)); got != kind {
			t.Errorf("%v is %v, want %v", pkcs11.Error(code), got, kind)
		}
	}
}

func TestPoolSize(t *testing.T) {
	for most, want := range map[uint]int{
		pkcs11.CK_EFFECTIVELY_INFINITE: MaxSessions, pkcs11.CK_UNAVAILABLE_INFORMATION: MaxSessions,
		1: 0, 3: 0, 4: 1, 5: 1, 6: 2, 8: 3, 1000: MaxSessions,
	} {
		got := poolSize(most)
		if got != want {
			t.Errorf("of %d sessions the pool gets %d, want %d", most, got, want)
		}
		if used := uint(2*got + 2); got > 0 && most > 1 && used > most && most != pkcs11.CK_UNAVAILABLE_INFORMATION {
			t.Errorf("of %d sessions %d are used", most, used)
		}
	}
}

func TestTokensSideBySide(t *testing.T) {
	st, other := newToken(t), newToken(t)
	for _, tt := range []struct {
		name   string
		second softhsm.Token
	}{
		{"two on one token", st},
		{"one on each of two tokens", other},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, err := Open(background, config(st))
			if err != nil {
				t.Fatal(err)
			}
			second := open(t, tt.second)
			kept, err := second.Generate(background, wraps(32))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := first.Generate(background, wraps(32)); err != nil {
				t.Fatal(err)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			works(t, second)
			if v, err := kept.CheckValue(background); err != nil || len(v) != 3 {
				t.Errorf("a key of the Token that is open: %x, %v", v, err)
			}
			_, err = first.Generate(background, wraps(32))
			want(t, err, ErrClosed)
			if got := openRaw(t, tt.second).secretKeys(t); len(got) != 1 {
				t.Errorf("%d secret keys are there, want the one that is open", len(got))
			}
		})
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	st := newToken(t)
	for range 2 { // the second one finds what the first one left
		tok, err := Open(background, config(st))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := tok.Generate(background, wraps(32)); err != nil { // never closed
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := openRaw(t, st).secretKeys(t); len(got) != 8 {
			t.Fatalf("%d session keys, want 8", len(got))
		}
		for range 2 {
			if err := tok.Close(); err != nil {
				t.Fatal(err)
			}
		}
		p := pkcs11.New(env.Module())
		defer p.Destroy()
		if _, err := p.GetInfo(); !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
			t.Fatalf("C_GetInfo after Close: %v, want CKR_CRYPTOKI_NOT_INITIALIZED", err)
		}
	}

	// While another token keeps the module loaded, Close itself must clean up.
	open(t, newToken(t))
	tok, err := Open(background, config(st))
	if err != nil {
		t.Fatal(err)
	}
	r := openRaw(t, st)
	p, err := tok.GenerateKeyPair(background, "pair", 2048)
	if err != nil {
		t.Fatal(err)
	}
	k, err := tok.Generate(background, wraps(32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Wrap(background, p.public, crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := r.GetSessionInfo(r.session)
	if err != nil || info.State != pkcs11.CKS_RW_PUBLIC_SESSION {
		t.Fatalf("session state %d, %v; want a public session", info.State, err)
	}
	if err := r.Login(r.session, pkcs11.CKU_USER, st.PIN); err != nil {
		t.Fatal(err)
	}
	if got := r.find(t, attr(pkcs11.CKA_TOKEN, false)); len(got) != 0 {
		t.Errorf("%d session objects are left", len(got))
	}
}

func TestAfterClose(t *testing.T) {
	st := newToken(t)
	tok, err := Open(background, config(st))
	if err != nil {
		t.Fatal(err)
	}
	p := makePair(t, tok, "pair", 2048)
	spec := wraps(32)
	transit, err := tok.Generate(background, spec)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := transit.Wrap(background, p.public, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	session, err := p.Unwrap(background, of(spec, wrapped))
	if err != nil {
		t.Fatal(err)
	}
	random, err := tok.Random()
	if err != nil {
		t.Fatal(err)
	}
	stranger := softwareKey(t)
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	for name, call := range map[string]func() error{
		"Generate":        func() error { _, err := tok.Generate(background, spec); return err },
		"KeyPair":         func() error { _, err := tok.KeyPair(background, PairName{}); return err },
		"GenerateKeyPair": func() error { _, err := tok.GenerateKeyPair(background, "x", 2048); return err },
		"Random":          func() error { _, err := tok.Random(); return err },
		"Read":            func() error { _, err := random.Read(make([]byte, 1)); return err },
		"Sign":            func() error { _, err := p.Sign(rand.Reader, digest[:], crypto.SHA256); return err },
		"Certify":         func() error { _, err := p.Certify(background, "x"); return err },
		"Certificate":     func() error { _, err := p.Certificate(background); return err },
		"OAEPHash":        func() error { _, err := p.OAEPHash(background); return err },
		"Unwrap":          func() error { _, err := p.Unwrap(background, of(spec, wrapped)); return err },
		"UnwrapTransit":   func() error { _, err := p.UnwrapTransit(background, of(spec, wrapped)); return err },
		"Reveal":          func() error { _, err := p.Reveal(background, of(spec, wrapped)); return err },
		"Load":            func() error { return p.Load(background, of(spec, wrapped), "x", []byte{1}) },
		"Destroy":         func() error { return p.Destroy(background) },
		"Wrap":            func() error { _, err := transit.Wrap(background, p.public, crypto.SHA1); return err },
		"Wrap to a key that was not imported": func() error {
			_, err := transit.Wrap(background, &stranger.PublicKey, crypto.SHA1)
			return err
		},
		"CheckValue": func() error { _, err := transit.CheckValue(background); return err },
		"WrapData":   func() error { _, err := session.WrapData(background, make([]byte, 16)); return err },
		"UnwrapData": func() error { _, err := session.UnwrapData(background, make([]byte, 24)); return err },
	} {
		t.Run(name, func(t *testing.T) { want(t, call(), ErrClosed) })
	}
	for _, c := range []io.Closer{transit, session, tok} {
		if err := c.Close(); err != nil {
			t.Errorf("%T: %v", c, err)
		}
	}
}

func TestCloseWaitsForCallsUnderWay(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	makePair(t, tok, "pair", 2048)
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	spec := wraps(32)
	for name, call := range map[string]func(p *KeyPair) error{
		"signing":    func(p *KeyPair) error { _, err := p.Sign(rand.Reader, digest[:], crypto.SHA256); return err },
		"unwrapping": func(p *KeyPair) error { _, err := p.OAEPHash(background); return err },
		"importing a public key": func(p *KeyPair) error {
			k, err := p.token.Generate(background, spec)
			if err != nil {
				return err
			}
			_, err = k.Wrap(background, &rsa.PublicKey{N: rsaOf(p).N, E: 65537 + 2*mathrand.IntN(1<<20)}, crypto.SHA1)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 15 {
				tok, err := Open(background, config(st))
				if err != nil {
					t.Fatal(err)
				}
				p, err := tok.KeyPair(background, PairName{})
				if err != nil {
					t.Fatal(err)
				}
				started := make(chan struct{}, 4)
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						for {
							err := call(p)
							if errors.Is(err, ErrClosed) {
								return
							}
							if err != nil {
								t.Errorf("a call that was under way: %v", err)
								return
							}
							select {
							case started <- struct{}{}:
							default:
							}
						}
					})
				}
				for range 4 {
					<-started
				}
				if err := tok.Close(); err != nil {
					t.Error(err)
				}
				wg.Wait()
				if len(libraries) != 0 {
					t.Fatal("the module is still loaded")
				}
			}
		})
	}
}

func TestOpenAndCloseManyTimes(t *testing.T) {
	st := newToken(t)
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	var before int
	for i := range 100 {
		if i == 10 {
			before = files()
		}
		cfg := config(st)
		if i%10 == 9 {
			cfg.PIN = pin("wrong PIN")
		}
		tok, err := Open(background, cfg)
		if i%10 == 9 {
			want(t, err, ErrPIN)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		works(t, tok)
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := files(); after > before+2 {
		t.Errorf("%d files are open, %d were", after, before)
	}
	if len(libraries) != 0 {
		t.Errorf("modules are still loaded: %v", libraries)
	}
}

func TestRandom(t *testing.T) {
	tok := open(t, newToken(t))
	r, err := tok.Random()
	if err != nil {
		t.Fatal(err)
	}
	a, b := make([]byte, 32), make([]byte, 32)
	for _, buf := range [][]byte{a, b, nil} {
		if n, err := io.ReadFull(r, buf); err != nil || n != len(buf) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	if bytes.Equal(a, b) || bytes.Equal(a, make([]byte, 32)) {
		t.Errorf("%x and %x are not random", a, b)
	}
}

func TestList(t *testing.T) {
	st := newToken(t)
	for _, opened := range []bool{false, true} {
		t.Run(fmt.Sprintf("with a Token open: %v", opened), func(t *testing.T) {
			if opened {
				open(t, st)
			}
			all, err := List(env.Module())
			if err != nil {
				t.Fatal(err)
			}
			var found, blank bool
			for _, info := range all {
				found = found || info.Serial == st.Serial && info.Label == st.Label && info.Mechanisms.WrapAES
				blank = blank || !info.Initialized
			}
			if !found || !blank {
				t.Errorf("token %v, blank token %v, in %+v", found, blank, all)
			}
			if !opened && len(libraries) != 0 {
				t.Error("List left the module loaded")
			}
		})
	}
}

// A Token without MakePairs opens the module without crypto11, and can make pairs all the same.
// Tokens of both kinds work side by side in one process, in any order.
func TestWithoutCrypto11(t *testing.T) {
	st, other := newToken(t), newToken(t)
	with := config(st)
	without := with
	without.MakePairs = false
	elsewhere := config(other)
	elsewhere.MakePairs = false
	for i, order := range [][]Config{{without, with, elsewhere}, {with, without, elsewhere}, {elsewhere, elsewhere, with}, {without}} {
		var open []*Token
		for _, cfg := range order {
			tok, err := Open(background, cfg)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, tok)
		}
		for j := range open { // the first goes first: what it has initialised stays for the others
			for _, tok := range open[j:] {
				if _, err := tok.findObjects(background, nil); err != nil {
					t.Errorf("order %d: %v", i, err)
				}
			}
			if j == 0 {
				p := makePair(t, open[0], fmt.Sprintf("pair %d", i), 2048)
				if ok, err := p.signs(sha256.Sum256(nil)); err != nil || !ok {
					t.Errorf("order %d: %v", i, err)
				}
			}
			if err := open[j].Close(); err != nil {
				t.Error(err)
			}
		}
		if len(libraries) != 0 {
			t.Fatalf("order %d: the module is still open", i)
		}
	}
	without.Token = Selector{Label: "nobody"}
	_, err := Open(background, without)
	want(t, err, ErrNoToken, "nobody")
	without.Module = "/etc/hostname"
	_, err = Open(background, without)
	want(t, err, ErrModule)
}
