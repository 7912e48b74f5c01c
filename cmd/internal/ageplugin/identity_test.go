package ageplugin

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age/plugin"
	"golang.org/x/crypto/cryptobyte"
	"pgregory.net/rapid"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// compressedPoint is the tag of a P-256 pair.
func compressedPoint(t testing.TB) []byte {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point := key.PublicKey().Bytes()
	return append([]byte{2 + point[64]&1}, point[1:33]...)
}

func TestIdentitiesComeBack(t *testing.T) {
	point := compressedPoint(t)
	rapid.Check(t, func(t *rapid.T) {
		i := Identity{
			Module: rapid.StringMatching(`(/[A-Za-z0-9 ._ü-]{1,20}){0,4}`).Draw(t, "module"),
			Token:  rapid.SampledFrom([]string{"", "office", "Büro 1", "pkcs11:token=office;object=hsmkeys", "pkcs11:serial=1f?module-name=softhsm2"}).Draw(t, "token"),
			Key:    rapid.StringMatching(`([a-z0-9_-]{1,40}(/[a-z0-9_-]{1,40})?)?`).Draw(t, "key"),
		}
		if store := rapid.StringMatching(`(/[A-Za-z0-9 _-]{1,20}){0,4}`).Draw(t, "store"); store != "" {
			i.Store = filepath.Clean(store)
		}
		if i.Key == "" {
			i.Pair = rapid.SampledFrom([]hsmkeys.PairTag{nil, bytes.Repeat([]byte{7}, 20), point}).Draw(t, "pair")
		}
		line, err := i.Encode()
		if err != nil {
			t.Fatal(err)
		}
		name, data, err := plugin.ParseIdentity(line)
		if err != nil || name != hsmkeys.PluginName {
			t.Fatal(line, err)
		}
		got, err := Decode(data)
		if err != nil || got.Module != i.Module || got.Token != i.Token || got.Store != i.Store || got.Key != i.Key || !bytes.Equal(got.Pair, i.Pair) {
			t.Errorf("%+v comes back as %+v, %v", i, got, err)
		}
	})
}

// What we do not write we do not read.
func TestIdentitiesThatAreRefused(t *testing.T) {
	good := Identity{Module: "/m.so", Token: "office", Store: "/store"}
	for _, tt := range []struct {
		name string
		edit func(*Identity)
		says string
	}{
		{"a PIN", func(i *Identity) { i.Token = "pkcs11:token=office?pin-value=1234" }, "what the PIN is or where it comes from"},
		{"a command for a PIN", func(i *Identity) { i.Token = "pkcs11:token=office?pin-source=|reboot" }, "what the PIN is or where it comes from"},
		{"a file with a PIN", func(i *Identity) { i.Token = "pkcs11:token=office?pin-source=/pin" }, "what the PIN is or where it comes from"},
		{"a URI that is none", func(i *Identity) { i.Token = "pkcs11:bogus=1" }, "not supported"},
		{"a relative store", func(i *Identity) { i.Store = "store" }, "not an absolute path"},
		{"a store that climbs", func(i *Identity) { i.Store = "/a/../store" }, "not an absolute path"},
		{"a store with a NUL", func(i *Identity) { i.Store = "/st\x00re" }, "no text"},
		{"a relative module", func(i *Identity) { i.Module = "mods/p11.so" }, "not an absolute path"},
		{"a module for the loader to find", func(i *Identity) { i.Module = "p11.so" }, "not an absolute path"},
		{"a relative module in the URI", func(i *Identity) { i.Token = "pkcs11:token=office?module-path=p11.so" }, "must be absolute"},
		{"a module with an escape sequence", func(i *Identity) { i.Module = "/m\x1b[2J.so" }, "no text"},
		{"a token that is not UTF-8", func(i *Identity) { i.Token = "\xff" }, "no text"},
		{"a long module", func(i *Identity) { i.Module = "/" + strings.Repeat("m", maxPath) }, "longer than 4096"},
		{"a long token", func(i *Identity) { i.Token = strings.Repeat("t", maxTokenName+1) }, "longer than 1024"},
		{"a key that has no name", func(i *Identity) { i.Key = "../payroll" }, "valid name"},
		{"a version of a key", func(i *Identity) { i.Key = "payroll@1" }, "valid name"},
		{"a tag of another size", func(i *Identity) { i.Pair = make([]byte, 21) }, "pair"},
		{"a point that is off the curve", func(i *Identity) { i.Pair = make([]byte, 33) }, "pair"},
		{"a key and a pair", func(i *Identity) { i.Key, i.Pair = "payroll", make([]byte, 20) }, "pair"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := good
			tt.edit(&i)
			data, err := i.marshal()
			if err != nil {
				t.Fatal(err)
			}
			_, err = Decode(data)
			if !errors.Is(err, errIdentity) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("read: %v", err)
			}
			if strings.Contains(err.Error(), "1234") || text.Line(err.Error()) != err.Error() {
				t.Errorf("it says %q", err)
			}
			if _, err := i.Encode(); !errors.Is(err, errIdentity) {
				t.Errorf("written: %v", err)
			}
		})
	}
	whole, err := good.marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{{0}, {2}, whole[:1], whole[:len(whole)-1], append(bytes.Clone(whole), 0)} {
		if _, err := Decode(data); !errors.Is(err, errIdentity) {
			t.Errorf("%x: %v", data, err)
		}
	}
	if i, err := Decode(nil); err != nil || i.Module+i.Token+i.Store != "" {
		t.Errorf("that of age -j: %+v, %v", i, err)
	}
}

// FuzzDecodeIdentity: what is read has one encoding and can be used.
func FuzzDecodeIdentity(f *testing.F) {
	for _, i := range []Identity{{}, {Module: "/m.so", Token: "office", Store: "/store", Key: "payroll"}, {Pair: make([]byte, 20)}} {
		data, err := i.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := Decode(data)
		if err != nil {
			if !errors.Is(err, errIdentity) {
				t.Error(err)
			}
			return
		}
		if len(data) == 0 {
			return // of age -j, which we do not write
		}
		if again, err := i.marshal(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%x is written again as %x, %v", data, again, err)
		}
		if _, err := i.Encode(); err != nil {
			t.Error(err)
		}
		if s := cryptobyte.String(data); len(s) > 1+5*2+2*maxPath+maxTokenName+128+33 {
			t.Errorf("%d bytes", len(s))
		}
	})
}
