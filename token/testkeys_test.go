package token

import (
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"testing"
)

var software = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// softwareKey returns an RSA pair that is on no token: an attacker's, or a peer's.
func softwareKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := software()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
