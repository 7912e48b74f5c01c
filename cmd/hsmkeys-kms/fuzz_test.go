package main

import (
	"bytes"
	"testing"
)

func FuzzParseKeyID(f *testing.F) {
	for _, seed := range []string{
		"", "/", "//", "00112233445566778899aabbccddeeff/ffeeddccbbaa99887766554433221100/k8s@1",
		"00112233445566778899aabbccddeeff/ffeeddccbbaa99887766554433221100/a/b@18446744073709551616",
		"00112233445566778899AABBCCDDEEFF/ffeeddccbbaa99887766554433221100/k8s@01",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseKeyID(s)
		if err == nil && id.String() != s {
			t.Errorf("%q was read as %q", s, id)
		}
	})
}

// What was not sealed does not open, and what was opens to the same.
func FuzzCiphertext(f *testing.F) {
	f.Add([]byte("plaintext"), []byte{})
	f.Add(make([]byte, maxPlaintext), make([]byte, overhead))
	key, wrapped := make([]byte, dataKeySize), make([]byte, wrappedSize)
	f.Fuzz(func(t *testing.T, plaintext, forged []byte) {
		if _, sealed, err := split(forged); err == nil {
			if got, err := open(key, sealed, "id"); err == nil {
				t.Errorf("%x opened to %x", forged, got)
			}
		}
		if len(plaintext) > maxPlaintext {
			return
		}
		sealed, err := seal(key, wrapped, plaintext, "id")
		if err != nil {
			t.Fatal(err)
		}
		w, rest, err := split(sealed)
		if err != nil || !bytes.Equal(w, wrapped) {
			t.Fatalf("%x, %v", w, err)
		}
		if got, err := open(key, rest, "id"); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%x, %v", got, err)
		}
		if _, err := open(key, rest, "ie"); err == nil {
			t.Error("it opens under another key id")
		}
	})
}
