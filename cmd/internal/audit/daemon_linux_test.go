package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
)

// shortDir makes a directory whose path is short enough for sockets, which have 108 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "audit")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A longRecord has the longest line that there is, and a path of any bytes.
func longRecord() Record {
	long := strings.Repeat("é", 5000)
	return Record{Process: ThisProcess(), Event: hsmkeys.Event{
		Use:     hsmkeys.Use{Operation: hsmkeys.OpDecrypt, Key: "payroll", Version: 2, File: "/" + long + "\xff\n", Output: "/" + long + "\xff", Request: long, Command: long, To: long},
		Outcome: hsmkeys.OutcomeFailed, Err: errors.New(long), Reason: long,
	}}
}

// startDaemon starts a daemon, and waits for its socket.
func startDaemon(t *testing.T, socket string, name string, args ...string) *exec.Cmd {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, &out)
		}
	})
	until(t, name+" listens on "+socket, func() bool {
		c, err := net.Dial("unixgram", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return cmd
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after a minute: %s", what)
		}
	}
}

// With the real rsyslogd: what it writes is the line, whole.
func TestRecordsGoToRsyslogd(t *testing.T) {
	dir := shortDir(t)
	socket, out, conf := filepath.Join(dir, "log"), filepath.Join(dir, "auth.log"), filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket=%q)
template(name="t" type="string" string="%%syslogfacility-text%%.%%syslogseverity-text%% %%syslogtag%%%%msg%%\n")
authpriv.* action(type="omfile" file=%q template="t")
`, socket, out), 0o600); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, socket, "/usr/sbin/rsyslogd", "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
	l, err := Open("syslog:" + socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	records := []Record{record("a", 1), longRecord()}
	for i := range records {
		records[i].Time = time.Now()
		if err := l.Write(records[i]); err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	until(t, "both records are written", func() bool {
		data, _ := os.ReadFile(out)
		lines = strings.SplitAfter(string(data), "\n")
		return len(lines) == 3
	})
	for i, severity := range []string{"notice", "warning"} {
		want := fmt.Sprintf("authpriv.%s hsmkeys[%d]: %s", severity, os.Getpid(), lineOf(records[i]))
		if lines[i] != want {
			t.Errorf("got  %s\nwant %s", lines[i], want)
		}
	}
}

// With the real systemd-journald, in a mount namespace in which /run is empty; in a user namespace too
// where the user is not root.
func TestRecordsGoToJournald(t *testing.T) {
	const inside = "HSMKEYS_TEST_NAMESPACE"
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Errorf("%v (as user %d; without root this needs user namespaces)\n%s", err, os.Getuid(), out)
		}
		return
	}
	if err := errors.Join(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"),
		os.MkdirAll("/run/systemd/journal", 0o755), os.MkdirAll("/run/log/journal", 0o755)); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, journaldSocket, "/usr/lib/systemd/systemd-journald")
	l, err := Open("journald")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	records := []Record{record("other", 1), longRecord()}
	for i := range records {
		records[i].Time = time.Now()
		if err := l.Write(records[i]); err != nil {
			t.Fatal(err)
		}
	}
	var entry map[string]any
	until(t, "the journal has the record", func() bool {
		out, err := exec.Command("journalctl", "-D", "/run/log/journal", "-o", "json", "--all", "HSMKEYS_KEY=payroll").Output()
		return err == nil && json.Unmarshal(out, &entry) == nil
	})
	for name, want := range map[string]any{
		"MESSAGE": strings.TrimSuffix(lineOf(records[1]), "\n"), "PRIORITY": "4", "SYSLOG_FACILITY": "10", "SYSLOG_IDENTIFIER": "hsmkeys",
		"HSMKEYS_VERSION": "2", "HSMKEYS_OUTCOME": "failed", "HSMKEYS_OPERATION": "decrypt", "_PID": fmt.Sprint(os.Getpid()),
	} {
		if entry[name] != want {
			t.Errorf("%s: %v, want %v", name, entry[name], want)
		}
	}
	// What is not text comes as numbers.
	var path []byte
	numbers, _ := entry["HSMKEYS_FILE"].([]any)
	for _, n := range numbers {
		path = append(path, byte(n.(float64)))
	}
	if !bytes.HasPrefix(path, []byte("…é")) || !bytes.HasSuffix(path, []byte("é\xff\n")) {
		t.Errorf("HSMKEYS_FILE: %v", entry["HSMKEYS_FILE"])
	}
}

// parseJournal parses an entry of journald's native protocol.
func parseJournal(t *testing.T, entry []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	for len(entry) > 0 {
		line, rest, ok := bytes.Cut(entry, []byte("\n"))
		if !ok {
			t.Fatalf("it ends in %q", line)
		}
		name, value, short := bytes.Cut(line, []byte("="))
		if !short {
			size := binary.LittleEndian.Uint64(rest)
			value, rest = rest[8:8+size], rest[8+size:]
			if rest[0] != '\n' {
				t.Fatalf("%s does not end where it says", name)
			}
			rest = rest[1:]
		}
		all[string(name)], entry = string(value), rest
	}
	return all
}

func TestEveryFieldIsInTheJournal(t *testing.T) {
	r := longRecord()
	fields := r.fields()
	got := parseJournal(t, journalEntry(r, fields, appendLine(nil, fields)))
	for _, f := range fields {
		if name := "HSMKEYS_" + strings.ToUpper(f.name); got[name] != f.value {
			t.Errorf("%s: %q, want %q", name, got[name], f.value)
		}
	}
	if len(got) != len(fields)+4 {
		t.Errorf("%d fields", len(got))
	}
}

func TestADaemonThatIsNotThere(t *testing.T) {
	dir := shortDir(t)
	socket := filepath.Join(dir, "socket")
	for _, to := range []string{"syslog:" + socket, "journald:" + socket} {
		if l, err := Open(to); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("%s: %v, %v", to, l, err)
		}
	}
	listen := func() *net.UnixConn {
		t.Helper()
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := listen()
	l, err := Open("syslog:" + socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(l.Write(record("a", 1)), first.Close()); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(record("a", 2)); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("the daemon has stopped: %v", err)
	}
	_ = os.Remove(socket)
	second := listen()
	defer second.Close()
	for version := range 2 {
		if err := l.Write(record("a", 3+version)); err != nil {
			t.Errorf("the daemon is back: %v", err)
		}
	}
	if err := l.Reopen(); err != nil {
		t.Error(err)
	}
}

// A daemon that does not read: its queue is soon full.
func TestADaemonThatHangs(t *testing.T) {
	was := sendTimeout
	sendTimeout = 50 * time.Millisecond
	defer func() { sendTimeout = was }()
	socket := filepath.Join(shortDir(t), "socket")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, err := Open("journald:" + socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 10_000 {
		if err = l.Write(record("a", 1)); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
