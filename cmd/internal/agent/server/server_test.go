package server_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"path/filepath"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/server"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/cmd/internal/unixsocket"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// A madePair is a pair on the token of an agent.
type madePair struct {
	id     []byte
	public crypto.PublicKey
}

// A running agent serves in this process.
type running struct {
	*server.Server
	info token.Info
	path string // of its socket
	pin  server.PINFunc
}

// newAgent makes a token with the pairs "pair" and "signing", and starts an agent that has logged in
// to it. It returns the first of them.
func newAgent(tb testing.TB) (madePair, *running) {
	tb.Helper()
	env := softhsm.NewT(tb)
	if err := env.Use(); err != nil {
		tb.Fatal(err)
	}
	soft, err := env.InitToken("agent")
	if err != nil {
		tb.Fatal(err)
	}
	pin := func(context.Context, token.Info) ([]byte, error) { return []byte(soft.PIN), nil }
	config := token.Config{Module: env.Module(), Token: token.Selector{Serial: soft.Serial}, MakePairs: true, PIN: pin}
	made, err := token.Open(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	own, err := made.GenerateKeyPair(tb.Context(), "pair", token.RSA3072)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := made.GenerateKeyPair(tb.Context(), "signing", token.RSA2048); err != nil {
		tb.Fatal(err)
	}
	pair := madePair{own.ID(), own.Public()}
	info := made.Info()
	if err := made.Close(); err != nil {
		tb.Fatal(err)
	}
	config.MakePairs = false
	s := server.New(server.Config{Info: info, Warn: func(err error) { tb.Error(err) }, Open: func(ctx context.Context, pin server.PINFunc) (*token.Token, error) {
		config := config
		config.PIN = pin
		return token.Open(ctx, config)
	}})
	if err := s.Unlock(tb.Context(), pin); err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "s")
	l, release, err := unixsocket.Listen(path)
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l, nil) }()
	tb.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			tb.Error(err)
		}
		release()
	})
	return pair, &running{s, info, path, pin}
}

// A client that has found its pair goes on after the agent was locked and unlocked.
func TestClientsOutliveALock(t *testing.T) {
	_, a := newAgent(t)
	client, err := agent.Dial(t.Context(), a.path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, signing := range []string{"", "signing"} {
		pair, err := client.FindPair(t.Context(), token.PairName{Label: "pair"}, token.PairName{Label: signing})
		if err != nil {
			t.Fatal(err)
		}
		generate := func() error {
			key, err := pair.Generate(t.Context(), keyspec.Key{Algorithm: keyspec.AES256, Purpose: keyspec.WrapKeys, Size: 32})
			if err != nil {
				return err
			}
			signer, _ := pair.Signer()
			_, err = signer.Sign(nil, make([]byte, 32), &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256})
			return errors.Join(err, key.Close())
		}
		if err := generate(); err != nil {
			t.Fatal(err)
		}
		if err := a.Lock("for the test"); err != nil {
			t.Fatal(err)
		}
		if err := generate(); !errors.Is(err, wire.ErrLocked) {
			t.Errorf("locked: %v", err)
		}
		if err := a.Unlock(t.Context(), a.pin); err != nil {
			t.Fatal(err)
		}
		if err := generate(); err != nil {
			t.Errorf("unlocked again, signing pair %q: %v", signing, err)
		}
	}
}
