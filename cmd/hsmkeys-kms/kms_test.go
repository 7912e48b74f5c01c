package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/hsmkeys/hsmkeys/blob/store/s3/s3test"
	"github.com/hsmkeys/hsmkeys/softhsm"
)

// programs is where TestMain builds hsmkeys and hsmkeys-kms.
var programs string

func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	os.Exit(func() int {
		var err error
		if programs, err = os.MkdirTemp("", "kms"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(programs)
		build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-o", programs, ".", "../hsmkeys")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

const testPIN, testSOPIN = "1357924680", "2468013579"

// A cluster is what an API server has: a token, a keyring with the key "k8s", and the plugin.
type cluster struct {
	soft   *softhsm.Env
	dir    string
	env    []string
	socket string
	plugin *exec.Cmd
	log    *lockedBuffer
	client kmsapi.KeyManagementServiceClient
}

// A lockedBuffer is written to by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newCluster makes one with some settings of its own, without the plugin.
func newCluster(t testing.TB, settings ...string) *cluster {
	t.Helper()
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	run, err := os.MkdirTemp("", "kms") // a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	dir := t.TempDir()
	c := &cluster{soft: env, dir: dir, socket: filepath.Join(run, "kms", "sock"), log: &lockedBuffer{}}
	c.env = append(append(os.Environ(), env.Environ()...), "HSMKEYS_MODULE="+env.Module(), "HSMKEYS_TOKEN=cluster", "HSMKEYS_STORE="+filepath.Join(dir, "store"),
		"HSMKEYS_PIN_SOURCE=env:PIN_FOR_TEST", "PIN_FOR_TEST="+testPIN, "SO_PIN_FOR_TEST="+testSOPIN, "HOME="+dir, "HSMKEYS_AUDIT=file:"+filepath.Join(dir, "audit"))
	c.env = append(c.env, settings...)
	c.hsmkeys(t, "token", "init", "cluster", "--so-pin-source", "env:SO_PIN_FOR_TEST")
	c.hsmkeys(t, "init", "--key-type", "rsa2048")
	c.hsmkeys(t, "create", "k8s", "other")
	return c
}

// startCluster makes one with the plugin.
func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := newCluster(t)
	c.start(t)
	return c
}

func (c *cluster) hsmkeys(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs, "hsmkeys"), args...)
	cmd.Env, cmd.Dir = c.env, c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("hsmkeys %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (c *cluster) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(programs, "hsmkeys-kms"), args...)
	cmd.Env, cmd.Dir = c.env, c.dir
	return cmd
}

// start starts the plugin, and waits until it serves.
func (c *cluster) start(t testing.TB, options ...string) {
	t.Helper()
	c.plugin = c.command(append([]string{"--key", "k8s", "--socket", c.socket}, options...)...)
	c.plugin.Stderr = c.log
	if err := c.plugin.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.plugin.ProcessState == nil {
			_ = c.plugin.Process.Kill()
			_ = c.plugin.Wait()
		}
	})
	conn, err := grpc.NewClient("unix:"+c.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c.client = kmsapi.NewKeyManagementServiceClient(conn)
	until(t, "the plugin answers", func() bool {
		if c.plugin.ProcessState != nil {
			t.Fatal(c.log)
		}
		_, err := c.client.Status(t.Context(), &kmsapi.StatusRequest{})
		return err == nil
	})
}

// stop ends the plugin.
func (c *cluster) stop(t testing.TB) {
	t.Helper()
	if err := c.plugin.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.plugin.Wait(); err != nil {
		t.Errorf("%v: %s", err, c.log)
	}
}

// until waits for what another process does. A busy machine may take any time.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for !f() {
		select {
		case <-t.Context().Done():
			t.Fatalf("waited in vain: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *cluster) status(t testing.TB) *kmsapi.StatusResponse {
	t.Helper()
	r, err := c.client.Status(t.Context(), &kmsapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *cluster) encrypt(t testing.TB, plaintext []byte) *kmsapi.EncryptResponse {
	t.Helper()
	r, err := c.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: plaintext, Uid: "encrypt-1"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *cluster) decrypt(ctx context.Context, r *kmsapi.EncryptResponse) ([]byte, error) {
	out, err := c.client.Decrypt(ctx, &kmsapi.DecryptRequest{Ciphertext: r.Ciphertext, KeyId: r.KeyId, Annotations: r.Annotations, Uid: "decrypt-2"})
	return out.GetPlaintext(), err
}

// opens checks that a ciphertext decrypts.
func (c *cluster) opens(t testing.TB, r *kmsapi.EncryptResponse, want []byte) {
	t.Helper()
	if got, err := c.decrypt(t.Context(), r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
}

func wantCode(t testing.TB, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want %v with %q", err, code, text)
	}
}

func TestRoundTrip(t *testing.T) {
	c := startCluster(t)
	s := c.status(t)
	if s.Version != "v2" || s.Healthz != "ok" || !strings.HasSuffix(s.KeyId, "/k8s@1") {
		t.Fatalf("%v", s)
	}
	for _, size := range []int{0, 1, 32, 511, 512} {
		plaintext := bytes.Repeat([]byte("p"), size)
		r := c.encrypt(t, plaintext)
		if len(r.Ciphertext) >= 1024 || len(r.KeyId) >= 1024 || r.KeyId != s.KeyId || size > 8 && bytes.Contains(r.Ciphertext, plaintext[:8]) {
			t.Errorf("%d bytes: %v", size, r)
		}
		c.opens(t, r, plaintext)
	}
	if a, b := c.encrypt(t, []byte("same")), c.encrypt(t, []byte("same")); bytes.Equal(a.Ciphertext[:41], b.Ciphertext[:41]) {
		t.Error("two ciphertexts have the same data key")
	}
	_, err := c.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: make([]byte, 513)})
	wantCode(t, err, codes.InvalidArgument, "more than 512 bytes")
}

func TestWhatIsNoCiphertextIsRefused(t *testing.T) {
	c := startCluster(t)
	good := c.encrypt(t, []byte("a secret"))
	with := func(edit func(*kmsapi.EncryptResponse)) error {
		r := &kmsapi.EncryptResponse{Ciphertext: bytes.Clone(good.Ciphertext), KeyId: good.KeyId}
		edit(r)
		_, err := c.decrypt(t.Context(), r)
		return err
	}
	for i := range good.Ciphertext {
		wantCode(t, with(func(r *kmsapi.EncryptResponse) { r.Ciphertext[i] ^= 1 }), codes.InvalidArgument, "")
	}
	for _, size := range []int{0, 1, 68, len(good.Ciphertext) - 1} {
		wantCode(t, with(func(r *kmsapi.EncryptResponse) { r.Ciphertext = r.Ciphertext[:size] }), codes.InvalidArgument, "")
	}
	wantCode(t, with(func(r *kmsapi.EncryptResponse) { r.Ciphertext = append(r.Ciphertext, make([]byte, 600)...) }), codes.InvalidArgument, "no ciphertext")
	for _, id := range []string{"", "x", "k8s@1", good.KeyId + "0", strings.ToUpper(good.KeyId), strings.TrimSuffix(good.KeyId, "@1"), good.KeyId + "\x00"} {
		wantCode(t, with(func(r *kmsapi.EncryptResponse) { r.KeyId = id }), codes.InvalidArgument, "")
	}
	// Another version, another id, another keyring, another key.
	wantCode(t, with(func(r *kmsapi.EncryptResponse) { r.KeyId = strings.TrimSuffix(r.KeyId, "1") + "2" }), codes.InvalidArgument, "no ciphertext")
	id, err := parseKeyID(good.KeyId)
	if err != nil {
		t.Fatal(err)
	}
	unknown := id
	unknown.id[0] ^= 1
	wantCode(t, with(func(r *kmsapi.EncryptResponse) { r.KeyId = unknown.String() }), codes.NotFound, "not found")
	foreign := id
	foreign.keyring[0] ^= 1
	wantCode(t, with(func(r *kmsapi.EncryptResponse) { r.KeyId = foreign.String() }), codes.PermissionDenied, "of keyring")
	c.opens(t, good, []byte("a secret"))
}

// The key of another cluster in the same keyring is not served, although the token could open it.
func TestTheKeyOfAnotherClusterIsRefused(t *testing.T) {
	c := startCluster(t)
	other := &cluster{dir: c.dir, env: c.env, socket: c.socket + "2", log: &lockedBuffer{}}
	other.plugin = other.command("--key", "other", "--socket", other.socket)
	if err := other.plugin.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.plugin.Process.Kill(); _ = other.plugin.Wait() })
	conn, err := grpc.NewClient("unix:"+other.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	other.client = kmsapi.NewKeyManagementServiceClient(conn)
	until(t, "the other plugin answers", func() bool {
		_, err := other.client.Status(t.Context(), &kmsapi.StatusRequest{})
		return err == nil
	})
	r := other.encrypt(t, []byte("theirs"))
	other.opens(t, r, []byte("theirs"))
	_, err = c.decrypt(t.Context(), r)
	wantCode(t, err, codes.PermissionDenied, `it is called "other", and this plugin serves "k8s"`)
}

func TestRotationWithoutARestart(t *testing.T) {
	c := startCluster(t)
	before := c.encrypt(t, []byte("before"))
	c.hsmkeys(t, "rotate", "k8s")
	if s := c.status(t); s.Healthz != "ok" || !strings.HasSuffix(s.KeyId, "/k8s@2") || s.KeyId == before.KeyId {
		t.Errorf("%v", s)
	}
	after := c.encrypt(t, []byte("after"))
	if after.KeyId != c.status(t).KeyId {
		t.Error(after.KeyId)
	}
	c.opens(t, before, []byte("before"))
	c.opens(t, after, []byte("after"))
	// Without the status, which the API server asks for once a minute.
	c.hsmkeys(t, "rotate", "k8s")
	until(t, "version 3 is used", func() bool { return strings.HasSuffix(c.encrypt(t, []byte("x")).KeyId, "/k8s@3") })
	// More versions than stay open.
	for range maxOpen + 2 {
		c.hsmkeys(t, "rotate", "k8s")
		c.opens(t, c.encrypt(t, []byte("y")), []byte("y"))
		c.status(t)
	}
	c.opens(t, before, []byte("before"))
	c.opens(t, after, []byte("after"))
}

func TestStates(t *testing.T) {
	c := startCluster(t)
	first := c.encrypt(t, []byte("first"))
	c.hsmkeys(t, "deactivate", "k8s", "--reason", "a test")
	if s := c.status(t); !strings.Contains(s.Healthz, "deactivated") || s.KeyId != first.KeyId {
		t.Errorf("%v", s)
	}
	_, err := c.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte("x")})
	wantCode(t, err, codes.FailedPrecondition, "deactivated")
	c.opens(t, first, []byte("first"))
	c.stop(t)
	c.start(t) // what was encrypted must be readable after the machine was restarted
	c.opens(t, first, []byte("first"))
	c.hsmkeys(t, "activate", "k8s", "--reason", "a test")
	if s := c.status(t); s.Healthz != "ok" {
		t.Errorf("%v", s)
	}
	c.encrypt(t, []byte("x"))

	c.hsmkeys(t, "rotate", "k8s")
	c.hsmkeys(t, "compromised", "k8s@1", "--reason", "a leak")
	c.status(t)
	c.opens(t, first, []byte("first"))
	until(t, "a warning", func() bool { return strings.Contains(c.log.String(), "compromised") })

	c.hsmkeys(t, "destroy", "k8s@1", "--reason", "over", "--yes")
	c.status(t)
	_, err = c.decrypt(t.Context(), first)
	wantCode(t, err, codes.NotFound, "destroyed")
	c.encrypt(t, []byte("x"))
}

func TestCallersAtOnce(t *testing.T) {
	c := startCluster(t)
	var running sync.WaitGroup
	for caller := range 16 {
		running.Go(func() {
			for i := range 20 {
				text := fmt.Sprint(caller, i)
				r, err := c.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte(text)})
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := c.decrypt(t.Context(), r); err != nil || string(got) != text {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	running.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	_, err := c.client.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: []byte("x")})
	wantCode(t, err, codes.DeadlineExceeded, "")
}

func TestStartAndEnd(t *testing.T) {
	c := startCluster(t)
	second := c.command("--key", "k8s", "--socket", c.socket)
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "another process listens there") {
		t.Errorf("%v: %s", err, out)
	}
	if info, err := os.Stat(c.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	c.stop(t)
	if _, err := os.Stat(c.socket); err == nil {
		t.Error("the socket is still there")
	}
	c.start(t)
	r := c.encrypt(t, []byte("kept"))
	_ = c.plugin.Process.Kill() // and the socket stays
	_ = c.plugin.Wait()
	c.start(t)
	c.opens(t, r, []byte("kept"))

	if help, err := c.command("--help").Output(); err != nil || !bytes.Contains(help, []byte("--socket PATH")) {
		t.Errorf("%v: %s", err, help)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--socket", c.socket + "3"}, "--key NAME is missing"},
		{[]string{"--key", "k8s@1", "--socket", c.socket + "3"}, "without a version"},
		{[]string{"--key", "nothing", "--socket", c.socket + "3"}, "not found"},
		{[]string{"--key", "k8s", "--socket", c.socket + "3", "--metrics", "256.0.0.1:1"}, "serve metrics"},
		{[]string{"--key", "k8s", "--socket", c.socket + "3", "more"}, "there are only options"},
		{[]string{"--key", "k8s", "--sokcet", c.socket + "3"}, "--socket"},
	} {
		cmd := c.command(test.args...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), "hsmkeys-kms: ") || !strings.Contains(string(out), test.want) {
			t.Errorf("%q: %v, %s", test.args, err, out)
		}
	}
}

// Who restarts the plugin when it ends would otherwise try a wrong PIN until the token locks.
func TestARefusedPINIsNotTriedAgain(t *testing.T) {
	c := newCluster(t)
	cmd := c.command("--key", "k8s", "--socket", c.socket)
	cmd.Env, cmd.Stderr = append(cmd.Env, "PIN_FOR_TEST=0000000000"), c.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "it tells that it waits", func() bool { return strings.Contains(c.log.String(), "not tried again") })
	if _, err := os.Stat(c.socket); err == nil {
		t.Error("it listens")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 5 || !strings.Contains(c.log.String(), "CKR_PIN_INCORRECT") {
		t.Errorf("%v: %s", cmd.ProcessState, c.log)
	}
}

// A copy is put in the place of the store: the plugin ends, to be started anew with it.
func TestAStoreThatIsExchanged(t *testing.T) {
	c := startCluster(t)
	store := filepath.Join(c.dir, "store")
	if out, err := exec.Command("cp", "-a", store, store+"2").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := errors.Join(os.Rename(store, store+"1"), os.Rename(store+"2", store)); err != nil {
		t.Fatal(err)
	}
	c.hsmkeys(t, "rotate", "k8s")
	if s, err := c.client.Status(t.Context(), &kmsapi.StatusRequest{}); err == nil && s.Healthz == "ok" {
		t.Errorf("%v", s)
	}
	if err := c.plugin.Wait(); err == nil || !strings.Contains(c.log.String(), "exchanged") {
		t.Errorf("%v: %s", err, c.log)
	}
	c.start(t)
	if s := c.status(t); !strings.HasSuffix(s.KeyId, "k8s@2") {
		t.Errorf("%v", s)
	}
}

// The token goes away, which the status tells, and comes back.
func TestATokenThatGoesAway(t *testing.T) {
	c := newCluster(t)
	module, err := c.soft.FaultyModule()
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := c.soft.Tokens()
	if err != nil || len(tokens) != 1 {
		t.Fatalf("%v, %v", tokens, err)
	}
	c.env = append(c.env, "HSMKEYS_MODULE="+module)
	c.start(t)
	r := c.encrypt(t, []byte("kept"))
	if err := tokens[0].Lose(); err != nil {
		t.Fatal(err)
	}
	until(t, "the status tells that the token is away", func() bool { return strings.Contains(c.status(t).Healthz, "the token went away") })
	_, err = c.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte("x")})
	wantCode(t, err, codes.Unavailable, "the token went away")
	_, err = c.decrypt(t.Context(), r)
	wantCode(t, err, codes.Unavailable, "the token went away")
	if err := tokens[0].Restore(); err != nil {
		t.Fatal(err)
	}
	until(t, "the token is back", func() bool { return c.status(t).Healthz == "ok" })
	c.opens(t, r, []byte("kept"))
}

// While the store does not answer, what is open decrypts, and nothing is encrypted.
func TestAStoreThatGoesAway(t *testing.T) {
	server, err := s3test.New(t.Context(), s3test.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	bucket, err := server.MakeBucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	network := s3test.NewDelay(t, server.URL)
	var env []string
	for name, value := range server.Environment() {
		env = append(env, name+"="+value)
	}
	c := newCluster(t, append(env, "AWS_ENDPOINT_URL="+network.URL, "HSMKEYS_STORE=s3://"+bucket+"/keys?path-style=true")...)
	c.start(t)
	r := c.encrypt(t, []byte("kept"))
	network.Set(24 * time.Hour)
	if s := c.status(t); !strings.Contains(s.Healthz, "not answered within") || s.KeyId != r.KeyId {
		t.Errorf("%v", s)
	}
	_, err = c.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: []byte("x")})
	wantCode(t, err, codes.Unavailable, "not answered within")
	c.opens(t, r, []byte("kept"))
	network.Set(0)
	until(t, "the store is back", func() bool { return c.status(t).Healthz == "ok" })
	c.opens(t, c.encrypt(t, []byte("x")), []byte("x"))
}

// The plugin uses an agent, which is locked and unlocked again.
func TestAnAgentThatIsLocked(t *testing.T) {
	c := newCluster(t)
	socket := filepath.Join(filepath.Dir(filepath.Dir(c.socket)), "agent.sock")
	c.env = append(c.env, "HSMKEYS_AGENT="+socket)
	c.hsmkeys(t, "agent")
	t.Cleanup(func() { c.hsmkeys(t, "agent", "stop") })
	withPIN := c.env
	c.env = append(c.env, "HSMKEYS_PIN_SOURCE=env:NO_SUCH_VARIABLE")
	c.start(t)
	r := c.encrypt(t, []byte("kept"))
	c.hsmkeys(t, "agent", "lock")
	if s := c.status(t); !strings.Contains(s.Healthz, "locked") || s.KeyId != r.KeyId {
		t.Errorf("%v", s)
	}
	_, err := c.decrypt(t.Context(), r)
	wantCode(t, err, codes.Unavailable, "locked")
	c.env = withPIN
	c.hsmkeys(t, "agent", "unlock")
	if s := c.status(t); s.Healthz != "ok" {
		t.Errorf("%v", s)
	}
	c.opens(t, r, []byte("kept"))
}

func TestMetrics(t *testing.T) {
	c := newCluster(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	c.start(t, "--metrics", address)
	r := c.encrypt(t, []byte("kept"))
	r.Ciphertext[len(r.Ciphertext)-1] ^= 1
	if _, err := c.decrypt(t.Context(), r); err == nil {
		t.Error("a changed ciphertext was decrypted")
	}
	c.status(t)
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`hsmkeys_kms_operations_total{operation="encrypt",result="ok"} 1`, `hsmkeys_kms_operations_total{operation="decrypt",result="failed"} 1`,
		`hsmkeys_kms_errors_total{operation="decrypt",error="other"} 1`, "hsmkeys_kms_healthy 1", "hsmkeys_kms_session_keys 1", "hsmkeys_kms_sessions ",
	} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
}

// Neither the PIN nor what is encrypted is in what the plugin writes; the identifiers of requests are.
func TestWhatIsLogged(t *testing.T) {
	c := startCluster(t)
	const secret = "correct horse battery staple"
	c.opens(t, c.encrypt(t, []byte(secret)), []byte(secret))
	_, _ = c.client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: bytes.Repeat([]byte(secret), 100), Uid: "too-large\n\x1b[31m"})
	until(t, "the failure is logged", func() bool { return strings.Contains(c.log.String(), "too-large") })
	records, err := os.ReadFile(filepath.Join(c.dir, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`"request":"too-large.*"operation":"encrypt","outcome":"failed"`).Match(records) {
		t.Errorf("a refusal was not recorded:\n%s", records)
	}
	for what, text := range map[string]string{"log": c.log.String(), "records": string(records)} {
		if strings.Contains(text, secret[:10]) || strings.Contains(text, testPIN) || strings.Contains(text, "\x1b") {
			t.Errorf("the %s has a secret or an escape: %s", what, text)
		}
	}
	for _, want := range []string{`"request":"encrypt-1"`, `"request":"decrypt-2"`, `"command":"kms"`} {
		if !strings.Contains(string(records), want) {
			t.Errorf("the records lack %s:\n%s", want, records)
		}
	}
}
