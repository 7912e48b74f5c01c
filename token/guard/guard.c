//go:build !windows

// What stands between miekg/pkcs11 and a module: functions that note which of the module's
// is being called, and look at how much it says that it returns. miekg/pkcs11 allocates
// whatever a module says, and reads as many bytes as it says to have written.

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"

struct table {
	const struct functions *real; // of the module; NULL: the table is free
	struct functions ours;
	const char *module; // its name for messages
	int users;
};

#define TABLES 16
static struct table tables[TABLES];
static const char *loaded; // the last one

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct call *calls; // of all threads
static __thread struct call *current; // of this thread

// answers are the last that were not taken, by function.
static struct answer answers[functions_end];

static void enter(struct call *c)
{
	c->outer = current;
	pthread_mutex_lock(&mutex);
	c->next = calls;
	c->link = &calls;
	if (calls)
		calls->link = &c->next;
	calls = c;
	pthread_mutex_unlock(&mutex);
	current = c;
}

static void leave(struct call *c)
{
	current = c->outer;
	pthread_mutex_lock(&mutex);
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	pthread_mutex_unlock(&mutex);
}

// bounded returns rv, or an error where the module returned more than there is room for.
static ulong bounded(const struct call *c, enum function number, ulong rv, ulong said, ulong most)
{
	if (said <= most)
		return rv;
	pthread_mutex_lock(&mutex);
	answers[number] = (struct answer){c->module, c->function, said, most};
	pthread_mutex_unlock(&mutex);
	return OUT_OF_BOUNDS + number;
}

// erase overwrites memory that is about to be freed, which a compiler would leave out.
static void erase(void *at, ulong n)
{
	for (volatile unsigned char *p = at; p && n > 0; n--)
		*p++ = 0;
}

static void erase_values(struct attribute *a, ulong n)
{
	for (ulong i = 0; a && i < n; i++)
		erase(a[i].value, a[i].len);
}

// erase_stack overwrites what a call of a module has left on this thread's stack.
static __attribute__((noinline)) void erase_stack(void)
{
	volatile unsigned char below[64 << 10];
	for (size_t i = 0; i < sizeof below; i++)
		below[i] = 0;
}

// taking is whether secrets that this thread's calls return are moved to taken.
static __thread int taking;
static __thread struct secret taken;

static void take(void *from, ulong n)
{
	if (!taking || !from)
		return;
	guard_erase(taken);
	taken = (struct secret){malloc(n), n};
	if (!taken.value)
		abort();
	memcpy(taken.value, from, n);
	erase(from, n);
	erase_stack();
}

// guard_take has the secret that the next call of this thread returns moved away, and
// guard_taken returns it.
void guard_take(void)
{
	taking = 1;
	taken = (struct secret){0};
}

struct secret guard_taken(void)
{
	taking = 0;
	return taken;
}

void guard_erase(struct secret s)
{
	erase(s.value, s.len);
	free(s.value);
}

#define TABLE 0
#include "table.h"
#define TABLE 1
#include "table.h"
#define TABLE 2
#include "table.h"
#define TABLE 3
#include "table.h"
#define TABLE 4
#include "table.h"
#define TABLE 5
#include "table.h"
#define TABLE 6
#include "table.h"
#define TABLE 7
#include "table.h"
#define TABLE 8
#include "table.h"
#define TABLE 9
#include "table.h"
#define TABLE 10
#include "table.h"
#define TABLE 11
#include "table.h"
#define TABLE 12
#include "table.h"
#define TABLE 13
#include "table.h"
#define TABLE 14
#include "table.h"
#define TABLE 15
#include "table.h"

static const struct functions *const ours[TABLES] = {
	&functions_0, &functions_1, &functions_2, &functions_3, &functions_4, &functions_5, &functions_6, &functions_7,
	&functions_8, &functions_9, &functions_10, &functions_11, &functions_12, &functions_13, &functions_14, &functions_15,
};

// guard_attach puts our functions between a context and its module, and returns the table,
// or -1 where the module has handed out no functions, -2 where all tables are taken. A list
// of functions that has a table already shares it. module must stay as it is.
int guard_attach(struct context *c, const char *module)
{
	if (!c->sym)
		return -1;
	int found = -2;
	pthread_mutex_lock(&mutex);
	for (int i = TABLES - 1; i >= 0; i--)
		if (!tables[i].real && found < 0)
			found = i;
	for (int i = 0; i < TABLES; i++)
		if (tables[i].real == c->sym)
			found = i;
	if (found >= 0) {
		struct table *t = &tables[found];
		if (t->users++ == 0) {
			t->ours = *ours[found];
			t->ours.major = c->sym->major;
			t->ours.minor = c->sym->minor;
			t->module = module;
			t->real = c->sym;
		}
		c->sym = &t->ours;
		loaded = module;
	}
	pthread_mutex_unlock(&mutex);
	return found;
}

void guard_release(int table)
{
	pthread_mutex_lock(&mutex);
	if (--tables[table].users == 0)
		tables[table].real = NULL;
	pthread_mutex_unlock(&mutex);
}

// guard_enter and guard_leave are for a call that is made without a table, on one thread.
struct call *guard_enter(const char *module, const char *function)
{
	struct call *c = calloc(1, sizeof *c);
	if (!c)
		abort();
	*c = (struct call){.module = module, .function = function, .patience = BRIEF};
	enter(c);
	loaded = module;
	return c;
}

void guard_leave(struct call *c)
{
	leave(c);
	free(c);
}

// guard_open loads a module that has the function that every module has, or returns what is
// wrong, to be freed.
void *guard_open(const char *path, const char *module, char **wrong)
{
	struct call c = {.module = module, .function = "dlopen", .patience = BRIEF};
	enter(&c);
	loaded = module;
	void *handle = dlopen(path, RTLD_LAZY);
	if (!handle || !dlsym(handle, "C_GetFunctionList")) {
		const char *why = dlerror();
		*wrong = strdup(why ? why : "C_GetFunctionList is nothing");
		if (handle)
			dlclose(handle);
		handle = NULL;
	}
	leave(&c);
	return handle;
}

void guard_close(void *handle) { dlclose(handle); }

// guard_tick is called once in a second that the process runs. It returns a call that has
// taken more than limit seconds, as its patience allows, or one without a module.
struct call guard_tick(unsigned limit)
{
	struct call late = {0};
	pthread_mutex_lock(&mutex);
	for (struct call *c = calls; c; c = c->next)
		if (++c->seconds > limit * c->patience && c->patience != PERSON)
			late = *c;
	pthread_mutex_unlock(&mutex);
	return late;
}

struct answer guard_answer(unsigned function)
{
	struct answer a = {0};
	pthread_mutex_lock(&mutex);
	if (function < functions_end)
		a = answers[function];
	pthread_mutex_unlock(&mutex);
	return a;
}

const struct call *guard_current(void) { return current; }

const char *guard_loaded(void) { return loaded; }
