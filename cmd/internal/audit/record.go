package audit

import (
	"encoding/hex"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Record is an event, who has caused it, and when.
type Record struct {
	Time time.Time
	Process
	hsmkeys.Event
}

// Limits of texts in a line, in bytes as they are escaped, so that a line has at most maxLine, which
// rsyslogd takes whole: it cuts off what is above 8,096 with the header.
const (
	maxWord  = 64
	maxName  = 256
	maxNames = 512 // names of several keys, or a reason
	maxPath  = 640
	maxError = 768
	maxLine  = 8000
)

// A field is one value of a record. A number is not quoted in JSON.
type field struct {
	name, value string
	number      bool
}

// fields returns the fields of a record that are known, in the order of the line.
func (r Record) fields() []field {
	f := make(fields, 0, 24)
	f.text("time", r.Time.UTC().Format("2006-01-02T15:04:05.000000000Z"), maxWord)
	f.text("user", r.User, maxName)
	f.number("uid", r.UID, r.UID >= 0)
	f.number("login_uid", r.LoginUID, r.LoginUID >= 0 && r.LoginUID != r.UID)
	f.number("pid", r.PID, r.PID > 0)
	f.text("program", r.Program, maxNames)
	f.text("command", r.Command, maxWord)
	f.text("request", r.Request, maxName)
	f.text("operation", r.Operation, maxWord)
	f.text("outcome", string(r.Outcome), maxWord)
	f.text("key", r.Key, maxNames)
	f.number("version", r.Version, r.Version > 0)
	f.id("key_id", r.KeyID)
	f.id("keyring", r.Keyring)
	f.text("pair", r.Pair, maxWord)
	f.text("to", r.To, maxName)
	f.path("file", r.File)
	f.path("output", r.Output)
	f.text("reason", r.Reason, maxNames)
	if r.Err != nil {
		f.text("error", r.Err.Error(), maxError)
	}
	f.text("change", r.Change, maxWord)
	if r.Checkpoint != (ledger.Point{}) {
		f.text("checkpoint", r.Checkpoint.String(), maxName)
	}
	return f
}

type fields []field

// text adds a text unless it is empty. One that is too long is cut, and ends with an ellipsis.
func (f *fields) text(name, value string, most int) {
	if value == "" {
		return
	}
	if fits := prefixLen(value, most); fits < len(value) {
		value = value[:fits] + "…"
	}
	*f = append(*f, field{name: name, value: value})
}

// path adds an absolute path unless it is empty. Of one that is too long the end is kept, behind an
// ellipsis, with which no absolute path begins. If it is not UTF-8, its bytes are added in hexadecimal.
func (f *fields) path(name, value string) {
	if value == "" {
		return
	}
	cut := value[suffixStart(value, maxPath):]
	shown := cut
	if len(cut) < len(value) {
		shown = "…" + cut
	}
	*f = append(*f, field{name: name, value: shown})
	if !utf8.ValidString(cut) {
		*f = append(*f, field{name: name + "_hex", value: hex.EncodeToString([]byte(cut))})
	}
}

func (f *fields) number(name string, value int, known bool) {
	if known {
		*f = append(*f, field{name, strconv.Itoa(value), true})
	}
}

func (f *fields) id(name string, value blob.ID) {
	if value != (blob.ID{}) {
		*f = append(*f, field{name: name, value: value.String()})
	}
}

// prefixLen returns how much of the beginning of s has at most most bytes as it is escaped.
func prefixLen(s string, most int) int {
	for i, r := range s {
		if most -= len(appendRune(nil, r)); most < 0 {
			return i
		}
	}
	return len(s)
}

// suffixStart returns where the end of s begins that has at most most bytes as it is escaped.
func suffixStart(s string, most int) int {
	at := len(s)
	for at > 0 {
		r, size := utf8.DecodeLastRuneInString(s[:at])
		if most -= len(appendRune(nil, r)); most < 0 {
			break
		}
		at -= size
	}
	return at
}

// appendLine appends the fields as one line of JSON (RFC 8259). Whatever does not print is escaped, also
// what JSON would allow: a line may be shown on a terminal.
func appendLine(line []byte, fields []field) []byte {
	for i, f := range fields {
		line = append(line, "{,"[min(i, 1)], '"')
		line = append(append(line, f.name...), '"', ':')
		if f.number {
			line = append(line, f.value...)
			continue
		}
		line = append(line, '"')
		for _, r := range f.value { // U+FFFD for what is not UTF-8
			line = appendRune(line, r)
		}
		line = append(line, '"')
	}
	return append(line, '}', '\n')
}

func appendRune(line []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(line, '\\', byte(r))
	case unicode.IsPrint(r):
		return utf8.AppendRune(line, r)
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		return appendRune(appendRune(line, high), low)
	}
	line = append(line, `\u`...)
	for shift := 12; shift >= 0; shift -= 4 {
		line = append(line, "0123456789abcdef"[r>>shift&0xf])
	}
	return line
}
