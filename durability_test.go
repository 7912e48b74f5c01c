package hsmkeys_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	dirstore "github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// The tests of durability need processes that can be killed: the test binary runs
// itself, with a job in this variable.
const workerVar = "HSMKEYS_TEST_WORKER"

// worker opens the keyring and does its job: "create PREFIX" creates keys until it
// is killed and prints each name when Create has returned; "rotate NAME COUNT"
// rotates a key and prints the versions.
func worker() int {
	job := strings.Fields(os.Getenv(workerVar))
	err := work(job)
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func work(job []string) error {
	ctx := context.Background()
	module, err := softhsm.FindModule()
	if err != nil {
		return err
	}
	t, err := token.Open(ctx, token.Config{
		Module: module, Token: token.Selector{Label: os.Getenv("TEST_TOKEN")},
		PIN: func(context.Context, token.Info) ([]byte, error) { return []byte(os.Getenv("TEST_PIN")), nil },
	})
	if err != nil {
		return err
	}
	pair, err := t.KeyPair(ctx, token.PairName{Label: "hsmkeys"})
	if err != nil {
		return err
	}
	store, err := dirstore.Open(os.Getenv("TEST_STORE"))
	if err != nil {
		return err
	}
	k, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: pair})
	if err != nil {
		return err
	}
	hsmkeys.RecordEvery(10 * time.Millisecond)
	fmt.Println("ready")
	if job[0] == "rewrap" || job[0] == "recover" {
		return workOnAll(ctx, k, job)
	}
	if job[0] == "create" {
		for i := 0; ; i++ {
			name := fmt.Sprintf("%s-%d", job[1], i)
			if _, err := k.Create(ctx, name, keyspec.AES256, 0); err != nil {
				return err
			}
			fmt.Println(name)
		}
	}
	count, err := strconv.Atoi(job[2])
	if err != nil {
		return err
	}
	for range count {
		e, err := k.Rotate(ctx, job[1], "")
		if err != nil {
			return err
		}
		fmt.Println(e.Version)
	}
	os.Exit(0)
	return nil
}

// workOnAll does "rewrap", or "recover FROM TO" with two certificate files, and ends
// with the number of keys on which something was done.
func workOnAll(ctx context.Context, k *hsmkeys.Keyring, job []string) error {
	refs, err := k.Versions(ctx)
	if err != nil {
		return err
	}
	var results iter.Seq[hsmkeys.Result]
	if job[0] == "rewrap" {
		results = k.Rewrap(ctx, refs, "")
	} else {
		var certificates []*x509.Certificate
		for _, path := range job[1:] {
			der, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return err
			}
			certificates = append(certificates, c)
		}
		r, err := k.BeginRecovery(ctx, certificates[0], blob.Member{Label: "spare", Certificate: certificates[1]}, "a test")
		if err != nil {
			return err
		}
		results = r.Keys(ctx, refs)
	}
	for r := range results {
		if r.Err != nil {
			return r.Err
		}
		if r.Done {
			fmt.Println(r.Ref)
		}
	}
	os.Exit(0)
	return nil
}

// starting lets one worker log in at a time: SoftHSM answers CKR_GENERAL_ERROR to
// a process that logs in while another writes the token's flags, and a PIN is not
// tried twice.
var starting sync.Mutex

// start runs a worker and gives its output after "ready".
func start(t *testing.T, dir, job string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	return startWith(t, "keyring", pin, dir, job)
}

// startWith is start with another token.
func startWith(t *testing.T, label, pin, dir, job string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	starting.Lock()
	defer starting.Unlock()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerVar+"="+job, "TEST_TOKEN="+label, "TEST_PIN="+pin, "TEST_STORE="+dir)
	cmd.Env = append(cmd.Env, env.Environ()...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Errorf("worker: %q, %v", lines.Text(), cmd.Wait())
	}
	return cmd, lines
}

// moments returns at how many moments to kill: all with HSMKEYS_TEST_KILLS=all, or else a
// few of them.
func moments(few, all int) int {
	if os.Getenv("HSMKEYS_TEST_KILLS") == "all" {
		return all
	}
	return few
}

// TestAKilledProcessLosesNothing kills a process that creates keys, with SIGKILL, at random
// moments: in the beginning, and after its first key.
func TestAKilledProcessLosesNothing(t *testing.T) {
	runs := moments(10, 100) // of each lane
	k, _, dir := found(t)
	reported := map[string]bool{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for lane := range 2 { // two at a time, the machine waits otherwise
		all.Go(func() {
			for i := range runs {
				cmd, lines := start(t, dir, fmt.Sprintf("create k%d-%d", lane, i))
				var kill *time.Timer
				killAfter := func(d time.Duration) { kill = time.AfterFunc(1+rand.N(d), func() { cmd.Process.Kill() }) }
				if i%2 == 0 {
					killAfter(60 * time.Millisecond)
				}
				for lines.Scan() {
					mu.Lock()
					reported[lines.Text()] = true
					mu.Unlock()
					if kill == nil { // or after the first key
						killAfter(60 * time.Millisecond)
					}
				}
				kill.Stop()
				cmd.Wait()
			}
		})
	}
	all.Wait()
	if len(reported) < runs {
		t.Fatalf("only %d keys were created in %d runs: the test does not test", len(reported), 2*runs)
	}
	listed := map[string]bool{}
	for e, err := range k.List(context.Background()) {
		if err != nil {
			t.Errorf("listed, and does not verify: %v", err)
		}
		listed[e.Name] = true
	}
	for name := range reported {
		if !listed[name] {
			t.Errorf("%s was reported and is gone", name)
		}
	}
	// No name is stuck: what was not reported can be made or is there, and opens.
	for lane := range 2 {
		for i := range runs {
			for n := 0; ; n++ {
				name := fmt.Sprintf("k%d-%d-%d", lane, i, n)
				if reported[name] {
					continue
				}
				if !listed[name] {
					create(t, k, name)
				}
				key, err := k.Open(context.Background(), hsmkeys.Ref{Name: name})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else {
					key.Close()
				}
				break
			}
		}
	}
	t.Logf("%d keys reported, %d in the store", len(reported), len(listed))
}

// TestKilledRewrapAndRecovery kills rewrap, and then recover, with SIGKILL at random
// moments, lets it finish, and counts.
func TestKilledRewrapAndRecovery(t *testing.T) {
	const keys = 400
	kills := moments(16, 50)
	office, vault, spare := newSite(t, "office"), newSite(t, "vault"), newSite(t, "spare")
	k, store, dir := office.found(t)
	createMany(t, k, keys)
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	files := map[string][]byte{"a letter": encrypt(t, k, "k7", []byte("a letter"))}
	vault.join(t, store, office)

	killed(t, office, dir, "rewrap", keys, kills)
	counted(t, k, keys, 2)
	opens(t, k, keys, files)

	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	for path, s := range map[string]*site{from: office, to: spare} {
		if err := os.WriteFile(path, s.cert.Raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	killed(t, vault, dir, "recover "+from+" "+to, keys, kills)
	k = spare.join(t, store, vault)
	if n := k.State().List; n != 3 {
		t.Errorf("%d lists of members after %d recoveries that were one", n, kills+1)
	}
	counted(t, k, keys, 2) // what a recovery makes is not in the state before rewrap
	opens(t, k, keys, files)
	if n := rewrap(t, k); n != keys {
		t.Errorf("%d keys adopted, not %d", n, keys)
	}
	counted(t, k, keys, 3)
	opens(t, k, keys, files)
}

// killed runs a job until it was killed so many times, and then to its end.
func killed(t *testing.T, s *site, dir, job string, keys, kills int) {
	t.Helper()
	done := map[string]int{}
	// run kills the job after a while, or a while after its first key, or never.
	run := func(kill, afterFirst time.Duration) (reported int) {
		cmd, lines := startWith(t, s.soft.Label, s.soft.PIN, dir, job)
		var timer *time.Timer
		if kill > 0 {
			timer = time.AfterFunc(kill, func() { cmd.Process.Kill() })
		}
		for lines.Scan() {
			done[lines.Text()]++
			if reported++; reported == 1 && afterFirst > 0 {
				timer = time.AfterFunc(afterFirst, func() { cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err != nil && timer == nil {
			t.Errorf("%s: %v", job, err)
		}
		if timer != nil {
			timer.Stop()
		}
		return reported
	}
	inTheMiddle := 0
	for range kills / 2 {
		run(1+rand.N(50*time.Millisecond), 0) // in the beginning, mostly
		if run(0, 1+rand.N(20*time.Millisecond)) > 0 {
			inTheMiddle++
		}
	}
	before := len(done)
	run(0, 0)
	if inTheMiddle < kills/4 || before == keys {
		t.Errorf("%s: only %d of %d runs were killed in the middle, %d keys of %d were done then: the test does not test", job, inTheMiddle, kills, before, keys)
	}
	for ref, n := range done {
		if n > 1 {
			t.Errorf("%s: %s was done %d times", job, ref, n)
		}
	}
	t.Logf("%s: %d runs killed in the middle, %d of %d keys reported before the last", job, inTheMiddle, before, keys)
}

// counted expects each key to have so many revisions, all of them genuine.
func counted(t *testing.T, k *hsmkeys.Keyring, keys, revisions int) {
	t.Helper()
	seen := 0
	for _, ref := range versions(t, k) {
		history, err := k.History(context.Background(), ref.Name)
		if err != nil || len(history) != revisions {
			t.Errorf("%s: %d revisions, not %d, %v", ref, len(history), revisions, err)
		}
		seen++
	}
	if seen != keys {
		t.Errorf("%d keys, not %d", seen, keys)
	}
}

// TestEightProcessesRotateOneKey lets eight processes make versions of the same
// key at once.
func TestEightProcessesRotateOneKey(t *testing.T) {
	const processes, each = 8, 5
	k, _, dir := found(t)
	create(t, k, "payroll")
	var mu sync.Mutex
	seen := map[string]int{}
	var all sync.WaitGroup
	for range processes {
		cmd, lines := start(t, dir, fmt.Sprintf("rotate payroll %d", each))
		all.Go(func() {
			for lines.Scan() {
				mu.Lock()
				seen[lines.Text()]++
				mu.Unlock()
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for version := 2; version <= processes*each+1; version++ {
		if n := seen[strconv.Itoa(version)]; n != 1 {
			t.Errorf("version %d was reported %d times", version, n)
		}
	}
	history, err := k.History(context.Background(), "payroll")
	if err != nil || len(history) != processes*each+1 {
		t.Errorf("%d versions, %v", len(history), err)
	}
	ids := map[string]bool{}
	for _, e := range history {
		ids[e.KeyID] = true
	}
	if len(ids) != len(history) {
		t.Errorf("%d key ids for %d versions", len(ids), len(history))
	}
}

// What somebody puts where the next object belongs keeps nobody busy for ever.
func TestSomethingIsInTheWay(t *testing.T) {
	ctx := context.Background()
	if end, ok := t.Deadline(); ok { // no test of speed: it would never end
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-10*time.Second))
		defer cancel()
	}
	office, vault, spare := newSite(t, "office"), newSite(t, "vault"), newSite(t, "spare")
	k, store, dir := office.found(t)
	create(t, k, "payroll")
	plant := func(path string) func() {
		t.Helper()
		at := filepath.Join(dir, path)
		if err := os.Symlink("elsewhere", at); err != nil {
			t.Fatal(err)
		}
		return func() { os.Remove(at) }
	}
	wantOccupied := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, blob.ErrOccupied) {
			t.Errorf("%s: %v", what, err)
		}
	}

	free := plant(blob.SlotPath(newest(t, store).Number + 1))
	_, err := k.Rotate(ctx, "payroll", "")
	wantOccupied("rotate", err)
	wantOccupied("add a member", k.AddMember(ctx, vault.member(blob.BackupAuthority, "vault")))
	free()
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	refs := versions(t, k)
	free = plant(blob.SlotPath(newest(t, store).Number + 1))
	for r := range k.Rewrap(ctx, refs, "") {
		wantOccupied("rewrap", r.Err)
	}
	free()
	if n := rewrap(t, k); n == 0 {
		t.Error("nothing was rewrapped")
	}

	v := vault.join(t, store, office)
	free = plant(blob.SlotPath(newest(t, store).Number + 1))
	_, err = v.BeginRecovery(ctx, office.cert, spare.member(blob.Owner, "spare"), "a test")
	wantOccupied("begin the recovery", err)
	free()
	if _, err := v.BeginRecovery(ctx, office.cert, spare.member(blob.Owner, "spare"), "a test"); err != nil {
		t.Fatal(err)
	}
}
