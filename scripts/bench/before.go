package main

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/hsmkeys/hsmkeys/scripts/bench/storegen"
	"github.com/hsmkeys/hsmkeys/softhsm"
)

// beforeState is the last commit at which a keyring had no signed state, and wrapped keys
// were not read back.
const beforeState = "eeae67c"

// makeBefore is the program that makes a store for that commit.
const makeBefore = `package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"log"
	"os"
	"strconv"

	"github.com/hsmkeys/hsmkeys/scripts/bench/storegen"
)

func main() {
	data, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		log.Fatal(err)
	}
	keys, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	if err := storegen.Make(os.Args[2], storegen.Options{Owner: key.(crypto.Signer), Keys: keys, Versions: 1, Members: 2}); err != nil {
		log.Fatal(err)
	}
}
`

// before compares commands with those of the commit before the signed state, each with a
// token of its own.
func (b *bench) before() error {
	if _, err := b.output(nil, "git", "cat-file", "-e", beforeState+"^{commit}"); err != nil {
		log.Printf("commit %s is not in this repository: skipped", beforeState)
		return nil
	}
	if err := b.buildBefore(); err != nil {
		return err
	}
	owner, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return err
	}
	if err := b.importPair(owner, "before"); err != nil { // for its file
		return err
	}
	rows := [][]string{{"`--read-back none`", "now", beforeState, "ratio of times", "to reach"}}
	create, err := b.createBeside(owner)
	if err != nil {
		return err
	}
	rows = append(rows, create)
	memory, err := os.MkdirTemp("/dev/shm", "hsmkeys-bench-")
	switch {
	case errors.Is(err, os.ErrNotExist):
		log.Print("no tmpfs at /dev/shm: rewrap is skipped")
	case err != nil:
		return err
	default:
		defer os.RemoveAll(memory)
		rewrap, err := b.rewrapBeside(owner, memory)
		if err != nil {
			return err
		}
		rows = append(rows, rewrap)
	}
	b.heading("Beside the commit before the signed state")
	b.table(rows)
	return nil
}

// buildBefore builds the program of that commit, and the program that makes stores for it.
func (b *bench) buildBefore() (err error) {
	tree := filepath.Join(b.dir, "before")
	if _, err := b.output(nil, "git", "worktree", "add", "--detach", tree, beforeState); err != nil {
		return err
	}
	defer func() {
		_, removed := b.output(nil, "git", "worktree", "remove", "--force", tree)
		err = errors.Join(err, removed)
	}()
	maker := filepath.Join(tree, "scripts/bench/make")
	if err := os.MkdirAll(maker, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(maker, "main.go"), []byte(makeBefore), 0o600); err != nil {
		return err
	}
	for name, pkg := range map[string]string{"hsmkeys-before": "./cmd/hsmkeys", "make-before": "./scripts/bench/make"} {
		if _, err := b.output(nil, "go", "-C", tree, "build", "-o", filepath.Join(b.bin, name), pkg); err != nil {
			return err
		}
	}
	return nil
}

// A side is a program with a token, a home and a store of its own.
type side struct {
	program string
	none    []string // the option for --read-back none
	env     []string
	close   func() error
}

// sides makes stores with the given number of keys, for the current program and the earlier one.
func (b *bench) sides(owner *rsa.PrivateKey, dir string, keys int) (sides []*side, err error) {
	file := filepath.Join(b.dir, "before.key")
	for _, s := range []*side{{program: "hsmkeys", none: []string{"--read-back", "none"}}, {program: "hsmkeys-before"}} {
		store, home := filepath.Join(dir, s.program), filepath.Join(dir, s.program+"-home")
		if err := os.MkdirAll(home, 0o700); err != nil {
			return sides, err
		}
		token, err := softhsm.New()
		if err != nil {
			return sides, err
		}
		s.close = token.Close
		sides = append(sides, s)
		t, err := token.InitToken("bench")
		if err != nil {
			return sides, err
		}
		pin := filepath.Join(home, "pin")
		if err := os.WriteFile(pin, []byte(t.PIN), 0o600); err != nil {
			return sides, err
		}
		s.env = append(token.Environ(), "HSMKEYS_PIN_SOURCE=file:"+pin, "HOME="+home, "HSMKEYS_STORE="+store)
		if _, err := b.output(s.env, s.program, "token", "import-pair", file); err != nil {
			return sides, err
		}
		if s.none == nil {
			if _, err := b.output(nil, "make-before", file, store, strconv.Itoa(keys)); err != nil {
				return sides, err
			}
			_, err = b.output(s.env, s.program, "owner", "list") // pins the keyring
		} else {
			if err := storegen.Make(store, storegen.Options{Owner: owner, Keys: keys, Versions: 1, Members: 2, Blobs: keys}); err != nil {
				return sides, err
			}
			_, err = b.output(s.env, s.program, "join", "--yes", "--vouched-by", b.certificate("before"))
		}
		if err != nil {
			return sides, err
		}
	}
	return sides, nil
}

// beside runs a command on both sides, alternately, and returns a row of a table. It calls
// prepare before each run, untimed.
func (b *bench) beside(sides []*side, rounds int, title, reach string, prepare func(s *side, round int) error, args func(round int) []string) ([]string, error) {
	seconds := make([][]float64, len(sides))
	for round := range rounds + 1 {
		for i, s := range sides {
			if err := prepare(s, round); err != nil {
				return nil, err
			}
			syscall.Sync() // what others left to write is not this one's
			u, err := b.watch(s.env, slices.Concat([]string{s.program}, args(round)[:1], s.none, args(round)[1:])...)
			if err != nil {
				return nil, err
			}
			if round > 0 { // the first warms up
				seconds[i] = append(seconds[i], u.seconds)
			}
		}
	}
	log.Printf("%s: %.3f s, before %.3f s, ratio %.2f", title, median(seconds[0]), median(seconds[1]), ratio(seconds[0], seconds[1]))
	return []string{title, fmt.Sprintf("%.3f s", median(seconds[0])), fmt.Sprintf("%.3f s", median(seconds[1])), fmt.Sprintf("%.2f", ratio(seconds[0], seconds[1])), reach}, nil
}

func closeSides(sides []*side) {
	for _, s := range sides {
		if err := s.close(); err != nil {
			log.Print(err)
		}
	}
}

// createBeside makes one key with each process, on the disk.
func (b *bench) createBeside(owner *rsa.PrivateKey) ([]string, error) {
	sides, err := b.sides(owner, filepath.Join(b.dir, "beside"), 10)
	defer closeSides(sides)
	if err != nil {
		return nil, err
	}
	return b.beside(sides, 4*b.rounds, "one `create`", "≤ 1.4", func(*side, int) error { return nil },
		func(round int) []string { return []string{"create", fmt.Sprintf("new-%d", round)} })
}

// rewrapBeside rewraps many keys to one more authority each time, in memory.
func (b *bench) rewrapBeside(owner *rsa.PrivateKey, dir string) ([]string, error) {
	const keys = 10_000
	log.Printf("making two stores of %s keys", number(keys))
	sides, err := b.sides(owner, dir, keys)
	defer closeSides(sides)
	if err != nil {
		return nil, err
	}
	another := func(s *side, round int) error {
		label := fmt.Sprintf("authority-of-round-%d", round)
		if _, err := os.Stat(b.certificate(label)); err != nil {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				return err
			}
			if err := b.writeCertificate(key, label); err != nil {
				return err
			}
		}
		_, err := b.output(s.env, s.program, "authority", "add", "--yes", b.certificate(label))
		return err
	}
	return b.beside(sides, 2, fmt.Sprintf("`rewrap` of %s keys, tmpfs", number(keys)), "≤ 1.05", another, func(int) []string { return []string{"rewrap"} })
}
