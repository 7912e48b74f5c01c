// The library with which Go's runtime gets its random numbers. Windows has it; wine 8 does not.
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(unsigned char *at, size_t n)
{
	return RtlGenRandom(at, n);
}
