package token

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// A server serves a token that can go away.
type server struct {
	*softhsm.Remote
	token  softhsm.Token
	module string
}

func serve(t testing.TB) *server {
	t.Helper()
	token := newToken(t)
	module, err := softhsm.RemoteModule()
	if err != nil {
		t.Fatal(err)
	}
	r, err := env.NewRemote("pkcs11:serial=" + token.Serial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	for _, variable := range r.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	return &server{r, token, module}
}

func (s *server) start(t testing.TB) {
	t.Helper()
	if err := s.Return(); err != nil {
		t.Fatal(err)
	}
}

func TestTokenThatGoesAway(t *testing.T) {
	s := serve(t)
	cfg := Config{Module: s.module, Token: Selector{Serial: s.token.Serial}, PIN: pin(s.token.PIN), Unattended: true}
	tok, err := Open(background, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	p := makePair(t, tok, "pair", RSA2048)
	spec := wraps(32)
	value := make([]byte, 32)
	wrapped, err := memkey.WrapRSA(rsaOf(p), crypto.SHA1, value)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))

	t.Run("what a pair does is repeated", func(t *testing.T) {
		for round := range 3 {
			s.GoAway()
			if round == 1 { // it comes back while we wait
				go func() { time.Sleep(500 * time.Millisecond); s.start(t) }()
			} else {
				s.start(t)
			}
			if ok, err := p.signs(digest); err != nil || !ok {
				t.Fatalf("round %d: it signs: %v, %v", round, ok, err)
			}
			key, err := p.Unwrap(background, of(spec, wrapped))
			if err != nil {
				t.Fatalf("round %d: it unwraps: %v", round, err)
			}
			key.Close()
		}
	})
	t.Run("in the middle of many", func(t *testing.T) {
		var done, failed atomic.Int64
		stop := make(chan struct{})
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			for {
				select {
				case <-stop:
					return
				default:
				}
				key, err := p.Unwrap(background, of(spec, wrapped))
				if err != nil {
					failed.Add(1)
					if !errors.Is(err, ErrLost) {
						t.Errorf("%v", err)
					}
					continue
				}
				key.Close()
				done.Add(1)
			}
		}()
		for range 4 {
			time.Sleep(200 * time.Millisecond)
			before := done.Load()
			s.GoAway()
			s.start(t)
			for range 200 {
				if done.Load() > before {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			if done.Load() == before {
				t.Fatal("nothing is done after the token is back")
			}
		}
		close(stop)
		<-finished
		t.Logf("%d done, %d failed", done.Load(), failed.Load())
	})
	t.Run("a session key on the token is gone", func(t *testing.T) {
		key, err := tok.Generate(background, spec)
		if err != nil {
			t.Fatal(err)
		}
		s.GoAway()
		s.start(t)
		_, err = key.Wrap(background, p.Public(), crypto.SHA1)
		want(t, err, ErrLost)
		_, err = key.Wrap(background, p.Public(), crypto.SHA1)
		want(t, err, ErrLost)
		if err := key.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("waiting ends with the context", func(t *testing.T) {
		s.GoAway()
		ctx, cancel := context.WithTimeout(background, 300*time.Millisecond)
		defer cancel()
		_, err := p.Unwrap(ctx, of(spec, wrapped))
		want(t, err, context.DeadlineExceeded) // and not the loss of the token, which comes after 20 seconds
		s.start(t)
		if _, err := p.Unwrap(background, of(spec, wrapped)); err != nil {
			t.Error(err)
		}
	})
}

func TestNobodyIsAskedAgain(t *testing.T) {
	s := serve(t)
	asked := 0
	cfg := Config{Module: s.module, Token: Selector{Serial: s.token.Serial}, PIN: func(context.Context, Info) ([]byte, error) {
		asked++
		return []byte(s.token.PIN), nil
	}}
	tok, err := Open(background, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	p := makePair(t, tok, "pair", RSA2048)
	s.GoAway()
	s.start(t)
	_, err = p.signs(sha256.Sum256(nil))
	want(t, err, ErrLost)
	if asked != 1 {
		t.Errorf("the PIN was asked for %d times", asked)
	}
}

// A PIN that was changed meanwhile is tried once, and not again.
func TestPINThatIsRefusedAfterwards(t *testing.T) {
	s := serve(t)
	asked, text := 0, s.token.PIN
	cfg := Config{Module: s.module, Token: Selector{Serial: s.token.Serial}, Unattended: true, PIN: func(context.Context, Info) ([]byte, error) {
		asked++
		return []byte(text), nil
	}}
	tok, err := Open(background, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	p := makePair(t, tok, "pair", RSA2048)
	text = "another"
	s.GoAway()
	s.start(t)
	for range 3 {
		_, err = p.signs(sha256.Sum256(nil))
		want(t, err, ErrLost)
	}
	if asked != 2 {
		t.Errorf("the PIN was asked for %d times, want twice", asked)
	}
}
