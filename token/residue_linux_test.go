package token

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	josecipher "github.com/go-jose/go-jose/v4/cipher"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// A search for what is left of a session key in the memory of a process that has used it: a child
// opens a key that it has never had before, and the test reads /proc/PID/mem.

const residueVariable = "HSMKEYS_TEST_RESIDUE"

type residueJob struct {
	Module    string
	Serial    string
	MaskedPIN []byte
	Spec      keyspec.Key
	Hash      crypto.Hash
	Ephemeral []byte // on P-256; nil for RSA
	Key       []byte
}

// masked hides a PIN from a search for it, and uncovers it.
func masked(pin []byte) []byte { return xored(pin, 0x55) }

func xored(data []byte, with byte) []byte {
	out := make([]byte, len(data))
	for i, b := range data {
		out[i] = b ^ with
	}
	return out
}

// residueMain is the child: it opens the key, uses it, and closes it, when it is told to.
func residueMain(arg string) int {
	steps := bufio.NewReader(os.Stdin)
	next := func(done string) {
		fmt.Println(done)
		steps.ReadString('\n')
	}
	if err := residue([]byte(arg), next); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func residue(arg []byte, next func(string)) error {
	var job residueJob
	if err := json.Unmarshal(arg, &job); err != nil {
		return err
	}
	ctx := context.Background()
	t, err := Open(ctx, Config{Module: job.Module, Token: Selector{Serial: job.Serial}, PIN: func(context.Context, Info) ([]byte, error) { return masked(job.MaskedPIN), nil }})
	if err != nil {
		return err
	}
	defer t.Close()
	p, err := t.KeyPair(ctx, PairName{Label: "pair"})
	if err != nil {
		return err
	}
	var wrapped keyspec.Wrapped = &keyspec.KeyTransport{OAEPHash: job.Hash, EncryptedKey: job.Key}
	if job.Ephemeral != nil {
		ephemeral, err := ecdh.P256().NewPublicKey(job.Ephemeral)
		if err != nil {
			return err
		}
		wrapped = &keyspec.KeyAgreement{Ephemeral: ephemeral, EncryptedKey: job.Key}
	}
	// As create, rotate and rewrap use a key.
	transit, err := p.UnwrapTransit(ctx, of(job.Spec, wrapped))
	if err != nil {
		return err
	}
	if _, err := transit.CheckValue(ctx); err != nil {
		return err
	}
	if _, err := transit.Confirmation(ctx); err != nil {
		return err
	}
	if _, err := transit.Wrap(ctx, p.Public(), crypto.SHA1); err != nil {
		return err
	}
	if err := transit.Close(); err != nil {
		return err
	}
	// As encrypt and decrypt do.
	key, err := p.Unwrap(ctx, of(job.Spec, wrapped))
	if err != nil {
		return err
	}
	if key.Residence() != keyspec.InMemory {
		return fmt.Errorf("the key lives in %s", key.Residence())
	}
	if job.Spec.Purpose == keyspec.Authenticate {
		if _, err := key.MAC(ctx, []byte("message")); err != nil {
			return err
		}
	} else {
		data, err := key.WrapData(ctx, []byte("a file key of 16"))
		if err != nil {
			return err
		}
		if _, err := key.UnwrapData(ctx, data); err != nil {
			return err
		}
	}
	next("open")
	if err := key.Close(); err != nil {
		return err
	}
	next("closed")
	return nil
}

// startResidue starts the child. The function that it returns waits until the child has reached a
// step, and returns how often each needle is in its memory.
func startResidue(t *testing.T, job residueJob) (at func(step string, needles ...[]byte) []int) {
	t.Helper()
	arg, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), residueVariable+"="+string(arg))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child: %v", err)
		}
	})
	lines := bufio.NewReader(out)
	first := true
	return func(step string, needles ...[]byte) []int {
		t.Helper()
		if !first {
			if _, err := io.WriteString(in, "\n"); err != nil {
				t.Fatal(err)
			}
		}
		first = false
		if line, err := lines.ReadString('\n'); strings.TrimSpace(line) != step {
			t.Fatalf("%q, %v, want %q", line, err, step)
		}
		return countInMemory(t, cmd.Process.Pid, needles)
	}
}

// countInMemory searches the writable memory of a process: heap, stacks and data, of Go and of C.
func countInMemory(t *testing.T, pid int, needles [][]byte) []int {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	counts := make([]int, len(needles))
	read := 0
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(mode, "rw") || to-from > 4<<30 { // the race detector's shadow has no data
			continue
		}
		region := make([]byte, to-from)
		n, err := mem.ReadAt(region, int64(from))
		if err != nil && n == 0 {
			continue // [vvar] and such
		}
		read += n
		for i, needle := range needles {
			found := bytes.Count(region[:n], needle)
			if counts[i] += found; found > 0 {
				t.Logf("piece %d: %d in %s", i, found, strings.TrimSpace(line)) // shown if the test fails
			}
		}
	}
	if read < 1<<20 {
		t.Fatalf("%d bytes of memory read", read)
	}
	return counts
}

// eighths cuts a secret into pieces of 8 bytes, which is how AES key wrap handles it.
func eighths(secret []byte) (pieces [][]byte) {
	for ; len(secret) >= 8; secret = secret[8:] {
		pieces = append(pieces, secret[:8])
	}
	return pieces
}

func TestNothingIsLeftOfAKeyInMemory(t *testing.T) {
	st := newToken(t)
	tok := open(t, st)
	ec, err := tok.GenerateKeyPair(background, "pair", P256)
	if err != nil {
		t.Fatal(err)
	}
	job := func(spec keyspec.Key, wrapped keyspec.Wrapped) residueJob {
		j := residueJob{Module: env.Module(), Serial: st.Serial, MaskedPIN: masked([]byte(st.PIN)), Spec: spec, Key: encryptedKey(wrapped)}
		switch wrapped := wrapped.(type) {
		case *keyspec.KeyTransport:
			j.Hash = wrapped.OAEPHash
		case *keyspec.KeyAgreement:
			j.Ephemeral = wrapped.Ephemeral.Bytes()
		}
		return j
	}
	for _, spec := range []keyspec.Key{wraps(16), wraps(32), authenticates(32)} {
		t.Run(fmt.Sprint("P-256", spec), func(t *testing.T) {
			value := make([]byte, spec.Size)
			rand.Read(value)
			ephemeral, secret, err := memkey.Agree(ec.Public().(*ecdsa.PublicKey))
			if err != nil {
				t.Fatal(err)
			}
			kek, err := memkey.DeriveKEK(ecdh.P256(), secret)
			if err != nil {
				t.Fatal(err)
			}
			block, err := aes.NewCipher(kek)
			if err != nil {
				t.Fatal(err)
			}
			wrapped, err := josecipher.KeyWrap(block, value)
			if err != nil {
				t.Fatal(err)
			}
			at := startResidue(t, job(spec, &keyspec.KeyAgreement{Ephemeral: ephemeral, EncryptedKey: wrapped}))
			needles := slices.Concat(eighths(value), eighths(kek), eighths(secret), eighths(xored(value, 0x36)), eighths(xored(value, 0x5c)))
			for i, n := range at("open", needles...) {
				if n != 1 && i < spec.Size/8 {
					t.Errorf("in use, piece %d of the session key is there %d times, want once, in its locked page", i, n)
				}
			}
			for i, n := range at("closed", needles...) {
				if n != 0 {
					t.Errorf("closed, piece %d is there %d times: the first %d are the session key's, then 4 each of the key-encryption key and the secret agreed on, then the key's as HMAC pads it", i, n, spec.Size/8)
				}
			}
		})
	}
	rsaToken, inToken := newPair(t)
	p := forbid(t, openRaw(t, rsaToken), inToken, 0x107)
	st = rsaToken
	t.Run("RSA", func(t *testing.T) {
		spec := wraps(32)
		value := make([]byte, spec.Size)
		rand.Read(value)
		wrapped, err := memkey.WrapRSA(p.Public().(*rsa.PublicKey), crypto.SHA1, value)
		if err != nil {
			t.Fatal(err)
		}
		at := startResidue(t, job(spec, wrapped))
		for i, n := range at("open", eighths(value)...) {
			if n != 1 {
				t.Errorf("in use, piece %d is there %d times, want once, in its locked page", i, n)
			}
		}
		for i, n := range at("closed", append(eighths(value), []byte(st.PIN))...) {
			if n != 0 {
				t.Errorf("closed, piece %d is there %d times; the last one is the PIN", i, n)
			}
		}
	})
}
