package guard

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// Attach looks into a Ctx, which is a single pointer to what the C code calls struct ctx.
func TestCtxIsAPointer(t *testing.T) {
	ctx := reflect.TypeFor[pkcs11.Ctx]()
	if ctx.NumField() != 1 || ctx.Field(0).Type.Kind() != reflect.Pointer || ctx.Field(0).Type.Elem().NumField() != 2 {
		t.Errorf("a Ctx is %v", ctx)
	}
}

func TestAFaultyModule(t *testing.T) {
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	defer env.Close()
	t.Setenv("SOFTHSM2_CONF", env.ConfPath())
	module, err := env.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	if err := env.SetFaults(softhsm.Fault{Function: "C_GetSlotList", Call: 1, Action: softhsm.Huge}); err != nil {
		t.Fatal(err)
	}
	ctx, err := New(module)
	if err != nil {
		t.Fatal(err)
	}
	defer Destroy(ctx, module)
	if err := ctx.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer ctx.Finalize()
	_, err = ctx.GetSlotList(true)
	text, ok := OutOfBounds(err)
	if !ok || !strings.HasPrefix(text, "module "+module+": C_GetSlotList returned ") || !strings.HasSuffix(text, "where at most 4096 are taken") {
		t.Errorf("%v: %q", err, text)
	}
	if slots, err := ctx.GetSlotList(true); err != nil || len(slots) == 0 {
		t.Errorf("an honest answer: %v, %v", slots, err)
	}
}

// Contexts of one module share a table, those of many take one each, and give it back.
func TestTables(t *testing.T) {
	source, err := softhsm.FindModule()
	if err != nil {
		t.Fatal(err)
	}
	library, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const tables = 16
	for round := range 2 {
		var release []func()
		for i := range tables + 1 {
			copied := filepath.Join(t.TempDir(), "module.so")
			if err := os.WriteFile(copied, library, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				ctx, err := New(copied)
				if i == tables {
					if err == nil || !strings.Contains(err.Error(), "too many modules") {
						t.Errorf("round %d: module %d: %v", round, i+1, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("round %d, module %d: %v", round, i+1, err)
				}
				release = append(release, func() { Destroy(ctx, copied) })
			}
		}
		for _, f := range release {
			f()
		}
	}
	if _, ok := OutOfBounds(errors.New("x")); ok {
		t.Error("any error is taken for an answer out of bounds")
	}
	if _, err := New("/nonexistent/module.so"); err == nil || !strings.Contains(err.Error(), "cannot open shared object file") {
		t.Errorf("%v", err)
	}
}
