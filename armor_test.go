package hsmkeys_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"

	agetest "c2sp.org/CCTV/age"
	"filippo.io/age/armor"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
)

func armored(t testing.TB, file []byte) string {
	t.Helper()
	var out strings.Builder
	w := armor.NewWriter(&out)
	if _, err := w.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The vectors of age's own test kit.
func TestArmorOfTheTestKit(t *testing.T) {
	vectors, err := fs.Glob(agetest.Vectors, "armor_*")
	if err != nil || len(vectors) < 30 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for _, name := range vectors {
		t.Run(name, func(t *testing.T) {
			vector, err := fs.ReadFile(agetest.Vectors, name)
			if err != nil {
				t.Fatal(err)
			}
			about, file, ok := bytes.Cut(vector, []byte("\n\n"))
			if !ok {
				t.Fatal("it is no vector")
			}
			if bytes.Contains(about, []byte("compressed: zlib")) {
				if file, err = inflate(file); err != nil {
					t.Fatal(err)
				}
			}
			got, err := io.ReadAll(hsmkeys.Dearmor(bytes.NewReader(file)))
			if bytes.Contains(about, []byte("expect: armor failure")) {
				// What does not start like armor is left for age to refuse.
				if !errors.Is(err, blob.ErrIntegrity) && (hsmkeys.Armored(file) || !bytes.Equal(got, file)) {
					t.Errorf("%v, %d bytes", err, len(got))
				}
				return
			}
			want, _ := pem.Decode(file)
			if err != nil || want == nil || !bytes.Equal(got, want.Bytes) {
				t.Errorf("%v, %d bytes", err, len(got))
			}
		})
	}
}

func inflate(data []byte) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestArmoredFiles(t *testing.T) {
	k, _, _ := found(t)
	create(t, k, "payroll")
	plain := []byte(strings.Repeat("The salaries of March.\n", 5000)) // two chunks of age's
	file := encrypt(t, k, "payroll", plain)
	text := armored(t, file)
	open := func(src io.Reader) ([]byte, error) {
		r, err := k.Decrypt(context.Background(), hsmkeys.Dearmor(src))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	blanks := strings.Repeat(" ", 1000)
	for name, in := range map[string]string{
		"binary": string(file), "armor": text,
		"lines end in CRLF":       strings.ReplaceAll(text, "\n", "\r\n"),
		"no end of the last line": strings.TrimSuffix(text, "\n"),
		"blanks and blank lines":  "\n \t\r\n\n" + text + "\r\n  \n\t",
		"blanks before the armor": "  " + text,
		"many blanks":             blanks + "\n" + text + blanks,
	} {
		for how, src := range map[string]io.Reader{"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in))} {
			if got, err := open(src); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %s: %v, %d bytes", name, how, err, len(got))
			}
		}
	}
	middle := len(text) / 2
	for name, in := range map[string]string{
		"too much before it":    blanks + "\n" + blanks + text,
		"too much behind it":    text + blanks + "\n" + blanks,
		"something behind it":   text + "more",
		"a word before it":      "see: " + text,
		"cut":                   text[:middle],
		"no footer":             text[:strings.Index(text, "-----END")],
		"a header alone":        armor.Header,
		"a character is none":   text[:middle] + "!" + text[middle+1:],
		"another character":     text[:middle] + "\x00" + text[middle+1:],
		"a blank line inside":   strings.Replace(text, "\n", "\n\n", 1),
		"blanks before binary":  " " + string(file),
		"armor of another tool": strings.ReplaceAll(text, "AGE ENCRYPTED FILE", "PGP MESSAGE"),
		"nothing":               "", "blanks alone": blanks,
		"a line without end": armor.Header + "\n" + strings.Repeat("A", 1<<20),
	} {
		if got, err := open(strings.NewReader(in)); !errors.Is(err, blob.ErrIntegrity) || !bytes.HasPrefix(plain, got) || !strings.HasPrefix(err.Error(), "not an intact age file: ") {
			t.Errorf("%s: %v, %d bytes", name, err, len(got))
		}
	}
	for _, whole := range []int{0, 5, 20, 60, middle} {
		if _, err := open(io.MultiReader(strings.NewReader(text[:whole]), iotest.ErrReader(errDisk))); !errors.Is(err, errDisk) || errors.Is(err, blob.ErrIntegrity) {
			t.Errorf("a disk that fails after %d bytes: %v", whole, err)
		}
	}
}

// A pipe may hold a line that never ends.
func TestALineOfArmorIsBounded(t *testing.T) {
	for name, start := range map[string]string{"first": armor.Header + "\n", "footer": armor.Header + "\nAA==\n"} {
		src := &countingReader{src: io.MultiReader(strings.NewReader(start), endless{})}
		if _, err := io.Copy(io.Discard, hsmkeys.Dearmor(src)); !errors.Is(err, blob.ErrIntegrity) || src.n > 64<<10 {
			t.Errorf("%s: %v after %d bytes", name, err, src.n)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}

type countingReader struct {
	src io.Reader
	n   int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	c.n += n
	return n, err
}

func FuzzDearmor(f *testing.F) {
	text := armored(f, []byte("age-encryption.org/v1\n"+strings.Repeat("x", 100)))
	for _, seed := range []string{"", " ", "-", text, "\r\n" + text, strings.ReplaceAll(text, "\n", "\r\n"), text[:50], text + "x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := io.ReadAll(hsmkeys.Dearmor(bytes.NewReader(file)))
		if !hsmkeys.Armored(file) {
			if err != nil || !bytes.Equal(got, file) {
				t.Errorf("no armor: %v", err)
			}
			return
		}
		if err != nil {
			if !errors.Is(err, blob.ErrIntegrity) {
				t.Error(err)
			}
			return
		}
		// Strict: there is one armor of what comes out, but for line ends and white space around it.
		if want := strings.ReplaceAll(strings.TrimSpace(string(file)), "\r\n", "\n"); want != strings.TrimSpace(armored(t, got)) {
			t.Errorf("%q gives %q", file, got)
		}
	})
}
