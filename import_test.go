package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/capi"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token"
)

// simple is a key as CryptExportKey gives it.
func simple(t *testing.T, to *rsa.PublicKey, algorithm capi.AlgID, key []byte) hsmkeys.Simple {
	t.Helper()
	//lint:ignore SA1019 it is what CryptoAPI does
	encrypted, err := rsa.EncryptPKCS1v15(rand.Reader, to, key)
	if err != nil {
		t.Fatal(err)
	}
	return hsmkeys.Simple{Blob: capi.SimpleBlob{Algorithm: algorithm, EncryptedKey: encrypted}, How: keyspec.RSAESPKCS1v15}
}

// Sound, for another key, and damaged: none comes sooner than the others.
func TestImportAnswersAtWholeSeconds(t *testing.T) {
	k, _, _ := found(t)
	ctx := context.Background()
	public := pair.Public().(*rsa.PublicKey)
	key := bytes.Repeat([]byte{7}, 24)
	checked := simple(t, public, capi.TripleDES, key)
	checked.CheckValue = []byte{1, 2, 3}
	damaged := checked
	damaged.Blob = simple(t, public, capi.TripleDES, key[:23]).Blob
	damaged.Blob.Algorithm = capi.TripleDES
	var texts []string
	for name, s := range map[string]hsmkeys.Simple{"another check value": checked, "another length": damaged} {
		began := time.Now()
		_, err := k.ImportSimple(ctx, "x", s)
		if !errors.Is(err, token.ErrWrapped) {
			t.Fatalf("%s: %v", name, err)
		}
		if took := time.Since(began); took < time.Second {
			t.Errorf("%s: answered after %v", name, took)
		}
		texts = append(texts, err.Error())
	}
	if texts[0] != texts[1] {
		t.Errorf("told apart: %q", texts)
	}
	// It ends with its context; on a busy machine not always within the second.
	for sooner := false; !sooner; {
		ended, end := context.WithTimeout(ctx, 50*time.Millisecond)
		began := time.Now()
		_, err := k.ImportSimple(ended, "x", damaged)
		sooner = time.Since(began) < time.Second
		end()
		if err == nil {
			t.Fatal("a damaged SIMPLEBLOB is imported")
		}
	}
	if _, err := k.Show(ctx, hsmkeys.Ref{Name: "x"}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("something was stored: %v", err)
	}
}

func TestWhatIsImportedMakesSense(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]hsmkeys.Simple{
		"RC2 without effective bits": {Blob: capi.SimpleBlob{Algorithm: capi.RC2}, Size: 16},
		"RC4 without a size":         {Blob: capi.SimpleBlob{Algorithm: capi.RC4}},
		"3DES of 16 bytes":           {Blob: capi.SimpleBlob{Algorithm: capi.TripleDES}, Size: 16},
		"a hash":                     {Blob: capi.SimpleBlob{Algorithm: capi.SHA1}, Size: 16},
		"AES with a salt":            {Blob: capi.SimpleBlob{Algorithm: capi.AES128}, Salt: []byte{1}},
		"AES to decrypt alone":       {Blob: capi.SimpleBlob{Algorithm: capi.AES128}, Purpose: keyspec.Decrypt},
		"DES to encrypt":             {Blob: capi.SimpleBlob{Algorithm: capi.DES}, Purpose: keyspec.Encrypt},
		"a check value of 4 bytes":   {Blob: capi.SimpleBlob{Algorithm: capi.DES}, CheckValue: make([]byte, 4)},
	} {
		if err := s.Check(); !errors.Is(err, hsmkeys.ErrSimple) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
