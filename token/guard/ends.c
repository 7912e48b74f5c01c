//go:build !windows

// What a module does to the process that called it: it crashes, or ends it. The Go runtime
// would print its goroutines and exit with status 2, or would not notice at all.

#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "guard.h"

static int report_to, status;
static pid_t self;

static const struct {
	int number;
	const char *name;
} fatal[] = {{SIGSEGV, " (SIGSEGV)"}, {SIGBUS, " (SIGBUS)"}, {SIGFPE, " (SIGFPE)"}, {SIGILL, " (SIGILL)"}, {SIGABRT, " (SIGABRT)"},
	// Go uses these two only in its own code (see ours), for breakpoints and to try a system call.
	{SIGSYS, " (SIGSYS)"}, {SIGTRAP, " (SIGTRAP)"}};

#define FATAL (sizeof fatal / sizeof fatal[0])

static struct sigaction before[FATAL]; // the Go runtime's

// end writes one line and ends the process. It only calls what a signal handler may.
static void end(const char *module, const char *did, const char *function, const char *detail)
{
	const char *const parts[] = {"hsmkeys: module ", module, did, function ? " in " : "", function ? function : "", detail};
	char line[4096];
	size_t n = 0;
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
		for (const char *p = parts[i]; *p && n < sizeof line - 1; p++)
			line[n++] = *p;
	line[n++] = '\n';
	if (write(report_to, line, n) < 0) {
		// nobody is left to be told
	}
	_exit(status);
}

// ours reports whether a fault happened in the code of this program and not of a library:
// a module may have threads of its own. Where that cannot be told it is ours.
static int ours(const void *context)
{
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
	extern const char __executable_start[], etext[];
	const ucontext_t *u = context;
#ifdef __x86_64__
	const char *at = (const char *)u->uc_mcontext.gregs[REG_RIP];
#else
	const char *at = (const char *)u->uc_mcontext.pc;
#endif
	return at >= __executable_start && at < etext;
#else
	(void)context;
	return 1;
#endif
}

static void handle(int number, siginfo_t *info, void *context)
{
	size_t i = 0;
	while (i < FATAL - 1 && fatal[i].number != number)
		i++;
	const struct call *c = guard_current();
	// kill(2) of somebody else's is no crash; abort(3) and raise(3) are signals to oneself.
	int fault = info->si_code > 0 || (info->si_code == SI_TKILL && info->si_pid == self);
	if (fault && getpid() == self) {
		if (c)
			end(c->module, " crashed", c->function, fatal[i].name);
		if (guard_loaded() && !ours(context))
			end(guard_loaded(), " crashed", NULL, fatal[i].name);
	}
	if (before[i].sa_flags & SA_SIGINFO) {
		before[i].sa_sigaction(number, info, context);
	} else if (before[i].sa_handler == SIG_DFL) {
		sigaction(number, &before[i], NULL); // and it happens again
		raise(number);
	} else if (before[i].sa_handler != SIG_IGN) {
		before[i].sa_handler(number);
	}
}

static volatile int meant; // it is this program that ends

void guard_mean_to_end(void) { meant = 1; }

// ended is run by exit(3) and quick_exit(3). On Linux Go ends a process without it, except under the race
// detector, and on other systems by it.
static void ended(void)
{
	if (meant || getpid() != self) // or a module's own child
		return;
	const struct call *c = guard_current();
	if (c)
		end(c->module, " ended the program", c->function, "");
	if (guard_loaded()) // a thread of its own
		end(guard_loaded(), " ended the program", NULL, "");
}

// guard_notice_ends has the ends of this process that a module makes reported to fd, and
// makes status the exit status. It is called once the Go runtime has its handlers.
void guard_notice_ends(int fd, int exit_status)
{
	int first = self == 0;
	report_to = fd;
	status = exit_status;
	if (!first)
		return;
	self = getpid();
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_sigaction = handle;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < FATAL; i++)
		sigaction(fatal[i].number, &action, &before[i]);
	atexit(ended);
#ifndef __APPLE__ // which has no quick_exit(3)
	at_quick_exit(ended);
#endif
}
