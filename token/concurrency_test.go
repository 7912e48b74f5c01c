package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
)

// Sixteen goroutines use one Token and cancel at random: every result is right or a cancellation,
// and nothing is left on the token.
func TestConcurrentUse(t *testing.T) {
	st, p := newPair(t)
	r := openRaw(t, st)
	peer := softwareKey(t)
	digest := sha256.Sum256([]byte("message"))
	var finished, cancelled atomic.Int32
	round := func(ctx context.Context) error {
		spec := wraps(32)
		k, err := p.token.Generate(ctx, spec)
		if err != nil {
			return err
		}
		defer k.Close()
		if _, err := k.Wrap(ctx, &peer.PublicKey, crypto.SHA256); err != nil {
			return err
		}
		wrapped, err := k.Wrap(ctx, p.public, crypto.SHA256)
		if err != nil {
			return err
		}
		session, err := p.Unwrap(ctx, of(spec, wrapped))
		if err != nil {
			return err
		}
		defer session.Close()
		data := make([]byte, 16)
		rand.Read(data)
		under, err := session.WrapData(ctx, data)
		if err != nil {
			return err
		}
		got, err := session.UnwrapData(ctx, under)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%x came back for %x", got, data)
		}
		signature, err := p.Sign(rand.Reader, digest[:], pss(crypto.SHA256))
		if err != nil {
			return err
		}
		if err := rsa.VerifyPSS(rsaOf(p), crypto.SHA256, digest[:], signature, nil); err != nil {
			t.Error(err)
		}
		return nil
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			random := mathrand.New(mathrand.NewPCG(1, uint64(i)))
			for j := range 12 {
				ctx, cancel := context.Background(), func() {}
				if j%2 == 1 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(150))*time.Millisecond)
				}
				switch err := round(ctx); {
				case err == nil:
					finished.Add(1)
				case errors.Is(err, context.DeadlineExceeded) && j%2 == 1:
					cancelled.Add(1)
				default:
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if finished.Load() < 96 || cancelled.Load() == 0 {
		t.Errorf("%d rounds finished, %d were cancelled", finished.Load(), cancelled.Load())
	}
	if got := r.secretKeys(t, attr(pkcs11.CKA_TOKEN, false)); len(got) != 0 {
		t.Errorf("%d secret keys are left", len(got))
	}
	if got := r.find(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_TOKEN, false)); len(got) != 0 {
		t.Errorf("%d private keys are left", len(got))
	}
	// There is one of each confirmObject.
	if got := r.find(t, attr(pkcs11.CKA_LABEL, confirmLabel)); len(got) != 2 {
		t.Errorf("%d objects to recognize keys with, want 2", len(got))
	}
	// Two imported public keys serve all goroutines until the Token is closed.
	if got := r.find(t, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_TOKEN, false)); len(got) != 2 {
		t.Errorf("%d public keys are imported, want 2", len(got))
	}
	if n := len(p.token.pool.idle); n == 0 || n > MaxSessions {
		t.Errorf("%d sessions are open", n)
	}
}

// A call that waits for a session returns when its context is done.
func TestWaitingForASession(t *testing.T) {
	tok := open(t, newToken(t))
	var wg sync.WaitGroup
	release, taken := make(chan struct{}), make(chan struct{}, MaxSessions)
	for range MaxSessions {
		wg.Go(func() {
			err := tok.with(background, func(pkcs11.SessionHandle) error {
				taken <- struct{}{}
				<-release
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range MaxSessions {
		<-taken
	}
	ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
	defer cancel()
	if _, err := tok.Generate(ctx, wraps(32)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want context.DeadlineExceeded", err)
	}
	close(release)
	wg.Wait()
	works(t, tok)
}

// A session that can no longer be used is replaced.
func TestLostSession(t *testing.T) {
	tok := open(t, newToken(t))
	works(t, tok)
	if len(tok.pool.idle) != 1 {
		t.Fatalf("%d idle sessions", len(tok.pool.idle))
	}
	if err := tok.ctx.CloseSession(tok.pool.idle[0]); err != nil {
		t.Fatal(err)
	}
	_, err := tok.Generate(background, wraps(32))
	want(t, err, nil, "CKR_SESSION_HANDLE_INVALID")
	works(t, tok)
}

// A key is not destroyed while it is in use.
func TestCloseKeyInUse(t *testing.T) {
	_, p := newPair(t)
	wrapped := wrap(t, generate(t, p.token, wraps(32)), p.public)
	for range 20 {
		k, err := p.Unwrap(background, of(wraps(32), wrapped))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for {
					_, err := k.WrapData(background, make([]byte, 16))
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						t.Errorf("user %d: %v", i, err)
						return
					}
				}
			})
		}
		time.Sleep(time.Millisecond)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

// A Token makes no more calls at the same time than Config.Sessions.
func TestSessionsAreAsManyAsSaid(t *testing.T) {
	st, p := newPair(t)
	for _, test := range []struct{ said, want int }{{0, MaxSessions}, {1, 1}, {3, 3}, {1000, MaxSessions}} {
		cfg := config(st)
		cfg.Sessions = test.said
		tok, err := Open(background, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := cap(tok.pool.slots); got != test.want {
			t.Errorf("%d sessions for %d", got, test.said)
		}
		again, err := tok.KeyPair(background, PairName{Label: p.label})
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256(nil)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := again.Sign(rand.Reader, digest[:], pss(crypto.SHA256)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := len(tok.pool.idle); n > test.want {
			t.Errorf("%d sessions were opened for %d", n, test.said)
		}
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
	}
}
