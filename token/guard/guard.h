#ifndef GUARD_H
#define GUARD_H

typedef unsigned long guard_ulong; // CK_ULONG and CK_RV
#define ulong guard_ulong

// Return values of PKCS #11 that are looked at or made here.
#define OK 0x00UL
#define ARGUMENTS_BAD 0x07UL
#define FUNCTION_NOT_SUPPORTED 0x54UL
#define BUFFER_TOO_SMALL 0x150UL
// OUT_OF_BOUNDS is CKR_VENDOR_DEFINED and a number of our own; the number of the function
// is added.
#define OUT_OF_BOUNDS 0xC8534B00UL

// What is taken from a module. Real ones stay far below: a network HSM has some hundred
// slots, a certificate some kilobytes.
#define MOST_SLOTS 4096
#define MOST_MECHANISMS 4096
#define MOST_BYTES (1UL << 20)      // of what an operation returns
#define MOST_ATTRIBUTE (1UL << 18)  // bytes
#define MOST_ATTRIBUTES 64          // that are asked for in one call
#define UNAVAILABLE ((ulong)-1)     // CK_UNAVAILABLE_INFORMATION

// How long a call may take, in units of the limit; PERSON waits for somebody at a PIN pad.
#define PERSON 0
#define BRIEF 1
#define LONG 10

struct attribute {
	ulong type;
	void *value;
	ulong len;
};

struct functions {
	unsigned char major, minor;
#define CALL(name, patience, parameters, arguments) ulong (*name) parameters;
#define OUT(name, patience, most, parameters, arguments) ulong (*name) parameters;
#define ATTRIBUTES CALL
#define FIND CALL
#define SECRET OUT
#define ERASE OUT
#include "functions.h"
#undef CALL
#undef OUT
#undef ATTRIBUTES
#undef FIND
#undef SECRET
#undef ERASE
};

enum function {
#define CALL(name, patience, parameters, arguments) number_##name,
#define OUT(name, patience, most, parameters, arguments) number_##name,
#define ATTRIBUTES CALL
#define FIND CALL
#define SECRET OUT
#define ERASE OUT
#include "functions.h"
#undef CALL
#undef OUT
#undef ATTRIBUTES
#undef FIND
#undef SECRET
#undef ERASE
	functions_end
};

// A call is one that has not returned. It is on the stack of its thread.
struct call {
	const char *module, *function;
	unsigned patience, seconds;
	struct call *outer;       // of the same thread
	struct call *next, **link; // of all threads
};

// answer is what a module returned and nobody takes.
struct answer {
	const char *module, *function;
	ulong said, most;
};

// secret is what a module has returned, in memory of its own; NULL for nothing.
struct secret {
	unsigned char *value;
	ulong len;
};

// context is what miekg/pkcs11 v1.1.2 keeps of a module (struct ctx).
struct context {
	void *handle;
	struct functions *sym;
};

void *guard_open(const char *path, const char *module, char **wrong);
void guard_close(void *handle);
int guard_attach(struct context *c, const char *module);
void guard_release(int table);
struct call *guard_enter(const char *module, const char *function);
void guard_leave(struct call *c);
struct call guard_tick(unsigned limit);
struct answer guard_answer(unsigned function);
void guard_take(void);
struct secret guard_taken(void);
void guard_erase(struct secret s);
const struct call *guard_current(void);
const char *guard_loaded(void);
void guard_notice_ends(int fd, int status);
void guard_mean_to_end(void);

#endif
