package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
)

// A Handshake is one end of the key agreement of a connection. Its purpose is not secrecy from
// others, who cannot read the socket: the library that carries messages keeps them in buffers that
// are not overwritten, in a process that runs for months. What these hold of a secret is sealed
// under a key of the connection.
type Handshake struct {
	private *ecdh.PrivateKey
	server  bool
}

// NewHandshake begins the key agreement of a client or a server.
func NewHandshake(server bool) (*Handshake, error) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	return &Handshake{private, server}, err
}

// Public returns the public key for the other end, 32 bytes (RFC 7748 §6.1).
func (h *Handshake) Public() []byte { return h.private.PublicKey().Bytes() }

// Finish completes the key agreement with the public key of the other end.
func (h *Handshake) Finish(peer []byte) (*Sealer, error) {
	public, err := ecdh.X25519().NewPublicKey(peer)
	if err != nil {
		return nil, err
	}
	shared, err := h.private.ECDH(public)
	if err != nil {
		return nil, err
	}
	defer clear(shared)
	client, server := h.Public(), peer
	if h.server {
		client, server = server, client
	}
	key, err := hkdf.Key(sha256.New, shared, append(append([]byte{}, client...), server...), "hsmkeys agent", 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	s := &Sealer{aead: aead, own: []byte("client"), other: []byte("server")}
	if h.server {
		s.own, s.other = s.other, s.own
	}
	return s, nil
}

// A Sealer encrypts the secrets that one end of a connection sends, and decrypts those of the other,
// with AES-256-GCM under a random nonce, which precedes the ciphertext (NIST SP 800-38D §8.2.2).
type Sealer struct {
	aead       cipher.AEAD
	own, other []byte // additional data
}

// Seal encrypts a secret. The caller must overwrite it.
func (s *Sealer) Seal(secret []byte) *Sealed {
	return &Sealed{Ciphertext: s.aead.Seal(nil, nil, secret, s.own)}
}

var errSealed = errors.New("a secret was not encrypted for this connection")

// Open decrypts a secret, which the caller must overwrite.
func (s *Sealer) Open(sealed *Sealed) ([]byte, error) {
	secret, err := s.aead.Open(nil, nil, sealed.GetCiphertext(), s.other)
	if err != nil {
		return nil, errSealed
	}
	return secret, nil
}
