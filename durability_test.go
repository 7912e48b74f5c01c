package hsmkeys_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
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
		Module: module, Token: token.Selector{Label: "keyring"},
		PIN: func(context.Context, token.Info) ([]byte, error) { return []byte(os.Getenv("TEST_PIN")), nil },
	})
	if err != nil {
		return err
	}
	pair, err := t.KeyPair(ctx, token.PairName{Label: "hsmkeys"})
	if err != nil {
		return err
	}
	store, err := blob.OpenDir(os.Getenv("TEST_STORE"))
	if err != nil {
		return err
	}
	k, err := hsmkeys.OpenKeyring(ctx, t, pair, store, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if job[0] == "create" {
		for i := 0; ; i++ {
			name := fmt.Sprintf("%s-%d", job[1], i)
			if _, err := k.Create(ctx, name, blob.AES256, 0); err != nil {
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
		e, err := k.Rotate(ctx, job[1])
		if err != nil {
			return err
		}
		fmt.Println(e.Version)
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
	starting.Lock()
	defer starting.Unlock()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerVar+"="+job, "TEST_PIN="+pin, "TEST_STORE="+dir)
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

// TestAKilledProcessLosesNothing kills a process that creates keys, with SIGKILL,
// at 200 random moments.
func TestAKilledProcessLosesNothing(t *testing.T) {
	k, _, dir := found(t)
	reported := map[string]bool{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for lane := range 2 { // two at a time, the machine waits otherwise
		all.Go(func() {
			for i := range 100 {
				cmd, lines := start(t, dir, fmt.Sprintf("create k%d-%d", lane, i))
				kill := time.AfterFunc(time.Duration(rand.IntN(60_000))*time.Microsecond, func() { cmd.Process.Kill() })
				for lines.Scan() {
					mu.Lock()
					reported[lines.Text()] = true
					mu.Unlock()
				}
				kill.Stop()
				cmd.Wait()
			}
		})
	}
	all.Wait()
	if len(reported) < 100 {
		t.Fatalf("only %d keys were created in 200 runs: the test does not test", len(reported))
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
		for i := range 100 {
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
