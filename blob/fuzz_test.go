package blob

import (
	"bytes"
	"io/fs"
	"path"
	"strings"
	"testing"
)

// FuzzParse: no bytes make the parser panic; what is refused is an
// ErrIntegrity; what is parsed has no second encoding; and under the examples'
// keys nothing verifies but the examples.
func FuzzParse(f *testing.F) {
	var trusted []Party
	known := make(map[string]bool)
	names := []string{"recovered", "legacy", "derived"}
	for _, s := range signers {
		names = append(names, s.name)
	}
	for _, name := range names {
		der, signer := readExample(f, name)
		trusted = append(trusted, Party{Key: signer})
		known[string(der)] = true
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// The bytes may also be what a signer says: past the signature.
		if d, err := parseDescriptor(data); err == nil {
			sameBytes(t, data, d.marshal)
		} else if !isIntegrity(err) {
			t.Errorf("descriptor: %v", err)
		}
		if c, err := parseContent(data); err == nil {
			sameBytes(t, data, c.marshal)
		} else if !isIntegrity(err) {
			t.Errorf("content: %v", err)
		}
		if c, err := parseDerived(data); err == nil {
			sameBytes(t, data, c.marshalDerived)
		} else if !isIntegrity(err) {
			t.Errorf("derivation record: %v", err)
		}
		u, err := Parse(data)
		if err != nil {
			if !isIntegrity(err) {
				t.Error(err)
			}
			return
		}
		sameBytes(t, data, u.signed.marshal)
		b, err := u.Verify(trusted, payroll().Place())
		switch {
		case err == nil && !known[string(data)]:
			t.Errorf("a forgery verifies: %x", data)
		case err == nil && !bytes.Equal(b.Bytes(), data):
			t.Error("a blob of other bytes")
		case err != nil && !isIntegrity(err):
			t.Error(err)
		}
	})
}

// FuzzParseMembers is FuzzParse for lists of members, which nobody signs.
func FuzzParseMembers(f *testing.F) {
	for _, name := range []string{"members", "recovered-members", "signing-members"} {
		f.Add(readFile(f, example(name+".der")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseMembers(data)
		if err != nil {
			if !isIntegrity(err) || l.Members != nil {
				t.Errorf("%d members, %v", len(l.Members), err)
			}
			return
		}
		sameBytes(t, data, func() ([]byte, error) { return MarshalMembers(l) })
	})
}

// FuzzParseCheckpoint is FuzzParse for checkpoints.
func FuzzParseCheckpoint(f *testing.F) {
	example, signer := readExample(f, "checkpoint")
	first, firstSigner := readExample(f, "first-checkpoint")
	f.Add(example)
	f.Add(first)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parseCheckpoint(data); err == nil {
			sameBytes(t, data, c.marshal)
		} else if !isIntegrity(err) {
			t.Errorf("checkpoint: %v", err)
		}
		u, err := ParseCheckpoint(data)
		if err != nil {
			if !isIntegrity(err) {
				t.Error(err)
			}
			return
		}
		sameBytes(t, data, u.signed.marshal)
		_, err = u.Verify([]Party{{Key: signer}, {Key: firstSigner}})
		switch {
		case err == nil && !bytes.Equal(data, example) && !bytes.Equal(data, first):
			t.Errorf("a forgery verifies: %x", data)
		case err != nil && !isIntegrity(err):
			t.Error(err)
		}
		// The digest vouches for the bytes, whatever they are.
		v, err := u.VerifyDigest(u.Digest())
		switch {
		case err == nil && !bytes.Equal(v.Bytes(), data):
			t.Error("a checkpoint of other bytes")
		case err != nil && !isIntegrity(err):
			t.Error(err)
		}
	})
}

// FuzzParseProof is FuzzParse for proofs.
func FuzzParseProof(f *testing.F) {
	example, signer := readExample(f, "proof")
	f.Add(example)
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := parseProof(data); err == nil {
			sameBytes(t, data, p.marshal)
		} else if !isIntegrity(err) {
			t.Errorf("proof: %v", err)
		}
		u, err := ParseProof(data)
		if err != nil {
			if !isIntegrity(err) {
				t.Error(err)
			}
			return
		}
		sameBytes(t, data, u.signed.marshal)
		_, err = u.Verify([]Party{{Key: signer}}, threeOpened().KeyringID)
		switch {
		case err == nil && !bytes.Equal(data, example):
			t.Errorf("a forgery verifies: %x", data)
		case err != nil && !isIntegrity(err):
			t.Error(err)
		}
	})
}

func sameBytes(t *testing.T, data []byte, marshal func() ([]byte, error)) {
	t.Helper()
	if again, err := marshal(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("%x encodes again as %x, %v", data, again, err)
	}
}

// FuzzName: a valid name stays inside its directory on any file system, and its
// paths can be read back.
func FuzzName(f *testing.F) {
	for _, name := range []string{"payroll", "a/b/c", "../a", "a//b", "a.cms", ".a", "A", "1.1", strings.Repeat("a", 129), "a\x00"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if ValidName(name) != nil {
			return
		}
		if !fs.ValidPath(name) || path.Clean(name) != name || len(name) > 128 || name != strings.ToLower(name) ||
			strings.ContainsAny(name, "\\:\x00 \n") || strings.Contains("/"+name, "/.") || strings.Contains(name+"/", ".cms/") {
			t.Errorf("%q is valid", name)
		}
		want := [32]byte{0xab, 31: 0xcd}
		got, version, revision, digest, ok := ParseKeyPath(KeyPath(name, 12, MaxNumber, want))
		if got != name || version != 12 || revision != MaxNumber || digest != want || !ok {
			t.Errorf("%q comes back as %q %d.%d.%x, %v", name, got, version, revision, digest, ok)
		}
	})
}
