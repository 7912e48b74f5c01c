package token

import (
	"slices"

	"github.com/miekg/pkcs11"
)

// Mechanisms is what the token's list of mechanisms promises, with the flags of each. The list
// does not tell everything: see [Probe].
type Mechanisms struct {
	GenerateRSA bool `json:"generate_rsa"` // CKM_RSA_PKCS_KEY_PAIR_GEN
	WrapRSA     bool `json:"wrap_rsa"`     // CKM_RSA_PKCS_OAEP with CKF_WRAP and CKF_UNWRAP
	DecryptRSA  bool `json:"decrypt_rsa"`  // CKM_RSA_PKCS_OAEP with CKF_DECRYPT
	SignPSS     bool `json:"sign_pss"`     // CKM_RSA_PKCS_PSS
	GenerateEC  bool `json:"generate_ec"`  // CKM_EC_KEY_PAIR_GEN
	DeriveECDH  bool `json:"derive_ecdh"`  // CKM_ECDH1_DERIVE
	SignECDSA   bool `json:"sign_ecdsa"`   // CKM_ECDSA
	GenerateAES bool `json:"generate_aes"` // CKM_AES_KEY_GEN
	WrapAES     bool `json:"wrap_aes"`     // CKM_AES_KEY_WRAP with CKF_WRAP and CKF_UNWRAP
}

// readMechanisms reads the list of mechanisms of the token in a slot.
func readMechanisms(ctx *pkcs11.Ctx, slot uint) (Mechanisms, error) {
	list, err := ctx.GetMechanismList(slot)
	if err != nil {
		return Mechanisms{}, err
	}
	has := func(mechanism, flags uint) bool {
		i := slices.IndexFunc(list, func(m *pkcs11.Mechanism) bool { return m.Mechanism == mechanism })
		if i < 0 {
			return false
		}
		info, e := ctx.GetMechanismInfo(slot, []*pkcs11.Mechanism{list[i]})
		if e != nil && !is(e, pkcs11.CKR_MECHANISM_INVALID) { // it is listed, and unknown all the same
			err = also(err, e)
		}
		return e == nil && info.Flags&flags == flags
	}
	can := Mechanisms{
		GenerateRSA: has(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, pkcs11.CKF_GENERATE_KEY_PAIR),
		WrapRSA:     has(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.CKF_WRAP|pkcs11.CKF_UNWRAP),
		DecryptRSA:  has(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.CKF_DECRYPT),
		SignPSS:     has(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.CKF_SIGN),
		GenerateEC:  has(pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.CKF_GENERATE_KEY_PAIR),
		DeriveECDH:  has(pkcs11.CKM_ECDH1_DERIVE, pkcs11.CKF_DERIVE),
		SignECDSA:   has(pkcs11.CKM_ECDSA, pkcs11.CKF_SIGN),
		GenerateAES: has(pkcs11.CKM_AES_KEY_GEN, pkcs11.CKF_GENERATE),
		WrapAES:     has(pkcs11.CKM_AES_KEY_WRAP, pkcs11.CKF_WRAP|pkcs11.CKF_UNWRAP),
	}
	return can, err
}
