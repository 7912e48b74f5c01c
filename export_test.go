package hsmkeys

// Fresh is the keyring as it is when it was just opened, for benchmarks.
func (k *Keyring) Fresh() *Keyring {
	return &Keyring{store: k.store, token: k.token, pair: k.pair, pins: k.pins, chain: k.chain, state: k.state, self: k.self, signer: k.signer, settings: k.settings}
}
