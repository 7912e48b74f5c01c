package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hsmkeys/hsmkeys"
)

// The daemons take a datagram for each record on a socket. What log/syslog and the libraries for
// journald do beyond that is not needed: both have their socket built in and wait for ever for a daemon
// that hangs.

var names = []string{toFile, toSyslog, toJournald}

// Destinations is what a destination can be on this kind of system.
const Destinations = "file:PATH with an absolute path, syslog or journald"

// Usual sockets.
const (
	syslogSocket   = "/dev/log"
	journaldSocket = "/run/systemd/journal/socket"
)

// sendTimeout is how long a daemon may take to accept a record. Tests want less.
var sendTimeout = 10 * time.Second

// A daemon is connected to a socket.
type daemon struct {
	socket string
	encode func(r Record, fields []field, line []byte) []byte

	mu   sync.Mutex
	conn *net.UnixConn // nil if it could not be connected
}

func openDaemon(to destination) (sink, error) {
	d := &daemon{socket: to.path}
	switch to.name {
	case toSyslog:
		d.encode = syslogMessage
		if d.socket == "" {
			d.socket = syslogSocket
		}
	case toJournald:
		d.encode = journalEntry
		if d.socket == "" {
			d.socket = journaldSocket
		}
	}
	if err := d.reopen(); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *daemon) reopen() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.connect()
}

func (d *daemon) connect() error {
	if d.conn != nil {
		_ = d.conn.Close()
		d.conn = nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: d.socket, Net: "unixgram"})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: %w", ErrNoDaemon, err)
	}
	if err != nil {
		return err
	}
	d.conn = conn
	return nil
}

func (d *daemon) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return nil
	}
	err := d.conn.Close()
	d.conn = nil
	return err
}

func (d *daemon) write(r Record, fields []field, line []byte) error {
	message := d.encode(r, fields, line)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		err := d.send(message)
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	if err := d.connect(); err != nil { // the daemon may have been started again
		return err
	}
	return d.send(message)
}

func (d *daemon) send(message []byte) error {
	if err := d.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := d.conn.Write(message) // a datagram, whole or not at all
	return err
}

// Facility and severities of syslog (RFC 5424 §6.2.1).
const (
	authpriv = 10
	warning  = 4
	notice   = 5
)

func severity(r Record) int {
	if r.Outcome == hsmkeys.OutcomeFailed || r.Outcome == hsmkeys.OutcomeUnknown {
		return warning
	}
	return notice
}

// syslogMessage returns a message as syslog(3) sends it to /dev/log: RFC 3164 §4.1 without the host.
func syslogMessage(r Record, _ []field, line []byte) []byte {
	message := fmt.Appendf(nil, "<%d>%s hsmkeys[%d]: ", authpriv<<3|severity(r), r.Time.Format(time.Stamp), os.Getpid())
	return append(message, line[:len(line)-1]...)
}

// journalEntry returns an entry in journald's native protocol (systemd, "Native Journal Protocol"): the
// line as its message, and each field as HSMKEYS_KEY and so on.
func journalEntry(r Record, fields []field, line []byte) []byte {
	entry := fmt.Appendf(nil, "PRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=hsmkeys\n", severity(r), authpriv)
	entry = appendJournal(entry, "MESSAGE", string(line[:len(line)-1]))
	for _, f := range fields {
		entry = appendJournal(entry, "HSMKEYS_"+strings.ToUpper(f.name), f.value)
	}
	return entry
}

func appendJournal(entry []byte, name, value string) []byte {
	entry = append(entry, name...)
	if !strings.Contains(value, "\n") {
		return append(append(append(entry, '='), value...), '\n')
	}
	entry = binary.LittleEndian.AppendUint64(append(entry, '\n'), uint64(len(value)))
	return append(append(entry, value...), '\n')
}
