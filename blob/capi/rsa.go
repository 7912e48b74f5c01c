package capi

import (
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"
)

// RSAPUBKEY.magic.
const (
	magicPublic  = 0x31415352 // "RSA1"
	magicPrivate = 0x32415352 // "RSA2"
)

// ParsePublicKeyBlob reads a PUBLICKEYBLOB with an RSA key of 512 to 16384 bits, for
// exchange or signatures. The error is an [ErrMalformed] or an [errors.ErrUnsupported].
func ParsePublicKeyBlob(data []byte) (*rsa.PublicKey, error) {
	r, key, _ := parseRSA(data, publicKeyBlob, magicPublic)
	if err := r.end(); err != nil {
		return nil, err
	}
	return key, nil
}

// MarshalPublicKeyBlob returns the PUBLICKEYBLOB of a key exchange key.
func MarshalPublicKeyBlob(key *rsa.PublicKey) ([]byte, error) {
	size := key.N.BitLen() / 8
	if key.N.BitLen()%8 != 0 || size < minModulus || size > maxModulus || key.E < 2 || int64(key.E) > 1<<32-1 {
		return nil, fmt.Errorf("%w: an RSA key of %d bits with the exponent %d", errUnsupported, key.N.BitLen(), key.E)
	}
	return append(rsaHeader(publicKeyBlob, magicPublic, key), little(key.N, size)...), nil
}

// ParsePrivateKeyBlob reads a PRIVATEKEYBLOB that is not encrypted, with an RSA key of 512 to 16384
// bits, and checks all its numbers against each other. Some programs leave out the private
// exponent, as zeros or by ending the BLOB before it: it is computed from the primes then. The
// error is an [ErrMalformed] or an [errors.ErrUnsupported], and contains nothing of the key.
func ParsePrivateKeyBlob(data []byte) (*rsa.PrivateKey, error) {
	r, public, size := parseRSA(data, privateKeyBlob, magicPrivate)
	half := size / 2
	if r.err == nil && size%2 != 0 {
		r.fail(errUnsupported, "a modulus of an odd number of bytes, %d", size)
	}
	number := func(field string, n int) *big.Int { return new(big.Int).SetBytes(reversed(r.take(field, n))) }
	p, q := number("prime1", half), number("prime2", half)
	dp, dq, inverse := number("exponent1", half), number("exponent2", half), number("coefficient", half)
	key := &rsa.PrivateKey{PublicKey: *public, D: new(big.Int), Primes: []*big.Int{p, q}}
	if r.err == nil && len(r.in) > 0 {
		key.D = number("privateExponent", size)
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	one := big.NewInt(1)
	if p.Cmp(one) <= 0 || q.Cmp(one) <= 0 || new(big.Int).Mul(p, q).Cmp(public.N) != 0 {
		return nil, fmt.Errorf("%w: the modulus is not the product of the primes", ErrMalformed)
	}
	if key.D.Sign() == 0 {
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		if key.D.ModInverse(big.NewInt(int64(public.E)), phi) == nil {
			return nil, fmt.Errorf("%w: the public exponent has no inverse", ErrMalformed)
		}
	}
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("%w: the numbers of the private key do not fit each other", ErrMalformed)
	}
	key.Precompute()
	if dp.Cmp(key.Precomputed.Dp) != 0 || dq.Cmp(key.Precomputed.Dq) != 0 || inverse.Cmp(key.Precomputed.Qinv) != 0 {
		return nil, fmt.Errorf("%w: exponent1, exponent2 or coefficient do not fit the key", ErrMalformed)
	}
	return key, nil
}

// MarshalPrivateKeyBlob returns the PRIVATEKEYBLOB of a key exchange key with two primes of the
// same length. The caller must overwrite it.
func MarshalPrivateKeyBlob(key *rsa.PrivateKey) ([]byte, error) {
	size := key.N.BitLen() / 8
	if _, err := MarshalPublicKeyBlob(&key.PublicKey); err != nil {
		return nil, err
	}
	if len(key.Primes) != 2 || size%2 != 0 || key.Primes[0].BitLen() > size*4 || key.Primes[1].BitLen() > size*4 || key.D.BitLen() > size*8 {
		return nil, fmt.Errorf("%w: an RSA key whose primes are not two of half its length", errUnsupported)
	}
	key.Precompute()
	out := append(rsaHeader(privateKeyBlob, magicPrivate, &key.PublicKey), little(key.N, size)...)
	for _, n := range []*big.Int{key.Primes[0], key.Primes[1], key.Precomputed.Dp, key.Precomputed.Dq, key.Precomputed.Qinv} {
		out = append(out, little(n, size/2)...)
	}
	return append(out, little(key.D, size)...), nil
}

// parseRSA reads PUBLICKEYSTRUC, RSAPUBKEY and the modulus, and returns the size of the modulus in
// bytes.
func parseRSA(data []byte, kind blobType, magic uint32) (r *reader, key *rsa.PublicKey, size int) {
	r, algorithm := parse(data, kind)
	if r.err == nil && algorithm != RSAKeyX && algorithm != RSASign {
		r.fail(errUnsupported, "PUBLICKEYSTRUC.aiKeyAlg is %v, not %v or %v", algorithm, RSAKeyX, RSASign)
	}
	if got := r.uint32("RSAPUBKEY.magic"); got != magic {
		r.fail(ErrMalformed, "RSAPUBKEY.magic is 0x%08x, not 0x%08x", got, magic)
	}
	bits := r.uint32("RSAPUBKEY.bitlen")
	if r.err == nil && (bits%8 != 0 || bits < minModulus*8 || bits > maxModulus*8) {
		r.fail(errUnsupported, "RSAPUBKEY.bitlen is %d, not a multiple of 8 from %d to %d", bits, minModulus*8, maxModulus*8)
	}
	exponent := r.uint32("RSAPUBKEY.pubexp")
	if r.err == nil && (exponent < 3 || exponent%2 == 0 || exponent > 1<<31-1) {
		r.fail(errUnsupported, "RSAPUBKEY.pubexp is %d", exponent)
	}
	if r.err == nil {
		size = int(bits / 8)
	}
	key = &rsa.PublicKey{N: new(big.Int).SetBytes(reversed(r.take("modulus", size))), E: int(exponent)}
	if r.err == nil && (key.N.BitLen() != size*8 || key.N.Bit(0) == 0) {
		r.fail(ErrMalformed, "RSAPUBKEY.bitlen is %d, and the modulus is no odd number of that length", bits)
	}
	return r, key, size
}

func rsaHeader(kind blobType, magic uint32, key *rsa.PublicKey) []byte {
	out := binary.LittleEndian.AppendUint32(header(kind, RSAKeyX), magic)
	out = binary.LittleEndian.AppendUint32(out, uint32(key.N.BitLen()))
	return binary.LittleEndian.AppendUint32(out, uint32(key.E))
}

// little returns n in size bytes, the lowest first.
func little(n *big.Int, size int) []byte { return reversed(n.FillBytes(make([]byte, size))) }
