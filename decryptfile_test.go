package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

// failingAt is a file whose disk fails behind a place.
type failingAt struct {
	*bytes.Reader
	from int64
}

var errDisk = errors.New("the disk fails")

func (f failingAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from && off < f.Size()-100_000 { // not at the end, which is read first
		return 0, errDisk
	}
	return f.Reader.ReadAt(p, off)
}

func TestAFileIsDecryptedInPieces(t *testing.T) {
	k, _, _ := found(t)
	ctx := context.Background()
	create(t, k, "payroll")
	for _, size := range []int{0, 1, 64 << 10, 1 << 20, 1<<20 + 1, 5<<20 - 1} {
		plain := make([]byte, size)
		_, _ = rand.Read(plain)
		file := encrypt(t, k, "payroll", plain)
		var out bytes.Buffer
		if err := k.DecryptFile(ctx, &out, bytes.NewReader(file), int64(len(file))); err != nil || !bytes.Equal(out.Bytes(), plain) {
			t.Errorf("%d bytes: %d came back, %v", size, out.Len(), err)
		}
		out.Reset()
		if err := k.DecryptFile(ctx, &out, bytes.NewReader(file[:len(file)-1]), int64(len(file)-1)); !errors.Is(err, blob.ErrIntegrity) || out.Len() > 0 {
			t.Errorf("%d bytes, cut: %v, %d came back", size, err, out.Len())
		}
	}
	plain := bytes.Repeat([]byte("0123456789abcdef"), 4<<16)
	file := encrypt(t, k, "payroll", plain)
	damaged := bytes.Clone(file)
	damaged[len(file)/2] ^= 1
	var out bytes.Buffer
	if err := k.DecryptFile(ctx, &out, bytes.NewReader(damaged), int64(len(file))); !errors.Is(err, blob.ErrIntegrity) || out.Len() == 0 || !bytes.HasPrefix(plain, out.Bytes()) {
		t.Errorf("damaged: %v, %d came back", err, out.Len())
	}
	out.Reset()
	if err := k.DecryptFile(ctx, &out, failingAt{bytes.NewReader(file), 2 << 20}, int64(len(file))); !errors.Is(err, errDisk) || errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("a disk that fails: %v", err)
	}
	ended, end := context.WithCancel(ctx)
	if err := k.DecryptFile(ended, writeThen{&out, end}, bytes.NewReader(file), int64(len(file))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := k.DecryptFile(ctx, writeThen{io.Discard, nil}, bytes.NewReader(file), int64(len(file))); !errors.Is(err, errDisk) {
		t.Errorf("a full disk: %v", err)
	}
}

// writeThen calls a function after each write, or fails without one.
type writeThen struct {
	io.Writer
	then func()
}

func (w writeThen) Write(p []byte) (int, error) {
	if w.then == nil {
		return 0, errDisk
	}
	defer w.then()
	return w.Writer.Write(p)
}
