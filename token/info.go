package token

import (
	"fmt"
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
