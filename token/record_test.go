package token

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

func records(t *testing.T, tok *Token) []string {
	t.Helper()
	all, err := tok.Records(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, r := range all {
		values = append(values, r.Label+"="+string(r.Value))
	}
	return values
}

func TestRecordsSurvive(t *testing.T) {
	ctx := context.Background()
	st := newToken(t)
	tok, err := Open(ctx, config(st))
	if err != nil {
		t.Fatal(err)
	}
	if got := records(t, tok); len(got) != 0 {
		t.Errorf("a new token has %q", got)
	}
	if err := tok.AddRecord(ctx, "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	tok = open(t, st)
	if got := records(t, tok); fmt.Sprint(got) != "[a=1]" {
		t.Errorf("%q", got)
	}
	all, err := tok.Records(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is gone already
		if err := tok.DeleteRecord(ctx, all[0]); err != nil {
			t.Error(err)
		}
	}
	if got := records(t, tok); len(got) != 0 {
		t.Errorf("after deleting: %q", got)
	}
	for _, value := range [][]byte{nil, make([]byte, maxRecord+1)} {
		want(t, tok.AddRecord(ctx, "a", value), errors.ErrUnsupported)
	}
}

func TestRecordsAreSeenAndMadeWithThePINOnly(t *testing.T) {
	ctx := context.Background()
	st := newToken(t)
	planted := record("a", []byte("planted"))
	for _, a := range planted {
		if a.Type == pkcs11.CKA_PRIVATE {
			*a = *attr(pkcs11.CKA_PRIVATE, false)
		}
	}
	plant(t, st, planted)
	if err := (attack{Create: [][]rawAttribute{rawAttributes(record("a", []byte("private")))}}).run(t, st); err == nil {
		t.Error("a private record was made without a PIN")
	}
	tok := open(t, st)
	if err := tok.AddRecord(ctx, "a", []byte("ours")); err != nil {
		t.Fatal(err)
	}
	if got := records(t, tok); fmt.Sprint(got) != "[a=ours]" {
		t.Errorf("%q", got)
	}
	if err := tok.Close(); err != nil {
		t.Fatal(err)
	}
	c := config(st)
	c.PIN = nil
	stranger, err := Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if got := records(t, stranger); len(got) != 0 {
		t.Errorf("without the PIN: %q", got)
	}
}

// TestARecordIsThereWhileItIsReplaced replaces a record all the time, in one Token,
// while another reads. The previous one is kept as well, see Records.
func TestARecordIsThereWhileItIsReplaced(t *testing.T) {
	ctx := context.Background()
	st := newToken(t)
	writer, reader := open(t, st), open(t, st)
	if err := writer.AddRecord(ctx, "pin", []byte("0")); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		defer close(done)
		for i := 1; i <= 50; i++ {
			before, err := writer.Records(ctx)
			if err == nil {
				err = writer.AddRecord(ctx, "pin", fmt.Append(nil, i))
			}
			if err != nil {
				t.Error(err)
				continue
			}
			for _, r := range before {
				if n, err := strconv.Atoi(string(r.Value)); err != nil || n >= i-1 {
					continue
				}
				if err := writer.DeleteRecord(ctx, r); err != nil {
					t.Error(err)
				}
			}
		}
	})
	reads := 0
	for more := true; more; reads++ {
		select {
		case <-done:
			more = false
		default:
		}
		if got := records(t, reader); len(got) == 0 {
			t.Error("there was a moment without a record")
		}
	}
	all.Wait() // even if the reader has failed
	got := records(t, reader)
	for try := 0; try < 100 && !slices.Contains(got, "pin=50"); try++ { // SoftHSM shows a new one a moment later
		time.Sleep(20 * time.Millisecond)
		got = records(t, reader)
	}
	if reads < 10 || !slices.Contains(got, "pin=50") {
		t.Errorf("%q after %d reads", got, reads)
	}
}

func TestCheckValueOfAnUnwrappedKey(t *testing.T) {
	ctx := context.Background()
	_, p := newPair(t)
	for _, spec := range []keyspec.Key{wraps(16), wraps(24), wraps(32), encrypts(32), authenticates(32), authenticates(64)} {
		key := generate(t, p.token, spec)
		made, err := key.CheckValue(ctx)
		if err != nil || len(made) != 3 {
			t.Fatalf("%v: %x, %v", spec, made, err)
		}
		again, err := p.UnwrapTransit(ctx, of(spec, wrap(t, key, p.public)))
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		got, err := again.CheckValue(ctx)
		if err != nil || got == nil && spec.Purpose != keyspec.Authenticate || got != nil && string(got) != string(made) {
			t.Errorf("%v: made with %x, unwrapped with %x, %v", spec, made, got, err)
		}
		t.Logf("%v: %x", spec, got)
	}
}

func TestRehearse(t *testing.T) {
	ctx := context.Background()
	_, p := newPair(t)
	other := makePair(t, p.token, "other", 2048)
	for _, spec := range []keyspec.Key{wraps(16), wraps(32), encrypts(24), authenticates(48)} {
		key := generate(t, p.token, spec)
		wrapped := wrap(t, key, p.public)
		if err := p.Rehearse(ctx, of(spec, wrapped)); err != nil {
			t.Errorf("%v: %v", spec, err)
		}
		want(t, other.Rehearse(ctx, of(spec, wrapped)), ErrWrapped)
		another := of(spec, wrapped)
		another.Confirmation = make([]byte, memkey.ConfirmationSize)
		want(t, p.Rehearse(ctx, another), ErrWrapped)
		encryptedKey(wrapped)[100] ^= 1
		want(t, p.Rehearse(ctx, of(spec, wrapped)), ErrWrapped)
		want(t, p.Rehearse(ctx, of(spec, &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: nil})), ErrWrapped)
	}
}

// A handle of an earlier login may name another object, and a client of the agent may send any.
func TestOnlyRecordsAreDeleted(t *testing.T) {
	ctx := context.Background()
	tok := open(t, newToken(t))
	pair, err := tok.GenerateKeyPair(ctx, "pair", RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.AddRecord(ctx, "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	for object := range uint(20) {
		for _, r := range []keyspec.Record{{Object: object}, {Label: "a", Value: []byte("2"), Object: object}, {Label: "pair", Object: object}} {
			if err := tok.DeleteRecord(ctx, r); err != nil {
				t.Error(err)
			}
		}
		_ = tok.Unload(ctx, Loaded{Label: pair.Label(), ID: pair.ID(), Object: object})
	}
	if _, err := tok.KeyPair(ctx, PairName{Label: "pair"}); err != nil {
		t.Error(err)
	}
	if got := records(t, tok); fmt.Sprint(got) != "[a=1]" {
		t.Errorf("%q", got)
	}
	if err := tok.DeleteRecord(ctx, keyspec.Record{Label: "a", Value: []byte("1"), Object: 9999}); err != nil {
		t.Error(err)
	}
	if got := records(t, tok); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
