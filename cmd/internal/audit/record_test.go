package audit

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func lineOf(r Record) string { return string(appendLine(nil, r.fields())) }

// fullRecord returns a record with every field.
func fullRecord() Record {
	return Record{
		Time:    time.Date(2026, 2, 3, 4, 5, 6, 7000, time.FixedZone("", 3600)),
		Process: Process{User: "ann", UID: 1000, LoginUID: 1001, PID: 12, Program: "/usr/bin/hsmkeys"},
		Event: hsmkeys.Event{
			Use: hsmkeys.Use{
				Command: "rename", File: "/in\xff", Output: "/out\xff", Request: "r-1", Operation: "rename", Keyring: blob.ID{1}, Pair: "ab",
				Key: "payroll", Version: 2, KeyID: blob.ID{2}, To: "salaries",
			},
			Outcome: hsmkeys.OutcomeDone, Change: "c0", Reason: "they moved", Checkpoint: ledger.Point{Number: 3}, Err: errors.New("broken"),
		},
	}
}

func TestALineHasAllThatIsKnown(t *testing.T) {
	want := `{"time":"2026-02-03T03:05:06.000007000Z","user":"ann","uid":1000,"login_uid":1001,"pid":12,"program":"/usr/bin/hsmkeys","command":"rename","request":"r-1",` +
		`"operation":"rename","outcome":"done","key":"payroll","version":2,"key_id":"02000000000000000000000000000000","keyring":"01000000000000000000000000000000",` +
		`"pair":"ab","to":"salaries","file":"/in` + "\ufffd" + `","file_hex":"2f696eff","output":"/out` + "\ufffd" + `","output_hex":"2f6f7574ff","reason":"they moved","error":"broken","change":"c0","checkpoint":"3:` + strings.Repeat("0", 64) + `"}` + "\n"
	if got := lineOf(fullRecord()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := lineOf(Record{Process: Process{UID: -1, LoginUID: -1}}); got != `{"time":"0001-01-01T00:00:00.000000000Z"}`+"\n" {
		t.Errorf("of nothing: %s", got)
	}
}

// Every field of a use is in the line: one that is added to the type must be added to the line.
func TestALineHasEveryFieldOfAUse(t *testing.T) {
	var r Record
	before := len(r.fields())
	u := reflect.ValueOf(&r.Use).Elem()
	for i := range u.NumField() {
		switch f := u.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("/x")
		case reflect.Int:
			f.SetInt(1)
		default:
			f.Set(reflect.ValueOf(blob.ID{1}))
		}
	}
	if got := len(r.fields()) - before; got != u.NumField() {
		t.Errorf("%d fields, of %d", got, u.NumField())
	}
}

func TestWhatDoesNotPrintIsEscaped(t *testing.T) {
	for value, want := range map[string]string{
		`a"b\c`:                  `a\"b\\c`,
		"a\nb\x00\x1b[31m":       `a\u000ab\u0000\u001b[31m`,
		"\x7f\u0085\u202e\u2028": `\u007f\u0085\u202e\u2028`,
		"é€😀":                    "é€😀",
		"\U000e0001":             `\udb40\udc01`,
	} {
		line := lineOf(Record{Event: hsmkeys.Event{Use: hsmkeys.Use{Key: value}}})
		if !strings.Contains(line, `"key":"`+want+`"`) {
			t.Errorf("%q: %s", value, line)
		}
	}
}

// A file name may have any bytes but zero. Two that differ are written differently.
func TestAFileNameIsWrittenUnambiguously(t *testing.T) {
	long := "/" + strings.Repeat("d/", 400) + "name"
	for path, want := range map[string]string{
		"/a/b":        `"file":"/a/b"`,
		"/a\xff":      `"file":"/a` + "\ufffd" + `","file_hex":"2f61ff"`,
		"/a\ufffd":    `"file":"/a` + "\ufffd" + `"`,
		"/a\\xff":     `"file":"/a\\xff"`,
		long:          `"file":"…` + long[len(long)-maxPath:] + `"`,
		long + "\xff": `"file_hex":"`,
	} {
		line := lineOf(Record{Event: hsmkeys.Event{Use: hsmkeys.Use{File: path}}})
		if !strings.Contains(line, want) {
			t.Errorf("%q: %s, want %s", path, line, want)
		}
	}
}

// The longest texts of the longest kind: each byte of a path is there twice more in hexadecimal.
func TestTheLongestLine(t *testing.T) {
	long := strings.Repeat("x", 5000)
	path := "/" + long + "\xff"
	line := lineOf(Record{
		Time:    time.Now(),
		Process: Process{User: long, UID: 1<<31 - 1, LoginUID: 1<<31 - 2, PID: 1<<31 - 1, Program: path},
		Event: hsmkeys.Event{
			Use: hsmkeys.Use{
				Command: long, File: path, Output: path, Request: long, Operation: long, Keyring: blob.ID{1}, Pair: long,
				Key: long, Version: 1<<31 - 1, KeyID: blob.ID{1}, To: long,
			},
			Outcome: hsmkeys.Outcome(long), Change: long, Reason: long, Checkpoint: ledger.Point{Number: 1<<31 - 1}, Err: errors.New(long),
		},
	})
	if len(line) > maxLine || len(line) < maxLine-1024 {
		t.Errorf("%d bytes", len(line))
	}
}

// Whatever is in a record, its line is one line of JSON with what was put in, prints, and is short.
func TestALineIsShortAndPrints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.String(),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
			rapid.Map(rapid.SampledFrom([]string{"\x00", "\xff", "\"", "😀", "\U000e0001", "x"}), func(s string) string { return strings.Repeat(s, 10_000) }),
		)
		r := Record{
			Time:    time.Now(),
			Process: Process{User: text.Draw(t, "user"), UID: 1 << 30, LoginUID: 1<<30 + 1, PID: 1 << 30, Program: text.Draw(t, "program")},
			Event: hsmkeys.Event{
				Use: hsmkeys.Use{
					Command: text.Draw(t, "command"), File: "/" + text.Draw(t, "file"), Output: "/" + text.Draw(t, "output"), Request: text.Draw(t, "request"),
					Operation: text.Draw(t, "operation"), Keyring: blob.ID{1}, Pair: text.Draw(t, "pair"), Key: text.Draw(t, "key"), Version: 1 << 30, KeyID: blob.ID{1}, To: text.Draw(t, "to"),
				},
				Outcome: hsmkeys.OutcomeDone, Change: text.Draw(t, "change"), Reason: text.Draw(t, "reason"), Checkpoint: ledger.Point{Number: 1 << 30}, Err: errors.New(text.Draw(t, "error")),
			},
		}
		line := lineOf(r)
		if len(line) > maxLine {
			t.Fatalf("%d bytes", len(line))
		}
		inside := strings.TrimSuffix(line, "\n")
		if !utf8.ValidString(inside) || strings.ContainsFunc(inside, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("it does not print: %q", inside)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if name := r.Key; utf8.ValidString(name) && name != "" && len(name) < 20 && got["key"] != name {
			t.Fatalf("%q became %q", name, got["key"])
		}
	})
}
