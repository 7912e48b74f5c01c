package server_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/server"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/cmd/internal/unixsocket"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

var env *softhsm.Env // of all tests: a process initialises its module once

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if env, err = softhsm.New(); err != nil {
			panic(err)
		}
		defer env.Close()
		if err := env.Use(); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

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
func newAgent(tb testing.TB) (madePair, *running) { return newAgentFor(tb, nil, server.Config{}) }

// newAgentFor is newAgent with a listener for other users, and the config for them.
func newAgentFor(tb testing.TB, others net.Listener, sc server.Config) (madePair, *running) {
	tb.Helper()
	soft, err := env.InitToken("Schl\xfcssel") // Latin-1, as old tokens have it
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
	sc.Info, sc.Warn = info, func(err error) { tb.Error(err) }
	sc.Open = func(ctx context.Context, pin server.PINFunc) (*token.Token, error) {
		config := config
		config.PIN = pin
		return token.Open(ctx, config)
	}
	s := server.New(sc)
	if sc.Policy != "" {
		if err := s.ReadPolicy(); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.Unlock(tb.Context(), pin); err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "s")
	l, release, err := unixsocket.Listen(path)
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l, others) }()
	tb.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			tb.Error(err)
		}
		release()
	})
	return pair, &running{s, info, path, pin}
}

func dial(t *testing.T, path string) *agent.Client {
	t.Helper()
	client, err := agent.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// A client that has found its pair goes on after the agent was locked and unlocked.
func TestClientsOutliveALock(t *testing.T) {
	_, a := newAgent(t)
	client := dial(t, a.path)
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

// What a client learns of pairs and errors is as the token has it.
func TestTextsThatAreNotUTF8(t *testing.T) {
	_, a := newAgent(t)
	client := dial(t, a.path)
	if client.Info.Label != a.info.Label || client.Info.Serial != a.info.Serial {
		t.Errorf("%+v, want %+v", client.Info, a.info)
	}
	pair, err := client.FindPair(t.Context(), token.PairName{Label: "pair"}, token.PairName{})
	if err != nil {
		t.Fatal(err)
	}
	if pair.Label() != "pair" {
		t.Errorf("%q", pair.Label())
	}
	none := "no\xffne"
	if _, err := client.FindPair(t.Context(), token.PairName{Label: none}, token.PairName{}); !errors.Is(err, token.ErrNoPair) || !strings.Contains(err.Error(), fmt.Sprintf("%q", none)) {
		t.Error(err)
	}
	if err := client.AddRecord(t.Context(), none, []byte("v")); err != nil {
		t.Fatal(err)
	}
	if all, err := client.Records(t.Context()); err != nil || len(all) != 1 || all[0].Label != none {
		t.Errorf("%+v, %v", all, err)
	}
	if err := a.Lock("caf\xe9"); err != nil {
		t.Fatal(err)
	}
	if err := client.AddRecord(t.Context(), none, nil); !errors.Is(err, wire.ErrLocked) || !strings.Contains(err.Error(), "caf\xe9") {
		t.Error(err)
	}
}

// The name of a return value reaches the client.
func TestReturnValuesReachTheClient(t *testing.T) {
	_, a := newAgent(t)
	client := dial(t, a.path)
	pair, err := client.FindPair(t.Context(), token.PairName{Label: "pair"}, token.PairName{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = pair.Decrypt(t.Context(), make([]byte, 384), crypto.SHA1)
	if got := token.ReturnValue(err); !strings.HasPrefix(got, "CKR_") {
		t.Errorf("%q of %v", got, err)
	}
}

// A store that hangs under a client of the policy keeps nobody from seeing what the agent does, and from
// locking it.
func TestAHangingStoreKeepsNoLockWaiting(t *testing.T) {
	policy, sock := filepath.Join(t.TempDir(), "policy"), filepath.Join(t.TempDir(), "s")
	rule := fmt.Sprintf("[[allow]]\nusers = [\"%d\"]\nkeys = [\"a\"]\noperations = [\"encrypt\"]\n", os.Geteuid())
	if err := os.WriteFile(policy, []byte(rule), 0o600); err != nil {
		t.Fatal(err)
	}
	others, release, err := unixsocket.ListenForOthers(sock)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	opening := make(chan struct{}, 1)
	_, a := newAgentFor(t, others, server.Config{Policy: policy, Keyring: func(ctx context.Context, _ *token.Token, _ hsmkeys.RecordFunc) (*hsmkeys.Keyring, func() error, error) {
		opening <- struct{}{}
		<-ctx.Done()
		return nil, nil, context.Cause(ctx)
	}})
	client := dial(t, sock)
	ended := make(chan error, 1)
	go func() {
		_, err := client.NamedKeys(nil).Encrypt(t.Context(), io.Discard, []hsmkeys.Ref{{Name: "a"}})
		ended <- err
	}()
	<-opening
	own := dial(t, a.path)
	if _, err := own.Status(t.Context()); err != nil {
		t.Error(err)
	}
	if err := own.Lock(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, wire.ErrLocked) {
		t.Error(err)
	}
}
