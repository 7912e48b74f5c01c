/*
 * A PKCS #11 module that forwards every call to SoftHSM, and does wrong what the file
 * "faults" beside SoftHSM's configuration asks for. Package softhsm compiles it:
 *
 *	cc -shared -fPIC -DSOFTHSM='"/usr/lib/softhsm/libsofthsm2.so"' -o faulty.so module.c -ldl
 *
 * A line of the file is one fault, "FUNCTION CALL ACTION ARGUMENT", as fault.go writes it.
 * FUNCTION may be "*", and "load", the moment when the library is loaded; CALL is 0 for
 * every call. A fault counts the calls in which its action has something to do: "1 flip"
 * of C_WrapKey is the first call that returns a wrapped key, and not the one before it
 * that asked for the length. Counting begins when the file is read, which is whenever it
 * has changed.
 *
 * Where a file "calls" is beside it, each call appends a line:
 * "FUNCTION RESULT ACTION ATTRIBUTE,...", with the types of the attributes in the
 * templates. No value, no PIN and no data is written.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What PKCS #11 v2.40 lays down about memory, and no more of it than is needed here. */

typedef unsigned char CK_BYTE, CK_BBOOL;
typedef unsigned long CK_ULONG, CK_RV;
typedef struct { CK_BYTE major, minor; } CK_VERSION;
typedef struct { CK_ULONG type; void *value; CK_ULONG len; } CK_ATTRIBUTE;
typedef struct { CK_ULONG type; void *param; CK_ULONG len; } CK_MECHANISM;
typedef struct { CK_VERSION cryptoki; CK_BYTE manufacturer[32]; CK_ULONG flags; CK_BYTE description[32]; CK_VERSION library; } CK_INFO;
typedef struct { CK_BYTE description[64], manufacturer[32]; CK_ULONG flags; CK_VERSION hardware, firmware; } CK_SLOT_INFO;
typedef struct { CK_BYTE label[32], manufacturer[32], model[16], serial[16]; CK_ULONG flags, numbers[10]; CK_VERSION hardware, firmware; CK_BYTE utc[16]; } CK_TOKEN_INFO;
typedef struct { CK_ULONG slot, state, flags, error; } CK_SESSION_INFO;
typedef struct { CK_ULONG min, max, flags; } CK_MECHANISM_INFO;

enum {
	CKR_OK = 0, CKR_GENERAL_ERROR = 5, CKR_ATTRIBUTE_TYPE_INVALID = 0x12,
	CKA_KEY_TYPE = 0x100, CKA_VALUE_LEN = 0x161,
	CKK_DES2 = 0x14, CKK_DES3 = 0x15, CKK_AES = 0x1f,
	CKM_DES2_KEY_GEN = 0x130, CKM_DES3_KEY_GEN = 0x131, CKM_GENERIC_SECRET_KEY_GEN = 0x350, CKM_AES_KEY_GEN = 0x1080,
};

#define UNAVAILABLE (~0UL) /* CK_UNAVAILABLE_INFORMATION, and our "any attribute" */

struct functions {
	CK_VERSION version;
#define X(name, params, args, before, after) CK_RV (*name) params;
#define Y(name, params) CK_RV (*name) params;
#include "functions.h"
#undef X
#undef Y
};

enum function {
#define X(name, params, args, before, after) f_##name,
#define Y(name, params) f_##name,
#include "functions.h"
#undef X
#undef Y
	f_load, nfunctions
};

static const char *const names[] = {
#define X(name, params, args, before, after) "C_" #name,
#define Y(name, params) "C_" #name,
#include "functions.h"
#undef X
#undef Y
	"load"
};

static struct functions *real; /* SoftHSM's */

/* The faults. They are guarded by mu, as modules are called from many threads. */

enum { MAXFAULTS = 64, MAXTEMPLATE = 64, KEPT = 4096 };

struct fault {
	char function[40], action[24];
	unsigned long call, arg, seen;
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static struct fault faults[MAXFAULTS];
static int nfaults;
static struct timespec changed;
static ino_t inode;

/* What each function returned last, for "repeat"; 0 for nothing yet. */
static struct { CK_BYTE bytes[KEPT]; CK_ULONG len, handle; } last[nfunctions];

/* scratch is a value that a template has in the place of the caller's, until the call ends. */
struct scratch {
	struct scratch *next;
	CK_BYTE value[];
};

/* A call is what goes on between a wrapper's begin and end. */
struct call {
	enum function function;
	const char *done;  /* the action that was taken, for the log */
	CK_ULONG types[MAXTEMPLATE]; /* of the templates, for the log */
	int ntypes;
	CK_ATTRIBUTE templates[2][MAXTEMPLATE];
	int ntemplates;
	struct scratch *scratch; /* the changed values in templates */
};

/* beside writes the path of a file beside SoftHSM's configuration. */
static int beside(char *path, size_t size, const char *name)
{
	const char *conf = getenv("SOFTHSM2_CONF");
	const char *slash = conf ? strrchr(conf, '/') : NULL;

	if (!slash)
		return 0;
	return snprintf(path, size, "%.*s/%s", (int)(slash - conf), conf, name) < (int)size;
}

/* refresh reads the faults again where their file is another than it was. */
static void refresh(void)
{
	char path[4096], line[256];
	struct stat st;
	FILE *file;

	if (!beside(path, sizeof path, "faults") || stat(path, &st) != 0) {
		nfaults = 0, inode = 0;
		return;
	}
	if (st.st_ino == inode && st.st_mtim.tv_sec == changed.tv_sec && st.st_mtim.tv_nsec == changed.tv_nsec)
		return;
	inode = st.st_ino, changed = st.st_mtim, nfaults = 0;
	if (!(file = fopen(path, "re")))
		return;
	while (nfaults < MAXFAULTS && fgets(line, sizeof line, file)) {
		struct fault *f = &faults[nfaults];
		f->seen = f->arg = 0;
		if (sscanf(line, "%39s %lu %23s %lx", f->function, &f->call, f->action, &f->arg) >= 3)
			nfaults++;
	}
	fclose(file);
}

static void record(struct call *c, CK_RV rv)
{
	char path[4096], line[2048];
	int n, fd;

	if (!beside(path, sizeof path, "calls") || (fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)) < 0)
		return;
	n = snprintf(line, sizeof line, "%s 0x%lx %s ", names[c->function], rv, c->done ? c->done : "-");
	for (int i = 0; i < c->ntypes && n < (int)sizeof line - 32; i++)
		n += snprintf(line + n, sizeof line - n, "%s0x%lx", i ? "," : "", c->types[i]);
	line[n++] = '\n';
	if (write(fd, line, n) != n)
		abort(); /* a test would believe that it did not happen */
	close(fd);
}

/* due counts the call for the faults of that action and returns the one whose turn it is. */
static struct fault *due(struct call *c, const char *action, CK_ULONG attribute)
{
	struct fault *found = NULL;

	pthread_mutex_lock(&mu);
	for (int i = 0; i < nfaults; i++) {
		struct fault *f = &faults[i];
		if (strcmp(f->action, action) != 0 || (strcmp(f->function, "*") != 0 && strcmp(f->function, names[c->function]) != 0))
			continue;
		if (attribute != UNAVAILABLE && f->arg != UNAVAILABLE && f->arg != attribute)
			continue;
		f->seen++;
		if (f->call == 0 || f->seen == f->call)
			found = f;
	}
	pthread_mutex_unlock(&mu);
	if (found)
		c->done = found->action;
	return found;
}

#define DUE(action) due(c, action, UNAVAILABLE)

/* begin does what is done in place of the call, and reports whether that was so. */
static int begin(struct call *c, CK_RV *rv)
{
	static const char *const actions[] = { "print", "hog", "hang", "crash", "abort", "raise", "exit", "quick-exit", "fail", "skip" };
	enum { print, hog, hang, crash, abortion, signaled, leave, quick, fail, skip, nactions };
	struct fault *f[nactions];

	pthread_mutex_lock(&mu);
	refresh();
	pthread_mutex_unlock(&mu);
	for (int i = 0; i < nactions; i++) /* before any is taken: each counts all calls */
		f[i] = DUE(actions[i]);

	if (f[print]) {
		static const char text[] = "faulty module: this is not for stdout\n";
		if (write(STDOUT_FILENO, text, sizeof text - 1) < 0) { /* closed: nothing to see */ }
	}
	if (f[hog]) {
		CK_ULONG size = f[hog]->arg ? f[hog]->arg : 1UL << 30;
		CK_BYTE *memory = malloc(size);
		for (CK_ULONG i = 0; memory && i < size; i += 4096)
			((volatile CK_BYTE *)memory)[i] = 1;
	}
	if (f[hang] || f[crash] || f[abortion] || f[signaled] || f[leave] || f[quick])
		record(c, CKR_OK);
	if (f[hang])
		for (;;)
			pause();
	if (f[crash])
		*(volatile int *)8 = 0;
	if (f[abortion])
		abort();
	if (f[signaled])
		raise((int)f[signaled]->arg);
	if (f[quick])
		quick_exit((int)f[quick]->arg);
	if (f[leave])
		exit((int)f[leave]->arg);
	if (f[fail])
		*rv = f[fail]->arg;
	else if (f[skip])
		*rv = CKR_OK;
	return f[fail] || f[skip];
}

static CK_RV end(struct call *c, CK_RV rv)
{
	struct fault *f;

	if (rv == CKR_OK && !c->done && (f = DUE("fail-after")))
		rv = f->arg;
	record(c, rv);
	for (struct scratch *next, *s = c->scratch; s; s = next) {
		next = s->next;
		free(s);
	}
	return rv;
}

/* What is wrong with what a function returns. */

static void spoil(CK_BYTE *p, CK_ULONG len, const char *action)
{
	if (len == 0)
		return;
	if (strcmp(action, "zeros") == 0)
		memset(p, 0, len);
	else if (strcmp(action, "ones") == 0)
		memset(p, 0xff, len);
	else /* flip: the lowest bit of a number or a truth value, one in the middle of others */
		p[len <= sizeof(CK_ULONG) ? 0 : len / 2] ^= 1;
}

static const char *const spoilings[] = { "flip", "zeros", "ones", NULL };

static int repeat(struct call *c, CK_BYTE *out, CK_ULONG len)
{
	int again = last[c->function].len == len && DUE("repeat");

	pthread_mutex_lock(&mu);
	if (again)
		memcpy(out, last[c->function].bytes, len);
	else if (len <= KEPT)
		memcpy(last[c->function].bytes, out, last[c->function].len = len);
	pthread_mutex_unlock(&mu);
	return again;
}

/* fixed is about a result whose size the caller knows: random bytes, a structure. */
static void fixed(struct call *c, void *out, CK_ULONG len)
{
	if (!out || len == 0 || repeat(c, out, len))
		return;
	for (int i = 0; spoilings[i]; i++)
		if (DUE(spoilings[i]))
			spoil(out, len, spoilings[i]);
}

static void lengths(struct call *c, CK_ULONG *len)
{
	struct fault *f;

	if ((f = DUE("huge")))
		*len = f->arg ? f->arg : 1UL << 30;
}

/* bytes is about a result with a length; without out, the caller asks for the length. */
static void bytes(struct call *c, CK_BYTE *out, CK_ULONG *len)
{
	if (!len)
		return;
	if (out && *len) {
		fixed(c, out, *len);
		if (DUE("shorten"))
			--*len;
		if (DUE("lengthen"))
			++*len;
		if (DUE("empty"))
			*len = 0;
	}
	lengths(c, len);
}

/* numbers is about a list of slots or mechanisms. */
static void numbers(struct call *c, CK_ULONG *list, CK_ULONG *n)
{
	if (list && *n) {
		fixed(c, list, *n * sizeof *list);
		if (DUE("shorten"))
			--*n;
		if (DUE("lengthen"))
			++*n;
	}
	if (DUE("empty"))
		*n = 0;
	lengths(c, n);
}

static void found(struct call *c, CK_ULONG *list, CK_ULONG max, CK_ULONG *n)
{
	if (*n) {
		if (DUE("invalid"))
			list[0] = 0xdeadbeef;
		if (DUE("shorten"))
			--*n;
		if (*n < max && DUE("double"))
			list[*n] = list[0], ++*n;
		if (DUE("empty"))
			*n = 0;
	}
	if (DUE("endless"))
		for (CK_ULONG first = *n ? list[0] : 1; *n < max; ++*n)
			list[*n] = first;
	lengths(c, n);
}

static void handle(struct call *c, CK_ULONG *h)
{
	CK_ULONG before = last[c->function].handle;

	last[c->function].handle = *h;
	if (DUE("invalid"))
		*h = 0xdeadbeef;
	if (before && DUE("repeat"))
		*h = before;
}

/*
 * another makes a key that is like the one at *key, in its template and size, and has
 * nothing else in common with it. SoftHSM 2.6 says that keys which were unwrapped have a
 * length of 0; then size is taken.
 */
static CK_RV another(CK_ULONG s, CK_ATTRIBUTE *t, CK_ULONG n, CK_ULONG *key, CK_ULONG size, int shorter)
{
	CK_ULONG type = 0, len = 0, made, count = 0;
	CK_ATTRIBUTE about[] = { { CKA_KEY_TYPE, &type, sizeof type }, { CKA_VALUE_LEN, &len, sizeof len } };
	CK_ATTRIBUTE with[MAXTEMPLATE + 1];
	CK_MECHANISM m = { 0, NULL, 0 };
	CK_RV rv;

	real->GetAttributeValue(s, *key, &about[0], 1);
	real->GetAttributeValue(s, *key, &about[1], 1); /* DES keys have none */
	m.type = type == CKK_AES ? CKM_AES_KEY_GEN : type == CKK_DES3 ? CKM_DES3_KEY_GEN : type == CKK_DES2 ? CKM_DES2_KEY_GEN : CKM_GENERIC_SECRET_KEY_GEN;
	for (CK_ULONG i = 0; i < n && i < MAXTEMPLATE; i++)
		if (t[i].type != CKA_VALUE_LEN)
			with[count++] = t[i];
	if (len == 0)
		len = size;
	if (shorter)
		len = type != CKK_AES ? len - 1 : len == 32 ? 16 : len - 8;
	if (m.type == CKM_AES_KEY_GEN || m.type == CKM_GENERIC_SECRET_KEY_GEN)
		with[count++] = (CK_ATTRIBUTE){ CKA_VALUE_LEN, &len, sizeof len };
	if ((rv = real->GenerateKey(s, &m, with, count, &made)) == CKR_OK) {
		real->DestroyObject(s, *key);
		*key = made;
	}
	return rv;
}

/* secret is about a secret key that was made, unwrapped or derived. */
static void secret(struct call *c, CK_RV *rv, CK_ULONG s, CK_ATTRIBUTE *t, CK_ULONG n, CK_ULONG *key, CK_ULONG size)
{
	handle(c, key);
	if (DUE("foreign"))
		*rv = another(s, t, n, key, size, 0);
	if (DUE("short-key"))
		*rv = another(s, t, n, key, size, 1);
}

static void note(struct call *c, CK_ATTRIBUTE *t, CK_ULONG n)
{
	for (CK_ULONG i = 0; i < n && c->ntypes < MAXTEMPLATE; i++)
		c->types[c->ntypes++] = t[i].type;
}

/* template puts a changed copy in the place of a template that the caller hands in. */
static void template(struct call *c, CK_ATTRIBUTE **t, CK_ULONG *n)
{
	CK_ATTRIBUTE *copy = c->templates[c->ntemplates++];
	CK_ULONG kept = 0;

	note(c, *t, *n);
	if (*n > MAXTEMPLATE)
		return;
	for (CK_ULONG i = 0; i < *n; i++) {
		CK_ATTRIBUTE a = (*t)[i];
		if (due(c, "drop", a.type))
			continue;
		if (a.value && a.len && due(c, "flip", a.type)) {
			struct scratch *changed = malloc(sizeof *changed + a.len);
			if (!changed)
				abort();
			changed->next = c->scratch;
			c->scratch = changed;
			a.value = memcpy(changed->value, a.value, a.len);
			spoil(a.value, a.len, "flip");
		}
		copy[kept++] = a;
	}
	*t = copy, *n = kept;
}

/* attributes is about what C_GetAttributeValue returns; without values, it asks for lengths. */
static void attributes(struct call *c, CK_RV *rv, CK_ATTRIBUTE *t, CK_ULONG n)
{
	struct fault *f;

	note(c, t, n);
	for (CK_ULONG i = 0; i < n; i++) {
		CK_ATTRIBUTE *a = &t[i];
		if (a->len == UNAVAILABLE)
			continue;
		if (a->value && a->len) {
			for (int j = 0; spoilings[j]; j++)
				if (due(c, spoilings[j], a->type))
					spoil(a->value, a->len, spoilings[j]);
			if (due(c, "shorten", a->type))
				a->len--;
		}
		if ((f = due(c, "huge", a->type)))
			a->len = 1UL << 30;
		if (due(c, "empty", a->type))
			a->len = 0;
		if (due(c, "missing", a->type))
			a->len = UNAVAILABLE, *rv = CKR_ATTRIBUTE_TYPE_INVALID;
	}
}

/* The wrappers. */

#define X(name, params, args, before, after)          \
	static CK_RV faulty_##name params             \
	{                                             \
		struct call c = { .function = f_##name }; \
		CK_RV rv;                             \
		if (!begin(&c, &rv)) {                \
			before;                       \
			rv = real->name args;         \
			if (rv == CKR_OK) {           \
				after;                \
			}                             \
		}                                     \
		return end(&c, rv);                   \
	}
#define Y(name, params)
#include "functions.h"
#undef X
#undef Y

CK_RV C_GetFunctionList(struct functions **list);

static struct functions ours = {
	{ 2, 40 },
#define X(name, params, args, before, after) faulty_##name,
#define Y(name, params) C_##name,
#include "functions.h"
#undef X
#undef Y
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
	CK_RV (*get)(struct functions **);
	void *lib = dlopen(SOFTHSM, RTLD_NOW | RTLD_LOCAL);

	if (!lib || !(get = (CK_RV (*)(struct functions **))dlsym(lib, "C_GetFunctionList")) || get(&real) != CKR_OK)
		fprintf(stderr, "faulty module: cannot load %s: %s\n", SOFTHSM, dlerror()), real = NULL;
}

CK_RV C_GetFunctionList(struct functions **list)
{
	struct call c = { .function = f_GetFunctionList };
	CK_RV rv;

	if (!begin(&c, &rv)) {
		pthread_once(&once, load);
		rv = real ? CKR_OK : CKR_GENERAL_ERROR;
		if (real)
			*list = &ours;
	}
	return end(&c, rv);
}

__attribute__((constructor)) static void loaded(void)
{
	struct call c = { .function = f_load };
	CK_RV rv;

	begin(&c, &rv);
	end(&c, CKR_OK);
}
