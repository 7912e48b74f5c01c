package softhsm_test

import (
	"fmt"
	"log"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// The module fails at the second call of C_GenerateRandom, and records what was called.
func ExampleEnv_SetFaults() {
	env, err := softhsm.New()
	if err != nil {
		log.Fatal(err)
	}
	defer env.Close()
	if err := env.Use(); err != nil {
		log.Fatal(err)
	}
	if _, err := env.InitToken("demo"); err != nil {
		log.Fatal(err)
	}
	module, err := env.FaultyModule()
	if err != nil {
		log.Fatal(err)
	}
	if err := env.SetFaults(softhsm.Fault{Function: "C_GenerateRandom", Call: 2, Action: softhsm.Fail, Arg: pkcs11.CKR_DEVICE_ERROR}); err != nil {
		log.Fatal(err)
	}
	if err := env.RecordCalls(); err != nil {
		log.Fatal(err)
	}

	p := pkcs11.New(module)
	defer p.Destroy()
	if err := p.Initialize(); err != nil {
		log.Fatal(err)
	}
	defer p.Finalize()
	slots, err := p.GetSlotList(true)
	if err != nil {
		log.Fatal(err)
	}
	session, err := p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		_, err := p.GenerateRandom(session, 16)
		fmt.Println(err)
	}
	calls, err := env.Calls()
	if err != nil {
		log.Fatal(err)
	}
	faults := 0
	for _, call := range calls {
		if call.Fault != "" {
			faults++
		}
	}
	fmt.Println("faults:", faults)
	// Output:
	// <nil>
	// pkcs11: 0x30: CKR_DEVICE_ERROR
	// <nil>
	// faults: 1
}

// A test loses the token while a program has it open. In a test of your own, [softhsm.Run] makes the environment and
// the tokens, and removes them.
func ExampleToken_Lose() {
	env, err := softhsm.New()
	if err != nil {
		log.Fatal(err)
	}
	defer env.Close()
	if err := env.Use(); err != nil {
		log.Fatal(err)
	}
	office, err := env.InitToken("office")
	if err != nil {
		log.Fatal(err)
	}
	module, err := env.FaultyModule()
	if err != nil {
		log.Fatal(err)
	}
	p := pkcs11.New(module)
	defer p.Destroy()
	if err := p.Initialize(); err != nil {
		log.Fatal(err)
	}
	defer p.Finalize()
	slots, err := p.GetSlotList(true)
	if err != nil {
		log.Fatal(err)
	}
	random := func() {
		session, err := p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION)
		if err == nil {
			_, err = p.GenerateRandom(session, 16)
		}
		fmt.Println(err)
	}

	random()
	if err := office.Lose(); err != nil {
		log.Fatal(err)
	}
	random()
	if err := office.Restore(); err != nil {
		log.Fatal(err)
	}
	if err := office.FailAt("C_GenerateRandom", 2, pkcs11.CKR_DEVICE_ERROR); err != nil {
		log.Fatal(err)
	}
	random()
	random()
	// Output:
	// <nil>
	// pkcs11: 0xE0: CKR_TOKEN_NOT_PRESENT
	// <nil>
	// pkcs11: 0x30: CKR_DEVICE_ERROR
}
