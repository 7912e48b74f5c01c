package main

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/hsmkeys/hsmkeys/scripts/bench/storegen"
)

// A storeOrder describes a store to be made in a process of its own: see touchMemory.
type storeOrder struct {
	Dir, Key string // the new directory, and the file of the owner's private key
	Options  storegen.Options
}

// make makes a store in a process of its own.
func (b *bench) make(o storeOrder) error {
	o.Options.Owner = nil
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = b.output(nil, self, "-make", string(text))
	return err
}

// makeStore makes the store that a storeOrder in JSON describes.
func makeStore(text string) error {
	var o storeOrder
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	data, err := os.ReadFile(o.Key)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return fmt.Errorf("%s has no PEM", o.Key)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	o.Options.Owner = key.(crypto.Signer)
	return storegen.Make(o.Dir, o.Options)
}
