package keyfile

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
)

// A PKCS #12 file (RFC 7292 §4) decides how often the password is hashed, and the library that reads
// it has no limit. So the file is checked first.

type pkcs12File struct {
	Version  int
	AuthSafe pkcs12Content
	MAC      pkcs12MAC `asn1:"optional"`
}

type pkcs12Content struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

type pkcs12MAC struct {
	Digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

type pkcs12Encrypted struct {
	Version int
	Info    struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte `asn1:"tag:0,optional"`
	}
}

type pkcs12Bag struct {
	Type       asn1.ObjectIdentifier
	Value      asn1.RawValue   `asn1:"tag:0,explicit"`
	Attributes []asn1.RawValue `asn1:"set,optional"`
}

var (
	oidData         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncrypted    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidEncryptedKey = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidPBES2        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBMAC1       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
	oidPBKDF2       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidPKCS12PBE    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1} // and a number
)

// checkPKCS12 refuses a file that has the password hashed more often than maxIterations, for its
// MAC or for what it encrypts. The error is an errKeyMalformed or errKeyUnsupported. A wrong
// password is no error here: the MAC tells.
func checkPKCS12(der, password []byte) error {
	var file pkcs12File
	if err := unmarshalAll(der, &file); err != nil {
		return err
	}
	if err := file.MAC.check(); err != nil {
		return err
	}
	var safe []byte
	if err := unmarshalAll(file.AuthSafe.Content.Bytes, &safe); err != nil {
		return err
	}
	var contents []pkcs12Content
	if err := unmarshalAll(safe, &contents); err != nil {
		return err
	}
	for _, content := range contents {
		if err := checkContent(content, password); err != nil {
			return err
		}
	}
	return nil
}

func (m pkcs12MAC) check() error {
	switch {
	case len(m.Digest.Algorithm.Algorithm) == 0: // there is none
		return nil
	case !m.Digest.Algorithm.Algorithm.Equal(oidPBMAC1):
		return checkIterations(m.Iterations)
	}
	var in struct{ KDF, MAC pkix.AlgorithmIdentifier }
	if err := unmarshalAll(m.Digest.Algorithm.Parameters.FullBytes, &in); err != nil {
		return err
	}
	return checkKDF(in.KDF)
}

func checkContent(content pkcs12Content, password []byte) error {
	switch {
	case content.Type.Equal(oidData):
		var bags []byte
		if err := unmarshalAll(content.Content.Bytes, &bags); err != nil {
			return err
		}
		return checkBags(bags)
	case content.Type.Equal(oidEncrypted):
		var in pkcs12Encrypted
		if err := unmarshalAll(content.Content.Bytes, &in); err != nil {
			return err
		}
		if err := checkScheme(in.Info.Algorithm); err != nil {
			return err
		}
		scheme, ok := passwordSchemes[in.Info.Algorithm.Algorithm.String()]
		if !ok { // RC2, which encrypts certificates in older files
			return nil
		}
		bags, err := scheme(in.Info.Algorithm.Parameters, in.Info.Data, password)
		defer clear(bags)
		if err == nil {
			err = checkBags(bags)
		}
		// About one wrong password in 256 decrypts to something, which is not DER.
		if errors.Is(err, errKeyPassword) || errors.Is(err, errKeyMalformed) {
			return nil
		}
		return err
	}
	return nil
}

func checkBags(bags []byte) error {
	if len(bags) == 0 {
		return nil
	}
	var all []pkcs12Bag
	if err := unmarshalAll(bags, &all); err != nil {
		return err
	}
	for _, bag := range all {
		if !bag.Type.Equal(oidEncryptedKey) {
			continue
		}
		var key struct {
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte
		}
		if err := unmarshalAll(bag.Value.Bytes, &key); err != nil {
			return err
		}
		if err := checkScheme(key.Algorithm); err != nil {
			return err
		}
	}
	return nil
}

// checkScheme checks how often a scheme of PKCS #5 or PKCS #12 hashes. The library knows no others.
func checkScheme(algorithm pkix.AlgorithmIdentifier) error {
	if algorithm.Algorithm.Equal(oidPBES2) {
		var in struct{ KDF, Cipher pkix.AlgorithmIdentifier }
		if err := unmarshalAll(algorithm.Parameters.FullBytes, &in); err != nil {
			return err
		}
		return checkKDF(in.KDF)
	}
	if n := len(oidPKCS12PBE); len(algorithm.Algorithm) <= n || !algorithm.Algorithm[:n].Equal(oidPKCS12PBE) {
		return nil
	}
	_, _, err := saltAndIterations(algorithm.Parameters)
	return err
}

func checkKDF(kdf pkix.AlgorithmIdentifier) error {
	if !kdf.Algorithm.Equal(oidPBKDF2) {
		return fmt.Errorf("key derivation with %v is %w", kdf.Algorithm, errKeyUnsupported)
	}
	var in struct {
		Salt       []byte
		Iterations int
		Size       int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	if err := unmarshalAll(kdf.Parameters.FullBytes, &in); err != nil {
		return err
	}
	return checkIterations(in.Iterations)
}
