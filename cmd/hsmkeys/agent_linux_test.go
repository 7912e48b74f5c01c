package main

import (
	"bytes"
	"crypto"
	cryptorand "crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/token"
	"golang.org/x/sys/unix"
)

// An agentOffice is an office with an agent, whose commands have no PIN.
type agentOffice struct {
	*office
	socket string
}

// newAgentOffice starts an agent with options, and a file march.age.
func newAgentOffice(t *testing.T, options ...string) *agentOffice {
	t.Helper()
	return startAgentIn(t, newOffice(t), options...)
}

func startAgentIn(t *testing.T, o *office, options ...string) *agentOffice {
	t.Helper()
	run, err := os.MkdirTemp("", "agent") // a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	o.env = append(o.env, "XDG_RUNTIME_DIR="+run)
	if err := os.WriteFile(filepath.Join(o.dir, "march"), []byte("The salaries of March."), 0o600); err != nil {
		t.Fatal(err)
	}
	o.run(t, "encrypt", "-k", "payroll", "-o", "march.age", "march")
	o.run(t, append([]string{"agent"}, options...)...)
	a := &agentOffice{&office{o.dir, append(o.env, "HSMKEYS_PIN_SOURCE=env:NO_SUCH_VARIABLE"), o.soft}, filepath.Join(run, "hsmkeys", "agent.sock")}
	t.Cleanup(func() { _ = a.command("agent", "stop").Run() })
	return a
}

// status returns what hsmkeys agent status prints.
func (a *agentOffice) status(t *testing.T) (s agentStatus) {
	t.Helper()
	out, err := a.command("--json", "agent", "status").Output()
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// decrypts reports an error unless march.age is decrypted through the agent.
func (a *agentOffice) decrypts() error {
	var stderr bytes.Buffer
	cmd := a.command("decrypt", "march.age")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || string(out) != "The salaries of March." {
		return fmt.Errorf("%q, %w, %s", out, err, stderr.String())
	}
	return nil
}

// left waits until the agent has neither clients nor session keys.
func (a *agentOffice) left(t *testing.T) {
	t.Helper()
	Until(t, "the agent has no client and no session key", func() bool {
		s := a.status(t)
		return s.Clients == 0 && s.SessionKeys == 0
	})
}

// However a client ends, its session keys end with it. Here it is 60 clients; with
// HSMKEYS_TEST_KILLS=all it is 1,000.
func TestKilledClientsLeaveNoKeys(t *testing.T) {
	a := newAgentOffice(t)
	clients, atOnce := 60, make(chan struct{}, 8)
	if os.Getenv("HSMKEYS_TEST_KILLS") == "all" {
		clients = 1000
	}
	began := time.Now()
	if err := a.decrypts(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	var running sync.WaitGroup
	for i := range clients {
		atOnce <- struct{}{}
		running.Go(func() {
			defer func() { <-atOnce }()
			args := [][]string{{"decrypt", "march.age"}, {"create", fmt.Sprint("key-", i)}, {"rotate", "payroll"}, {"rewrap"}}[i%4]
			cmd := a.command(args...)
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Duration(rand.Int64N(int64(3 * took))))
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	running.Wait()
	a.left(t)
	if err := a.decrypts(); err != nil {
		t.Error(err)
	}
	a.run(t, "verify")
}

// A connection that sends what is no call, far too much, half of a call, or nothing takes nothing from
// other clients, and little memory.
func TestBadClients(t *testing.T) {
	a := newAgentOffice(t)
	pid := a.status(t).PID
	connect := func() net.Conn {
		c, err := net.Dial("unix", a.socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range 100 { // nothing
		connect()
	}
	half := connect()
	if _, err := half.Write([]byte{0x02, 0x01, 0x01, 0xff}); err != nil {
		t.Fatal(err)
	}
	var noise [4096]byte
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for start := range 256 { // garbage, with every first byte
		c := connect()
		noise[0] = byte(start)
		_, _ = c.Write(noise[:])
		_ = c.Close()
	}
	// One frame of a gibibyte: it says how long it is, and later frames of one message that is as long.
	huge := connect()
	_ = huge.SetDeadline(time.Now().Add(time.Minute))
	header := []byte{0x04, 0x01, 0x01, 0x80, 0x80, 0x80, 0x80, 0x04} // KindMessage; stream 1, message 1, 2³⁰ bytes
	sent, _ := huge.Write(header)
	chunk := make([]byte, 1<<20)
	for sent < 1<<30 {
		n, err := huge.Write(chunk)
		sent += n
		if err != nil {
			break
		}
	}
	if sent > 64<<20 {
		t.Errorf("the agent took %d bytes", sent)
	}
	if err := a.decrypts(); err != nil {
		t.Error(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var peak int
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(after, &peak); err != nil || peak > 256<<10 {
		t.Errorf("the agent had %d KiB, %v", peak, err)
	}
	a.left(t) // those that have said nothing are ended
}

// An agent whose table of files is full goes on when there is room again.
func TestFullFileTable(t *testing.T) {
	a := newAgentOffice(t)
	pid := int(a.status(t).PID)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("prlimit", "--pid", fmt.Sprint(pid), fmt.Sprintf("--nofile=%d", len(files)+4)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var held []net.Conn
	for range 20 {
		c, err := net.Dial("unix", a.socket)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- a.decrypts() }()
	time.Sleep(100 * time.Millisecond) // it waits, or has failed by itself; either way the agent goes on
	for _, c := range held {
		_ = c.Close()
	}
	<-waiting
	if err := a.decrypts(); err != nil {
		t.Error(err)
	}
	a.left(t)
}

// A client that waits for an agent that is stopped is told so in bounded time.
func TestAnAgentThatDoesNotAnswer(t *testing.T) {
	a := newAgentOffice(t)
	pid := int(a.status(t).PID)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	cmd := a.command("agent", "status")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != failure.StatusFailed || !strings.Contains(string(out), "does not answer within 10s") {
		t.Errorf("%v: %s", err, out)
	}
}

// Sixteen clients at once, each with a key of its own, each get what is theirs.
func TestClientsAtOnce(t *testing.T) {
	a := newAgentOffice(t)
	var running sync.WaitGroup
	for i := range 16 {
		running.Go(func() {
			name, text := fmt.Sprint("key-", i), fmt.Sprint("text ", i)
			if out, err := a.command("create", name).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
				return
			}
			for range 3 {
				seal, open := a.command("encrypt", "-k", name), a.command("decrypt")
				seal.Stdin = strings.NewReader(text)
				sealed, err := seal.Output()
				if err != nil {
					t.Error(err)
					return
				}
				open.Stdin = bytes.NewReader(sealed)
				if out, err := open.Output(); err != nil || string(out) != text {
					t.Errorf("%q, %v", out, err)
				}
			}
		})
	}
	running.Wait()
	a.left(t)
}

// An agent locks itself when it is not used, and no earlier.
func TestAnIdleAgentLocksItself(t *testing.T) {
	a := newAgentOffice(t, "--lock-after", "2s")
	Until(t, "the agent is locked", func() bool { return a.status(t).Locked })
	if reason := a.status(t).Reason; reason != "the token was not used for 2s" {
		t.Error(reason)
	}
	cmd := a.command("decrypt", "march.age")
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != failure.StatusToken || !strings.Contains(string(out), "the agent is locked") {
		t.Errorf("%s", out)
	}
}

// A terminal from which the agent was started can be closed; it has asked for the PIN there.
func TestTheAgentLeavesItsTerminal(t *testing.T) {
	o := newOffice(t)
	run, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	o.env = append(o.env, "XDG_RUNTIME_DIR="+run, "HSMKEYS_PIN_SOURCE=prompt")
	p := newTerminal(t)
	cmd := o.command("agent")
	p.attach(cmd)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	Until(t, "a prompt", func() bool { return strings.HasSuffix(p.shows(), "PIN of token office: ") })
	if _, err := io.WriteString(p.person, testPIN+"\n"); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, cmd); got != 0 || !strings.HasPrefix(stdout.String(), "HSMKEYS_AGENT=") {
		t.Fatalf("exit status %d: %s%s", got, stdout.String(), p.shows())
	}
	a := &agentOffice{o, filepath.Join(run, "hsmkeys", "agent.sock")}
	t.Cleanup(func() { _ = a.command("agent", "stop").Run() })
	pid := a.status(t).PID
	_ = p.person.Close()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// proc(5): after the name in parentheses come state, ppid, pgrp, session, tty_nr
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if fields[3] != fmt.Sprint(pid) || fields[4] != "0" {
		t.Errorf("session %s, terminal %s", fields[3], fields[4])
	}
	a.run(t, "list")
}

// The metrics count calls and tell the state; an address that is taken is refused before the PIN is
// asked for.
func TestMetricsOfTheAgent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	o := newOffice(t)
	taken := o.command("agent", "--metrics", address, "--", "true")
	if out, _ := taken.CombinedOutput(); taken.ProcessState.ExitCode() != failure.StatusFailed || !strings.Contains(string(out), "address already in use") {
		t.Errorf("%s", out)
	}
	l.Close()
	a := startAgentIn(t, o, "--metrics", address)
	if err := a.decrypts(); err != nil {
		t.Fatal(err)
	}
	metrics := func() string {
		resp, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status, err)
		}
		return string(text)
	}
	a.left(t)
	text := metrics()
	for _, want := range []string{
		`hsmkeys_agent_operations_total{operation="Unwrap",result="ok"} 1`, `hsmkeys_agent_operation_seconds_count{operation="UnwrapData"} 1`,
		"hsmkeys_agent_locked 0", "hsmkeys_agent_session_keys 0", "hsmkeys_agent_clients 0", "process_resident_memory_bytes",
	} {
		if !strings.Contains(text, "\n"+want) && !strings.HasPrefix(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	a.run(t, "agent", "lock")
	_ = a.command("list").Run()
	if text = metrics(); !strings.Contains(text, "hsmkeys_agent_locked 1") {
		t.Error(text)
	}
}

// The token goes away and comes back while the agent is used: meanwhile commands are told why, and afterwards
// the agent logs in by itself.
func TestTheTokenOfTheAgentGoesAway(t *testing.T) {
	o := newOffice(t)
	module, err := o.soft.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	office, err := tokenLabelled(o.soft, "office")
	if err != nil {
		t.Fatal(err)
	}
	o.env = append(o.env, "HSMKEYS_MODULE="+module)
	a := startAgentIn(t, o)
	if err := a.decrypts(); err != nil {
		t.Fatal(err)
	}
	if err := office.Lose(); err != nil {
		t.Fatal(err)
	}
	cmd := a.command("decrypt", "march.age")
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != failure.StatusToken || !strings.Contains(string(out), "the token went away") {
		t.Errorf("exit status %d: %s", cmd.ProcessState.ExitCode(), out)
	}
	if s := a.status(t); s.Away == "" || s.Locked {
		t.Errorf("%+v", s)
	}
	if err := office.Restore(); err != nil {
		t.Fatal(err)
	}
	Until(t, "the token is back", func() bool { return a.decrypts() == nil })
	if s := a.status(t); s.Away != "" {
		t.Errorf("%+v", s)
	}
	a.left(t)
}

// What a client has wrapped and unwrapped is not in the memory of the agent afterwards:
// neither in its own buffers nor in those of the transport. The memory of this test has them.
func TestTheAgentKeepsNoSecrets(t *testing.T) {
	a := newAgentOffice(t)
	a.run(t, "agent", "lock")
	unlock := a.command("agent", "unlock")
	unlock.Env = append(a.env, "HSMKEYS_PIN_SOURCE=env:PIN_FOR_TEST")
	if out, err := unlock.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	client, err := agent.Dial(t.Context(), a.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	pair, err := client.FindPair(t.Context(), token.PairName{}, token.PairName{})
	if err != nil {
		t.Fatal(err)
	}
	spec := keyspec.Key{Algorithm: keyspec.AES256, Purpose: keyspec.WrapKeys, Size: 32}
	made, err := pair.Generate(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := made.Wrap(t.Context(), pair.Public(), crypto.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	key, err := pair.Unwrap(t.Context(), keyspec.WrappedKey{Key: spec, Wrapped: wrapped})
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, 32)
	_, _ = cryptorand.Read(secret)
	for range 20 {
		sealed, err := key.WrapData(t.Context(), secret)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := key.UnwrapData(t.Context(), sealed); err != nil || !bytes.Equal(again, secret) {
			t.Fatal(err)
		}
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	pid := a.status(t).PID
	if n := occurrences(t, pid, secret[:16]) + occurrences(t, pid, secret[16:]); n > 0 {
		t.Errorf("the agent has %d pieces of the secret", n)
	}
	if occurrences(t, int64(os.Getpid()), secret[:16]) == 0 {
		t.Error("the search finds nothing anywhere")
	}
}

// occurrences counts what is in the writable memory of a process.
func occurrences(t *testing.T, pid int64, what []byte) (n int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") || to-from > 1<<30 {
			continue
		}
		area := make([]byte, to-from)
		got, _ := mem.ReadAt(area, int64(from)) // part of it may not be there
		n += bytes.Count(area[:got], what)
		clear(area)
	}
	return n
}

// A service manager can pass the socket (sd_listen_fds(3)); the agent tells it when it is ready
// (sd_notify(3)), and begins locked, as nobody is there to type a PIN.
func TestTheSocketOfAServiceManager(t *testing.T) {
	o := newOffice(t)
	run, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	socket, notify := filepath.Join(run, "s"), filepath.Join(run, "n")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	passed, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	var stderr bytes.Buffer
	cmd := exec.Command("sh", "-c", "LISTEN_FDS=1 LISTEN_PID=$$ NOTIFY_SOCKET="+notify+" exec hsmkeys agent --foreground --locked")
	cmd.Dir, cmd.Env, cmd.ExtraFiles, cmd.Stderr = o.dir, o.env, []*os.File{passed}, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		_ = ready.Close()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	message := make([]byte, 64)
	if n, err := ready.Read(message); err != nil || string(message[:n]) != "READY=1" {
		t.Fatalf("%q, %v, %s", message[:n], err, stderr.String())
	}
	o.env = append(o.env, "HSMKEYS_AGENT="+socket)
	o.run(t, "agent", "unlock")
	locked := &office{o.dir, append(o.env, "HSMKEYS_PIN_SOURCE=env:NO_SUCH_VARIABLE"), o.soft}
	locked.run(t, "list")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err, stderr.String())
	}
}

// The agent goes on in a new file of records after SIGHUP, and does nothing that it cannot record.
func TestTheRecordsOfTheAgent(t *testing.T) {
	o := newOffice(t)
	path := filepath.Join(o.dir, "audit")
	a := startAgentIn(t, o, "--audit", "file:"+path)
	recorded := func() bool {
		records, err := os.ReadFile(path)
		return err == nil && bytes.Contains(records, []byte(`"command":"decrypt","operation":"decrypt","outcome":"done"`))
	}
	if err := a.decrypts(); err != nil || !recorded() {
		t.Fatalf("not recorded: %v", err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	pid := int(a.status(t).PID)
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	Until(t, "the agent writes to the new file", func() bool {
		if err := a.decrypts(); err != nil {
			t.Fatal(err)
		}
		return recorded()
	})
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{}, nil); err != nil { // as a full disk
		t.Fatal(err)
	}
	cmd := a.command("decrypt", "march.age")
	out, err := cmd.CombinedOutput()
	if err == nil || bytes.Contains(out, []byte("salaries")) || cmd.ProcessState.ExitCode() != failure.StatusFailed || !bytes.Contains(out, []byte("cannot be recorded")) {
		t.Errorf("%v: %s", err, out)
	}
}
