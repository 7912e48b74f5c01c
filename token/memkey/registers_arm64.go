package memkey

// eraseRegisters overwrites the vector registers, through which memory is copied and AES is
// computed, and which hold on to it until something else needs them.
func eraseRegisters()
