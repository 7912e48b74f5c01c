package hsmkeys_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

func TestAFileComesBackFromEveryAlgorithm(t *testing.T) {
	k, _, _ := found(t)
	plain := bytes.Repeat([]byte("the salaries of March\n"), 10000)
	for _, algorithm := range []keyspec.Algorithm{keyspec.AES128, keyspec.AES192, keyspec.AES256} {
		name := algorithm.String()
		e, err := k.Create(context.Background(), name, algorithm, 0)
		if err != nil {
			t.Fatal(err)
		}
		if e.Algorithm != name || e.Purpose != "wrap" || e.Version != 1 || e.Residence != "token" || len(e.Holders) != 1 {
			t.Errorf("entry %+v", e)
		}
		back, err := decrypt(k, encrypt(t, k, name, plain))
		if err != nil || !bytes.Equal(back, plain) {
			t.Errorf("%s: %v, %d bytes", name, err, len(back))
		}
	}
}

func TestAFileStaysReadableAfterRotation(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	old := encrypt(t, k, "payroll", []byte("old"))
	e, err := k.Rotate(context.Background(), "payroll", "")
	if err != nil || e.Version != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	recent := encrypt(t, k, "payroll", []byte("new"))
	if !strings.Contains(string(recent[:200]), "-> hsmkeys payroll 2 ") {
		t.Errorf("a new file is not under the newest version: %q", recent[:100])
	}
	for want, file := range map[string][]byte{"old": old, "new": recent} {
		if got, err := decrypt(k, file); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	history, err := k.History(context.Background(), "payroll")
	if err != nil || len(history) != 2 || history[0].KeyID == history[1].KeyID {
		t.Errorf("%+v, %v", history, err)
	}
}

func TestHMACKeysEncryptNoFiles(t *testing.T) {
	k, _, _ := found(t)
	for name, make := range map[string]struct {
		a keyspec.Algorithm
		p keyspec.Purpose
	}{"mac": {keyspec.HMACSHA256, 0}, "data": {keyspec.AES256, keyspec.Encrypt}} {
		if _, err := k.Create(context.Background(), name, make.a, make.p); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Encrypt(context.Background(), io.Discard, []hsmkeys.Ref{{Name: name}}); !errors.Is(err, hsmkeys.ErrPurpose) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	plain := bytes.Repeat([]byte("x"), 200<<10)
	file := encrypt(t, k, "payroll", plain)
	header := bytes.Index(file, []byte("\n---"))
	for i := 0; i < header+60; i++ {
		for bit := range 8 {
			if i%3 != bit%3 { // a third of all bits of the header, spread over all of it
				continue
			}
			damaged := bytes.Clone(file)
			damaged[i] ^= 1 << bit
			if _, err := decrypt(k, damaged); err == nil {
				t.Fatalf("bit %d of byte %d flipped: decrypted", bit, i)
			}
		}
	}
	for _, size := range []int{0, 10, header, header + 50, header + 60, header + 70<<10, len(file) - 1} {
		if _, err := decrypt(k, file[:size]); !errors.Is(err, blob.ErrIntegrity) {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
	damaged := bytes.Clone(file)
	damaged[len(damaged)-1] ^= 1
	got, err := decrypt(k, damaged)
	if !errors.Is(err, blob.ErrIntegrity) || len(got) >= len(plain) {
		t.Errorf("last byte: %d bytes, %v", len(got), err)
	}
}

func TestFilesOfOthersAreNotOurs(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := decrypt(k, out.Bytes()); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("an age file without our stanza: %v", err)
	}
	other, _, _ := found(t)
	create(t, other, "payroll")
	if _, err := decrypt(k, encrypt(t, other, "payroll", nil)); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a file of another keyring: %v", err)
	}
}

func TestOthersMayOpenTheFileToo(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := k.Encrypt(context.Background(), &out, []hsmkeys.Ref{{Name: "payroll"}}, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "both")
	w.Close()
	if got, err := decrypt(k, out.Bytes()); err != nil || string(got) != "both" {
		t.Errorf("%q, %v", got, err)
	}
	r, err := age.Decrypt(&out, identity)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "both" {
		t.Errorf("%q, %v", got, err)
	}
}
