package blob

import (
	"bytes"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// algorithmIdentifiers has the AlgorithmIdentifier of each algorithm, DER. Those of AES key
// wrap have no parameters (RFC 3565 §2.3.2), those of HMAC have NULL (RFC 8018 B.1.2). Those of
// the legacy ciphers would have an initialization vector, and no content is encrypted here.
var algorithmIdentifiers = [...][]byte{
	keyspec.AES128:     algorithmIdentifier(oidAES128Wrap),
	keyspec.AES192:     algorithmIdentifier(oidAES192Wrap),
	keyspec.AES256:     algorithmIdentifier(oidAES256Wrap),
	keyspec.HMACSHA256: algorithmIdentifier(oidHMACSHA256, derNULL),
	keyspec.HMACSHA384: algorithmIdentifier(oidHMACSHA384, derNULL),
	keyspec.HMACSHA512: algorithmIdentifier(oidHMACSHA512, derNULL),
	keyspec.RC2:        algorithmIdentifier(oidRC2CBC),
	keyspec.RC4:        algorithmIdentifier(oidRC4, derNULL),
	keyspec.DES:        algorithmIdentifier(oidDESCBC),
	keyspec.TripleDES:  algorithmIdentifier(oidDESEDE3CBC),
}

func algorithmFor(identifier []byte) (keyspec.Algorithm, bool) {
	for a := keyspec.AES128; a.Valid(); a++ {
		if bytes.Equal(algorithmIdentifiers[a], identifier) {
			return a, true
		}
	}
	return 0, false
}
