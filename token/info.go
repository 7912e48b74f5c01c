package token

import (
	"fmt"
	"slices"
	"time"

	"github.com/miekg/pkcs11"
)

// Info is what a token tells about itself without a PIN (CK_TOKEN_INFO, PKCS #11 §3.2).
type Info struct {
	Module       string     `json:"module"`
	Slot         uint       `json:"slot"`
	Label        string     `json:"label"`
	Serial       string     `json:"serial"`
	Manufacturer string     `json:"manufacturer"`
	Model        string     `json:"model"`
	Firmware     string     `json:"firmware"`
	Initialized  bool       `json:"initialized"`
	PIN          PIN        `json:"pin"`
	Mechanisms   Mechanisms `json:"can"`
	Probe        Probe      `json:"tried,omitzero"` // by [List]

	Legacy []LegacyKey `json:"legacy,omitempty"` // by [List]

	PINPad bool `json:"pin_pad"` // CKF_PROTECTED_AUTHENTICATION_PATH: the PIN is typed there

	// Problem is why the token cannot be used: what failed, with the CKR_ name. It is empty for
	// a token that can be used. Otherwise only Module and Slot are certain to be set.
	Problem string `json:"problem,omitempty"`

	problem        error // the same
	maxSessions    uint
	minPIN, maxPIN uint // bytes
}

// PIN is the state of the user PIN, from the token's flags.
type PIN struct {
	Initialized bool `json:"initialized"`
	CountLow    bool `json:"count_low"` // a wrong PIN was entered since the last login
	FinalTry    bool `json:"final_try"` // one more wrong PIN locks it
	Locked      bool `json:"locked"`
	ToBeChanged bool `json:"to_be_changed"`
}

func (p PIN) String() string {
	switch {
	case !p.Initialized:
		return "not set"
	case p.Locked:
		return "locked"
	case p.FinalTry:
		return "one try left"
	case p.CountLow:
		return "some tries used"
	case p.ToBeChanged:
		return "must be changed"
	default:
		return "ok"
	}
}

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

// unreadable marks a token that cannot be used.
func (i *Info) unreadable(op string, err error) {
	i.Problem, i.problem = op+": "+describe(err), err
}

// readInfo reads CK_TOKEN_INFO of the token in a slot.
func readInfo(ctx *pkcs11.Ctx, module string, slot uint) (Info, error) {
	ti, err := ctx.GetTokenInfo(slot)
	// SoftHSM returns this while another process logs in and writes the token's flags.
	for try := 1; try < attachTries && is(err, pkcs11.CKR_GENERAL_ERROR); try++ {
		time.Sleep(attachPause)
		ti, err = ctx.GetTokenInfo(slot)
	}
	if err != nil {
		return Info{}, err
	}
	flag := func(f uint) bool { return ti.Flags&f != 0 }
	return Info{
		Module: module, Slot: slot, Label: unpadded(ti.Label), Serial: unpadded(ti.SerialNumber),
		Manufacturer: unpadded(ti.ManufacturerID), Model: unpadded(ti.Model),
		Firmware:    fmt.Sprintf("%d.%d", ti.FirmwareVersion.Major, ti.FirmwareVersion.Minor),
		Initialized: flag(pkcs11.CKF_TOKEN_INITIALIZED),
		PIN: PIN{
			Initialized: flag(pkcs11.CKF_USER_PIN_INITIALIZED),
			CountLow:    flag(pkcs11.CKF_USER_PIN_COUNT_LOW),
			FinalTry:    flag(pkcs11.CKF_USER_PIN_FINAL_TRY),
			Locked:      flag(pkcs11.CKF_USER_PIN_LOCKED),
			ToBeChanged: flag(pkcs11.CKF_USER_PIN_TO_BE_CHANGED),
		},
		PINPad:      flag(pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH),
		maxSessions: ti.MaxRwSessionCount,
		minPIN:      ti.MinPinLen, maxPIN: ti.MaxPinLen,
	}, nil
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
