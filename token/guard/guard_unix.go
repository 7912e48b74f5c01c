//go:build !windows

package guard

/*
#cgo linux LDFLAGS: -ldl
#include <stdlib.h>
#include "guard.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
	"unicode"
	"unsafe"

	"github.com/miekg/pkcs11"
)

var (
	mu     sync.Mutex
	tables = map[*pkcs11.Ctx]C.int{}
	names  = map[string]*C.char{} // C code keeps them, so they are never freed
)

// constant returns the name of a module or function as it goes into messages.
func constant(name string) *C.char {
	mu.Lock()
	defer mu.Unlock()
	if names[name] == nil {
		names[name] = C.CString(strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return '?'
			}
			return r
		}, name))
	}
	return names[name]
}

// New loads a module. The error is the dynamic loader's.
func New(path string) (*pkcs11.Ctx, error) {
	of := C.CString(path)
	defer C.free(unsafe.Pointer(of))
	var wrong *C.char // miekg/pkcs11 does not say what is
	handle := C.guard_open(of, constant(path), &wrong)
	if handle == nil {
		defer C.free(unsafe.Pointer(wrong))
		return nil, errors.New(C.GoString(wrong))
	}
	defer C.guard_close(handle)
	var ctx *pkcs11.Ctx
	During(path, "C_GetFunctionList", func() { ctx = pkcs11.New(path) })
	if ctx == nil {
		return nil, errors.New("it does not load a second time")
	}
	if err := Attach(ctx, path); err != nil {
		ctx.Destroy()
		return nil, err
	}
	return ctx, nil
}

// Attach guards a context that somebody else has made. [Forget] is called when it has been
// destroyed.
func Attach(ctx *pkcs11.Ctx, path string) error {
	// The only field of a Ctx, in all versions of miekg/pkcs11; a test holds it to that.
	c := (*struct{ context *C.struct_context })(unsafe.Pointer(ctx)).context
	table := C.guard_attach(c, constant(path))
	switch table {
	case -1:
		return errors.New("C_GetFunctionList returns no functions")
	case -2:
		return errors.New("too many modules are loaded")
	}
	mu.Lock()
	defer mu.Unlock()
	tables[ctx] = table
	return nil
}

// Destroy unloads a module that [New] has loaded.
func Destroy(ctx *pkcs11.Ctx, path string) {
	During(path, "dlclose", ctx.Destroy)
	Forget(ctx)
}

// Forget ends the guard of a context that has been destroyed.
func Forget(ctx *pkcs11.Ctx) {
	mu.Lock()
	defer mu.Unlock()
	if table, ok := tables[ctx]; ok {
		delete(tables, ctx)
		C.guard_release(table)
	}
}

// During names what f calls of a module without a guarded context.
func During(path, function string, f func()) {
	runtime.LockOSThread() // a call is noted with its thread
	defer runtime.UnlockOSThread()
	call := C.guard_enter(constant(path), constant(function))
	defer C.guard_leave(call)
	f()
}

// Take runs f, which has a module return one secret (C_Decrypt, C_GetAttributeValue), and
// returns the secret, which the caller overwrites. miekg/pkcs11 and f see zeros in its place:
// miekg/pkcs11 frees memory without overwriting it. That of PINs and new objects is
// overwritten by the guard when the module has read them.
func Take(f func() ([]byte, error)) ([]byte, error) {
	runtime.LockOSThread() // the C code keeps it for the thread
	defer runtime.UnlockOSThread()
	C.guard_take()
	_, err := f()
	taken := C.guard_taken()
	defer C.guard_erase(taken)
	if err != nil {
		return nil, err
	}
	return C.GoBytes(unsafe.Pointer(taken.value), C.int(taken.len)), nil
}

// OutOfBounds describes the answer of a module that was not taken, where err is one.
func OutOfBounds(err error) (text string, ok bool) {
	var code pkcs11.Error
	if !errors.As(err, &code) || uint(code)&^0xff != C.OUT_OF_BOUNDS {
		return "", false
	}
	a := C.guard_answer(C.uint(uint(code) & 0xff))
	if a.module == nil {
		return "", false
	}
	return fmt.Sprintf("module %s: %s returned %d where at most %d are taken", C.GoString(a.module), C.GoString(a.function), uint64(a.said), uint64(a.most)), true
}

// NoticeEnds makes the process, when a module crashes it or calls exit(3), write one line
// with the module and the function to the file descriptor and exit with this status. Faults
// of our own go to the Go runtime as before. It is for programs, not for libraries, and the
// descriptor and status may be changed by calling it again.
func NoticeEnds(fd, status int) { C.guard_notice_ends(C.int(fd), C.int(status)) }

// Exit is os.Exit after [NoticeEnds]: it is no module that ends the process.
func Exit(status int) {
	C.guard_mean_to_end()
	os.Exit(status)
}

// Watch calls late once, when a call takes longer than limit. Keys may take ten times as
// long to generate, tokens to initialise, and a person at a PIN pad as long as they like.
// Only time in which the process runs counts: not that in which it was stopped.
func Watch(limit time.Duration, late func(Late)) {
	seconds := C.uint(max(limit/time.Second, 1))
	for range time.Tick(time.Second) {
		if c := C.guard_tick(seconds); c.module != nil {
			late(Late{C.GoString(c.module), C.GoString(c.function), time.Duration(seconds*c.patience) * time.Second})
			return
		}
	}
}
