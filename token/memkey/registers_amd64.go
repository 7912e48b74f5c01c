package memkey

import "golang.org/x/sys/cpu"

func eraseVector()
func eraseVectorAVX()
func eraseVectorAVX512()

// eraseRegisters overwrites the vector registers, through which memory is copied and AES is
// computed, and which hold on to it until something else needs them.
func eraseRegisters() {
	switch {
	case cpu.X86.HasAVX512F:
		eraseVectorAVX512()
	case cpu.X86.HasAVX:
		eraseVectorAVX()
	default:
		eraseVector()
	}
}
