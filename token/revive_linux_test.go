package token

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// server serves a SoftHSM token on a socket, as a token that can go away.
type server struct {
	socket string
	token  softhsm.Token
	cmd    *exec.Cmd
}

// p11kitClient returns the path of the module at the other end, a prerequisite of the test:
// scripts/install-test-tools.sh installs it.
func p11kitClient(t testing.TB) string {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/*/pkcs11/p11-kit-client.so", "/usr/lib64/pkcs11/p11-kit-client.so", "/usr/lib/pkcs11/p11-kit-client.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatal("p11-kit-client.so is missing: run scripts/install-test-tools.sh")
	return ""
}

func serve(t testing.TB) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "p11") // a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	s := &server{socket: filepath.Join(dir, "s"), token: newToken(t)}
	s.start(t)
	t.Cleanup(func() { s.stop(); os.RemoveAll(dir) })
	t.Setenv("P11_KIT_SERVER_ADDRESS", "unix:path="+s.socket)
	return s
}

func (s *server) start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command("p11-kit", "server", "--foreground", "--provider", env.Module(), "--name", s.socket, "pkcs11:serial="+s.token.Serial)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := os.Stat(s.socket); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("p11-kit server did not come up")
}

// stop ends the server and the processes that serve its connections.
func (s *server) stop() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	_ = s.cmd.Wait()
	_ = os.Remove(s.socket)
}

func TestTokenThatGoesAway(t *testing.T) {
	s := serve(t)
	cfg := Config{Module: p11kitClient(t), Token: Selector{Serial: s.token.Serial}, PIN: pin(s.token.PIN), Unattended: true}
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
			s.stop()
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
			s.stop()
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
		s.stop()
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
		s.stop()
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
	cfg := Config{Module: p11kitClient(t), Token: Selector{Serial: s.token.Serial}, PIN: func(context.Context, Info) ([]byte, error) {
		asked++
		return []byte(s.token.PIN), nil
	}}
	tok, err := Open(background, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	p := makePair(t, tok, "pair", RSA2048)
	s.stop()
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
	cfg := Config{Module: p11kitClient(t), Token: Selector{Serial: s.token.Serial}, Unattended: true, PIN: func(context.Context, Info) ([]byte, error) {
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
	s.stop()
	s.start(t)
	for range 3 {
		_, err = p.signs(sha256.Sum256(nil))
		want(t, err, ErrLost)
	}
	if asked != 2 {
		t.Errorf("the PIN was asked for %d times, want twice", asked)
	}
}
