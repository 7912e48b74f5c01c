/*
 * A PKCS #11 module in front of SoftHSM: it forwards every call, takes tokens away, and does wrong
 * what it is asked to. Package softhsm compiles it, unless a package has installed it:
 *
 *	cc -shared -fPIC -O1 -o faulty-softhsm.so module.c -ldl -lpthread
 *
 * It is told what to do by files beside SoftHSM's configuration, which replace each other whole:
 *
 * None of them does anything unless it, the directory and "module" belong to this user or root, and nobody else can write
 * to them: such as where a configuration is in a shared directory.
 *
 * "module" has the path of SoftHSM.
 *
 * "losses" has a line "SERIAL NUMBER" for each token that was ever lost: how often it went away
 * and came back, so that it is away if the number is odd. A session that was opened at another
 * number is gone.
 *
 * "faults" has a line "FUNCTION FROM TO ACTION ARGUMENT TOKEN COUNTER" for each fault. FUNCTION
 * may be "*", and "load", the moment when the library is loaded. The fault is committed from
 * the call FROM to the call TO, or from then on if that is 0. It is only for the calls that use the token
 * with the serial TOKEN, or for all if that is "-". A fault counts the calls in which its action has something
 * to do: the first flip of C_WrapKey is in the first call that returns a wrapped key, and not in the one
 * before it that asked for the length. Each process counts for itself and begins when the file
 * changes, or all count together, in the length of the file COUNTER, which
 * begins with "count-".
 *
 * Where a file "calls" is beside them, each call appends a line:
 * "FUNCTION RESULT ACTION ATTRIBUTE,...", with the types of the attributes in the
 * templates. No value, no PIN and no data is written.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
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
	CKR_OK = 0, CKR_HOST_MEMORY = 2, CKR_GENERAL_ERROR = 5, CKR_ARGUMENTS_BAD = 7, CKR_ATTRIBUTE_TYPE_INVALID = 0x12,
	CKR_DEVICE_REMOVED = 0x32, CKR_SESSION_HANDLE_INVALID = 0xb3, CKR_TOKEN_NOT_PRESENT = 0xe0, CKR_BUFFER_TOO_SMALL = 0x150,
	CKF_TOKEN_PRESENT = 1,
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

static struct functions *real; /* SoftHSM's, without the tokens that are lost */

/* The state below is guarded by mu, as modules are called from many threads. */

enum { MAXFAULTS = 64, MAXLOSSES = 64, MAXTEMPLATE = 64, KEPT = 4096, SERIAL = 16 };

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

/* A fault is a line of the file. */
struct fault {
	char function[40], action[24], token[SERIAL + 1], counter[40];
	unsigned long from, to, arg, seen;
};

static struct fault faults[MAXFAULTS];
static int nfaults;

/* A loss is a token that was lost at least once. */
static struct loss { char serial[SERIAL + 1]; unsigned long number; } losses[MAXLOSSES];
static int nlosses;

/* The sessions that are open. One whose token was lost is closed in SoftHSM, and stays here until the caller closes it. */
static struct session { CK_ULONG handle; char serial[SERIAL + 1]; unsigned long number; int gone; } *sessions;
static size_t nsessions;

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
	CK_ULONG first;          /* argument: a slot or a session, of most functions */
	char serial[SERIAL + 1]; /* of the token that is used; "" for none */
	int away;                /* it is lost */
	unsigned long number;    /* how often it was lost and came back, before the call */
	const char *done;        /* the action that was taken, for the log */
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

/* isOwn reports whether nobody but this user and root can write to an open file or directory. */
static int isOwn(int fd, mode_t type)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type && (st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

/* openOwn opens a file beside SoftHSM's configuration, or returns -1; errno is EPERM if others can write to it. */
static int openOwn(const char *name, int flags)
{
	char path[4096];
	int dir, fd;

	errno = ENOENT;
	if (!beside(path, sizeof path, ".") || (dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return -1;
	if (!isOwn(dir, S_IFDIR)) {
		close(dir), errno = EPERM;
		return -1;
	}
	fd = openat(dir, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	close(dir);
	if (fd >= 0 && !isOwn(fd, S_IFREG)) {
		close(fd), errno = EPERM;
		return -1;
	}
	return fd;
}

static FILE *readOwn(const char *name)
{
	int fd = openOwn(name, O_RDONLY);

	return fd < 0 ? NULL : fdopen(fd, "r");
}

/* inEnvironment reports whether there is a "module" of this user's. */
static int inEnvironment(void)
{
	static _Atomic int found;
	int fd;

	if (!found && (fd = openOwn("module", O_RDONLY)) >= 0)
		close(fd), found = 1;
	return found;
}

/* A watched file is read when it is another than it was. */
struct watched { const char *name; ino_t inode; struct timespec changed; };

/* reread returns the file if it has changed. It sets *n to 0 if there is something new, or no such file. */
static FILE *reread(struct watched *w, int *n)
{
	char path[4096];
	struct stat st;

	if (!beside(path, sizeof path, w->name) || stat(path, &st) != 0) {
		*n = 0, w->inode = 0;
		return NULL;
	}
	if (st.st_ino == w->inode && st.st_mtim.tv_sec == w->changed.tv_sec && st.st_mtim.tv_nsec == w->changed.tv_nsec)
		return NULL;
	w->inode = st.st_ino, w->changed = st.st_mtim, *n = 0;
	return readOwn(w->name);
}

/* isCounter reports whether a name is that of a counter, and of no file elsewhere. */
static int isCounter(const char *name)
{
	return strcmp(name, "-") == 0 || (strncmp(name, "count-", 6) == 0 && !strchr(name, '/'));
}

static void refresh(void)
{
	static struct watched ofFaults = { .name = "faults" }, ofLosses = { .name = "losses" };
	char line[256];
	FILE *file;

	if (!inEnvironment())
		return;
	if ((file = reread(&ofFaults, &nfaults))) {
		while (nfaults < MAXFAULTS && fgets(line, sizeof line, file)) {
			struct fault *f = &faults[nfaults];
			f->seen = 0;
			if (sscanf(line, "%39s %lu %lu %23s %lx %16s %39s", f->function, &f->from, &f->to, f->action, &f->arg, f->token, f->counter) == 7 && isCounter(f->counter))
				nfaults++;
		}
		fclose(file);
	}
	if ((file = reread(&ofLosses, &nlosses))) {
		while (nlosses < MAXLOSSES && fgets(line, sizeof line, file))
			if (sscanf(line, "%16s %lu", losses[nlosses].serial, &losses[nlosses].number) == 2)
				nlosses++;
		fclose(file);
	}
}

/* Which token a call uses, and whether it is there. */

static unsigned long lossOf(const char *serial)
{
	for (int i = 0; i < nlosses; i++)
		if (strcmp(losses[i].serial, serial) == 0)
			return losses[i].number;
	return 0;
}

/* serialOf writes the serial of the token in a slot, or "". */
static void serialOf(CK_ULONG slot, char serial[SERIAL + 1])
{
	CK_TOKEN_INFO info;
	int n = 0;

	if (real->GetTokenInfo(slot, &info) == CKR_OK)
		while (n < SERIAL && info.serial[n] > ' ')
			n++;
	memcpy(serial, info.serial, n);
	serial[n] = 0;
}

static struct session *sessionOf(CK_ULONG handle)
{
	for (size_t i = 0; i < nsessions; i++)
		if (sessions[i].handle == handle)
			return &sessions[i];
	return NULL;
}

static void forget(struct session *s)
{
	if (s)
		*s = sessions[--nsessions];
}

/* retire closes the sessions from before the token was lost; with the last one the login ends. */
static void retire(const char *serial, unsigned long number)
{
	for (size_t i = 0; i < nsessions; i++) {
		struct session *s = &sessions[i];
		if (!s->gone && (s->number != number || number % 2) && strcmp(s->serial, serial) == 0) {
			real->CloseSession(s->handle);
			s->gone = 1;
		}
	}
}

enum subject { NOTHING, A_SLOT, A_SESSION };

static enum subject subject(enum function f)
{
	switch (f) {
	case f_Initialize: case f_Finalize: case f_GetInfo: case f_GetFunctionList: case f_GetSlotList: case f_WaitForSlotEvent: case f_load:
		return NOTHING;
	case f_GetSlotInfo: case f_GetTokenInfo: case f_GetMechanismList: case f_GetMechanismInfo: case f_InitToken: case f_OpenSession: case f_CloseAllSessions:
		return A_SLOT;
	default:
		return A_SESSION;
	}
}

/* attend finds the token that a call uses, and returns what the call returns if that is not there. */
static CK_RV attend(struct call *c)
{
	struct session *s;
	unsigned long number;

	switch (subject(c->function)) {
	case NOTHING:
		return CKR_OK;
	case A_SLOT:
		if (nlosses == 0 && nfaults == 0)
			return CKR_OK;
		serialOf(c->first, c->serial);
		number = c->number = lossOf(c->serial);
		c->away = number % 2;
		retire(c->serial, number);
		return c->away && c->function != f_GetSlotInfo ? CKR_TOKEN_NOT_PRESENT : CKR_OK;
	case A_SESSION:
		break;
	}
	if (!(s = sessionOf(c->first)))
		return CKR_OK;
	memcpy(c->serial, s->serial, sizeof c->serial);
	number = lossOf(c->serial);
	if (number == s->number && number % 2 == 0)
		return CKR_OK;
	retire(c->serial, number);
	if (c->function == f_CloseSession)
		forget(s);
	return number % 2 ? CKR_DEVICE_REMOVED : CKR_SESSION_HANDLE_INVALID;
}

/* opened is about a session of the token as it was before the call: it may have been lost meanwhile. */
static void opened(struct call *c, CK_ULONG slot, CK_ULONG handle)
{
	struct session *more;

	pthread_mutex_lock(&mu);
	if (!(more = realloc(sessions, (nsessions + 1) * sizeof *sessions)))
		abort();
	sessions = more;
	sessions[nsessions] = (struct session){ .handle = handle, .number = c->number };
	serialOf(slot, sessions[nsessions].serial);
	nsessions++;
	pthread_mutex_unlock(&mu);
}

static void closed(CK_ULONG handle)
{
	pthread_mutex_lock(&mu);
	forget(sessionOf(handle));
	pthread_mutex_unlock(&mu);
}

/* closedAll is for the sessions of a slot, or all. */
static void closedAll(const CK_ULONG *slot)
{
	char serial[SERIAL + 1] = "";

	pthread_mutex_lock(&mu);
	if (slot)
		serialOf(*slot, serial);
	for (size_t i = nsessions; i-- > 0;)
		if (!slot || strcmp(sessions[i].serial, serial) == 0)
			forget(&sessions[i]);
	pthread_mutex_unlock(&mu);
}

static void record(struct call *c, CK_RV rv)
{
	char line[2048];
	int n, fd;

	if (!inEnvironment() || (fd = openOwn("calls", O_WRONLY | O_APPEND)) < 0)
		return;
	n = snprintf(line, sizeof line, "%s 0x%lx %s ", names[c->function], rv, c->done ? c->done : "-");
	for (int i = 0; i < c->ntypes && n < (int)sizeof line - 32; i++)
		n += snprintf(line + n, sizeof line - n, "%s0x%lx", i ? "," : "", c->types[i]);
	line[n++] = '\n';
	if (write(fd, line, n) != n)
		abort(); /* a test would believe that it did not happen */
	close(fd);
}

/* count returns the number of a call that the fault counts. */
static unsigned long count(struct fault *f)
{
	off_t n = 0;
	int fd;

	if (strcmp(f->counter, "-") == 0)
		return ++f->seen;
	/* Each call appends a byte: where that has come to lie is its number, whoever else appends. */
	if ((fd = openOwn(f->counter, O_WRONLY | O_APPEND | O_CREAT)) < 0)
		abort();
	if (write(fd, ".", 1) != 1 || (n = lseek(fd, 0, SEEK_CUR)) < 1)
		abort();
	close(fd);
	return n;
}

/* concerns reports whether a fault is for such calls. One of a token that names a function which uses none is for that. */
static int concerns(struct fault *f, struct call *c)
{
	int all = strcmp(f->function, "*") == 0;

	if (!all && strcmp(f->function, names[c->function]) != 0)
		return 0;
	return strcmp(f->token, "-") == 0 || strcmp(f->token, c->serial) == 0 || (!all && subject(c->function) == NOTHING);
}

/* due counts the call for the faults of that action, and reports whether it is the turn of one, with its argument. */
static int due(struct call *c, const char *action, CK_ULONG attribute, CK_ULONG *arg)
{
	int found = 0;

	pthread_mutex_lock(&mu);
	for (int i = 0; i < nfaults; i++) {
		struct fault *f = &faults[i];
		unsigned long n;
		if (strcmp(f->action, action) != 0 || !concerns(f, c))
			continue;
		if (attribute != UNAVAILABLE && f->arg != UNAVAILABLE && f->arg != attribute)
			continue;
		n = count(f);
		if (n >= f->from && (f->to == 0 || n <= f->to)) {
			found = 1;
			if (arg)
				*arg = f->arg; /* the file may change before it is used */
		}
	}
	pthread_mutex_unlock(&mu);
	if (found)
		c->done = action;
	return found;
}

#define DUE(action) due(c, action, UNAVAILABLE, NULL)

/* begin does what is done in place of the call, and reports whether that was so. */
static int begin(struct call *c, CK_RV *rv)
{
	static const char *const actions[] = { "print", "hog", "hang", "crash", "abort", "raise", "exit", "quick-exit", "fail", "skip" };
	enum { print, hog, hang, crash, abortion, signaled, leave, quick, fail, skip, nactions };
	int f[nactions];
	CK_ULONG arg[nactions];

	pthread_mutex_lock(&mu);
	refresh();
	*rv = attend(c);
	pthread_mutex_unlock(&mu);
	if (*rv != CKR_OK) {
		c->done = "lose";
		return 1;
	}
	for (int i = 0; i < nactions; i++) /* before any is taken: each counts all calls */
		f[i] = due(c, actions[i], UNAVAILABLE, &arg[i]);

	if (f[print]) {
		static const char text[] = "faulty module: this is not for stdout\n";
		if (write(STDOUT_FILENO, text, sizeof text - 1) < 0) { /* closed: nothing to see */ }
	}
	if (f[hog]) {
		CK_ULONG size = arg[hog] && arg[hog] != UNAVAILABLE ? arg[hog] : 1UL << 30;
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
		raise((int)arg[signaled]);
	if (f[quick])
		quick_exit((int)arg[quick]);
	if (f[leave])
		exit((int)arg[leave]);
	if (f[fail])
		*rv = arg[fail];
	else if (f[skip])
		*rv = CKR_OK;
	return f[fail] || f[skip];
}

static CK_RV end(struct call *c, CK_RV rv)
{
	CK_ULONG result;

	if (rv == CKR_OK && !c->done && due(c, "fail-after", UNAVAILABLE, &result))
		rv = result;
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
	int again;

	pthread_mutex_lock(&mu);
	again = last[c->function].len == len;
	pthread_mutex_unlock(&mu);
	again = again && DUE("repeat");
	pthread_mutex_lock(&mu);
	again = again && last[c->function].len == len;
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
	CK_ULONG arg;

	if (due(c, "huge", UNAVAILABLE, &arg))
		*len = arg && arg != UNAVAILABLE ? arg : 1UL << 30;
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
	CK_ULONG before;

	pthread_mutex_lock(&mu);
	before = last[c->function].handle;
	last[c->function].handle = *h;
	pthread_mutex_unlock(&mu);
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

	if (!*t)
		return; /* what SoftHSM says of that is its own */
	note(c, *t, *n);
	if (*n > MAXTEMPLATE)
		return;
	for (CK_ULONG i = 0; i < *n; i++) {
		CK_ATTRIBUTE a = (*t)[i];
		if (due(c, "drop", a.type, NULL))
			continue;
		if (a.value && a.len && due(c, "flip", a.type, NULL)) {
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
	note(c, t, n);
	for (CK_ULONG i = 0; i < n; i++) {
		CK_ATTRIBUTE *a = &t[i];
		if (a->len == UNAVAILABLE)
			continue;
		if (a->value && a->len) {
			for (int j = 0; spoilings[j]; j++)
				if (due(c, spoilings[j], a->type, NULL))
					spoil(a->value, a->len, spoilings[j]);
			if (due(c, "shorten", a->type, NULL))
				a->len--;
		}
		if (due(c, "huge", a->type, NULL))
			a->len = 1UL << 30;
		if (due(c, "empty", a->type, NULL))
			a->len = 0;
		if (due(c, "missing", a->type, NULL))
			a->len = UNAVAILABLE, *rv = CKR_ATTRIBUTE_TYPE_INVALID;
	}
}

/* The wrappers. */

#define FIRST(...) FIRST_(__VA_ARGS__, 0)
#define FIRST_(first, ...) (CK_ULONG)(uintptr_t)(first)

#define X(name, params, args, before, after)          \
	static CK_RV faulty_##name params             \
	{                                             \
		struct call c = { .function = f_##name, .first = FIRST args }; \
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

static struct functions softhsm, filtered;

/* slotList leaves out the slots with tokens that are lost, if only slots with tokens are asked for. */
static CK_RV slotList(CK_BBOOL present, CK_ULONG *list, CK_ULONG *n)
{
	CK_ULONG count = 0, kept = 0, *all;
	CK_RV rv;
	int lost;

	pthread_mutex_lock(&mu);
	lost = nlosses;
	pthread_mutex_unlock(&mu);
	if (!present || !lost || !n)
		return softhsm.GetSlotList(present, list, n);
	if ((rv = softhsm.GetSlotList(present, NULL, &count)) != CKR_OK)
		return rv;
	if (!(all = malloc((count + 1) * sizeof *all)))
		return CKR_HOST_MEMORY;
	rv = softhsm.GetSlotList(present, all, &count);
	pthread_mutex_lock(&mu);
	for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++) {
		char serial[SERIAL + 1];
		serialOf(all[i], serial);
		if (lossOf(serial) % 2 == 0)
			all[kept++] = all[i];
	}
	pthread_mutex_unlock(&mu);
	if (rv == CKR_OK && list && *n < kept)
		rv = CKR_BUFFER_TOO_SMALL;
	else if (rv == CKR_OK && list)
		memcpy(list, all, kept * sizeof *all);
	*n = kept;
	free(all);
	return rv;
}

static void load(void)
{
	CK_RV (*get)(struct functions **);
	struct functions *found;
	char path[4096] = "";
	FILE *file;
	void *lib;

	if (!(file = readOwn("module")) && errno != EPERM) {
		fprintf(stderr, "faulty module: SOFTHSM2_CONF is \"%s\", which is in no throw-away environment\n", getenv("SOFTHSM2_CONF") ? getenv("SOFTHSM2_CONF") : "");
		return;
	}
	if (file && !fgets(path, sizeof path, file))
		path[0] = 0;
	if (file)
		fclose(file);
	path[strcspn(path, "\n")] = 0;
	lib = path[0] ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
	if (!lib || !(get = (CK_RV (*)(struct functions **))dlsym(lib, "C_GetFunctionList")) || get(&found) != CKR_OK) {
		fprintf(stderr, "faulty module: cannot load \"%s\": %s\n", path, path[0] ? dlerror() : "the file that names it is empty, or another user could have written it");
		return;
	}
	softhsm = filtered = *found;
	filtered.GetSlotList = slotList;
	real = &filtered;
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
