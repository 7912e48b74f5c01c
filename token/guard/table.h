// The functions of one table: those that miekg/pkcs11 and crypto11 call in the place of the
// module's own. PKCS #11 hands its functions no context, so each module needs functions of
// its own that know which it is. TABLE is its number.

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define ENTER(name, patience_) \
	struct table *t = &tables[TABLE]; \
	if (!t->real->name) \
		return FUNCTION_NOT_SUPPORTED; \
	struct call c = {.module = t->module, .function = #name, .patience = patience_}; \
	enter(&c);

#define CALL(name, patience, parameters, arguments) \
	static ulong PASTE(name, TABLE) parameters \
	{ \
		ENTER(name, patience) \
		ulong rv = t->real->name arguments; \
		leave(&c); \
		return rv; \
	}

#define OUT(name, patience, most, parameters, arguments) \
	static ulong PASTE(name, TABLE) parameters \
	{ \
		ENTER(name, patience) \
		ulong room = out ? *len : most; \
		ulong rv = t->real->name arguments; \
		leave(&c); \
		if (rv == OK || (!out && rv == BUFFER_TOO_SMALL)) \
			return bounded(&c, number_##name, rv, *len, room); \
		return rv; \
	}

#define SECRET(name, patience, most, parameters, arguments) \
	static ulong PASTE(name, TABLE) parameters \
	{ \
		ENTER(name, patience) \
		ulong room = out ? *len : most; \
		ulong rv = t->real->name arguments; \
		leave(&c); \
		if (rv == OK || (!out && rv == BUFFER_TOO_SMALL)) \
			rv = bounded(&c, number_##name, rv, *len, room); \
		if (rv == OK) \
			take(out, *len); \
		return rv; \
	}

#define ERASE(name, patience, erase, parameters, arguments) \
	static ulong PASTE(name, TABLE) parameters \
	{ \
		ENTER(name, patience) \
		ulong rv = t->real->name arguments; \
		leave(&c); \
		erase; \
		return rv; \
	}

#define FIND(name, patience, parameters, arguments) \
	static ulong PASTE(name, TABLE) parameters \
	{ \
		ENTER(name, patience) \
		ulong rv = t->real->name arguments; \
		leave(&c); \
		return rv == OK ? bounded(&c, number_##name, rv, *len, room) : rv; \
	}

#define ATTRIBUTES(name, patience, parameters, arguments) \
	static ulong PASTE(name, TABLE) parameters \
	{ \
		if (n > MOST_ATTRIBUTES) \
			return ARGUMENTS_BAD; \
		ENTER(name, patience) \
		ulong room[MOST_ATTRIBUTES]; \
		for (ulong i = 0; i < n; i++) \
			room[i] = a[i].value ? a[i].len : MOST_ATTRIBUTE; \
		ulong rv = t->real->name arguments; \
		leave(&c); \
		for (ulong i = 0; rv == OK && i < n; i++) \
			if (a[i].len != UNAVAILABLE) \
				rv = bounded(&c, number_##name, rv, a[i].len, room[i]); \
		for (ulong i = 0; rv == OK && i < n; i++) \
			if (a[i].len != UNAVAILABLE) \
				take(a[i].value, a[i].len); \
		return rv; \
	}

#include "functions.h"
#undef CALL
#undef OUT
#undef FIND
#undef ATTRIBUTES
#undef SECRET
#undef ERASE

#define CALL(name, patience, parameters, arguments) .name = PASTE(name, TABLE),
#define OUT(name, patience, most, parameters, arguments) .name = PASTE(name, TABLE),
#define FIND CALL
#define ATTRIBUTES CALL
#define SECRET OUT
#define ERASE OUT
static const struct functions PASTE(functions, TABLE) = {
#include "functions.h"
};
#undef CALL
#undef OUT
#undef FIND
#undef ATTRIBUTES
#undef SECRET
#undef ERASE
#undef ENTER
#undef TABLE
