package hsmkeys

import "time"

// RecordEvery sets how often an operation over many keys makes a checkpoint.
func RecordEvery(d time.Duration) { recordEvery = d }

// Fresh is the keyring as it is when it was just opened, for benchmarks.
func (k *Keyring) Fresh() *Keyring {
	return &Keyring{
		store: k.store, token: k.token, pair: k.pair, pins: k.pins, self: k.self, signer: k.signer,
		settings: k.settings, maxAge: k.maxAge, state: k.state, head: k.view(),
	}
}
