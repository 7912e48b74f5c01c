package memkey

import (
	"bytes"
	"testing"
	"unsafe"
)

func TestSecretIsOverwritten(t *testing.T) {
	value := []byte("thirty-two bytes that are secret")
	s, err := newSecret(value)
	if err != nil {
		t.Fatal(err)
	}
	if string(s.pages) != "thirty-two bytes that are secret" || !bytes.Equal(value, make([]byte, 32)) {
		t.Error("the value should have moved")
	}
	if uintptr(unsafe.Pointer(&s.pages[0]))%4096 != 0 {
		t.Error("it has no pages of its own")
	}
}
