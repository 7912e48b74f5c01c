package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/hsmkeys/hsmkeys/scripts/bench/storegen"
)

// growth looks at how commands grow with what is in the store. The owner's pair is one
// from a file, on P-256: the generator signs with it, and the token too.
func (b *bench) growth() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, "growth.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return err
	}
	if _, err := b.output(nil, "hsmkeys", "token", "import-pair", "--label", "growth", file); err != nil {
		return err
	}
	if err := b.byKeys(key); err != nil {
		return err
	}
	if err := b.byVersions(key); err != nil {
		return err
	}
	if err := b.byMembers(key); err != nil {
		return err
	}
	return b.bySessions()
}

const growthToken = "HSMKEYS_TOKEN=pkcs11:token=bench;object=growth"

func (b *bench) store(key *ecdsa.PrivateKey, name string, o storegen.Options) ([]string, error) {
	dir := filepath.Join(b.dir, name)
	o.Owner = key
	log.Printf("making a store of %s keys", number(o.Keys))
	if err := storegen.Make(dir, o); err != nil {
		return nil, err
	}
	env := []string{growthToken, "HSMKEYS_STORE=" + dir}
	_, err := b.output(env, "hsmkeys", "owner", "list") // pins the keyring
	return env, err
}

// byKeys is the growth with the number of keys, and what is promised for the largest store.
func (b *bench) byKeys(key *ecdsa.PrivateKey) error {
	sizes := []int{100, 10_000, b.largest}
	var names []string
	commands := []string{"open", "create", "history", "list", "verify", "drill"}
	seconds := map[string][]float64{}
	var envs [][]string
	rows := [][]string{{"command", "until it prints", "until the end", "peak memory", "to reach"}}
	for _, size := range sizes {
		env, err := b.store(key, fmt.Sprintf("keys-%d", size), storegen.Options{Keys: size, Versions: 1, Members: 2})
		if err != nil {
			return err
		}
		envs = append(envs, env)
		names = append(names, number(size))
		some := storegen.Name(size / 2)
		for _, command := range commands {
			args := map[string][]string{
				"open": {"reveal", some}, "create": {"create", fmt.Sprintf("new-%d", size)}, "history": {"history", some},
				"list": {"list"}, "verify": {"verify"}, "drill": {"drill"},
			}[command]
			u, err := b.watch(env, append([]string{"hsmkeys"}, args...)...)
			if err != nil {
				return err
			}
			log.Printf("%s keys: %s: %.2f s, first %.2f s, %s", number(size), command, u.seconds, u.first, mib(u.peak))
			seconds[command] = append(seconds[command], u.seconds)
			if size == b.largest && (command == "list" || command == "verify" || command == "drill") {
				reach := "< 256 MiB"
				if command == "list" {
					reach = "< 1 s, < 256 MiB"
				}
				rows = append(rows, []string{"`" + command + "`", fmt.Sprintf("%.2f s", u.first), fmt.Sprintf("%.1f s", u.seconds), mib(u.peak), reach})
			}
		}
	}
	u, err := b.watch(envs[len(envs)-1], "hsmkeys", "verify", "--sample", "1%")
	if err != nil {
		return err
	}
	rows = append(rows, []string{"`verify --sample 1%`", fmt.Sprintf("%.2f s", u.first), fmt.Sprintf("%.1f s", u.seconds), mib(u.peak), "< 1 s"})
	b.heading("%s keys in the store", number(b.largest))
	b.table(rows)

	// Open by name, in turns.
	var small, large []float64
	for range 2 * b.rounds {
		for i, env := range [][]string{envs[0], envs[len(envs)-1]} {
			u, err := b.watch(env, "hsmkeys", "reveal", storegen.Name(7))
			if err != nil {
				return err
			}
			if i == 0 {
				small = append(small, u.seconds)
			} else {
				large = append(large, u.seconds)
			}
		}
	}
	fmt.Fprintln(&b.out)
	b.table([][]string{
		{"open by name, one process", "100 keys", number(b.largest) + " keys", "ratio of times", "to reach"},
		{"`reveal NAME`", fmt.Sprintf("%.1f ms", median(small)*1000), fmt.Sprintf("%.1f ms", median(large)*1000), fmt.Sprintf("%.2f", ratio(large, small)), "≤ 1.2"},
	})
	var all []series
	for _, command := range commands {
		all = append(all, series{command, seconds[command]})
	}
	b.heading("Growth")
	for i := range sizes {
		os.RemoveAll(filepath.Join(b.dir, fmt.Sprintf("keys-%d", sizes[i])))
	}
	return b.chart("keys", "whole commands, by the number of keys in the store", names, all)
}

func (b *bench) byVersions(key *ecdsa.PrivateKey) error {
	var names []string
	var open, history, verify []float64
	for _, versions := range []int{1, 10, 100, 1000} {
		env, err := b.store(key, fmt.Sprintf("versions-%d", versions), storegen.Options{Keys: 10, Versions: versions, Members: 2})
		if err != nil {
			return err
		}
		names = append(names, number(versions))
		for _, c := range []struct {
			to   *[]float64
			args []string
		}{{&open, []string{"reveal", storegen.Name(3)}}, {&history, []string{"history", storegen.Name(3)}}, {&verify, []string{"verify"}}} {
			u, err := b.watch(env, append([]string{"hsmkeys"}, c.args...)...)
			if err != nil {
				return err
			}
			*c.to = append(*c.to, u.seconds)
		}
	}
	return b.chart("versions", "ten keys, by the versions of each", names, []series{{"open", open}, {"history", history}, {"verify (all ten)", verify}})
}

func (b *bench) byMembers(key *ecdsa.PrivateKey) error {
	var names []string
	var open, create, list, drill []float64
	for _, members := range []int{1, 4, 16, 64} {
		env, err := b.store(key, fmt.Sprintf("members-%d", members), storegen.Options{Keys: 100, Versions: 1, Members: members})
		if err != nil {
			return err
		}
		names = append(names, number(members))
		for _, c := range []struct {
			to   *[]float64
			args []string
		}{{&open, []string{"reveal", storegen.Name(3)}}, {&create, []string{"create", "new"}}, {&list, []string{"list"}}, {&drill, []string{"drill"}}} {
			u, err := b.watch(env, append([]string{"hsmkeys"}, c.args...)...)
			if err != nil {
				return err
			}
			*c.to = append(*c.to, u.seconds)
		}
	}
	return b.chart("members", "a hundred keys, by the number of members", names, []series{{"open", open}, {"create", create}, {"list", list}, {"drill", drill}})
}

// bySessions rewraps 400 keys of an RSA pair that was born on the token.
func (b *bench) bySessions() error {
	const keys = 400
	store := filepath.Join(b.dir, "sessions")
	env := []string{"HSMKEYS_STORE=" + store, "HSMKEYS_TOKEN=bench"}
	if _, err := b.output(env, "hsmkeys", "init", "--label", "sessions"); err != nil {
		return err
	}
	env[1] = "HSMKEYS_TOKEN=pkcs11:token=bench;object=sessions"
	for i := range keys {
		if _, err := b.output(env, "hsmkeys", "create", fmt.Sprintf("k%03d", i)); err != nil {
			return err
		}
	}
	var names []string
	var rates []float64
	for i, sessions := range []int{1, 2, 4, 8, 16} {
		label := fmt.Sprintf("sessions-%d", i)
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		certificate := filepath.Join(b.dir, label+".pem")
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: storegen.Certificate(other, label).Raw})
		if err := os.WriteFile(certificate, data, 0o600); err != nil {
			return err
		}
		if _, err := b.output(env, "hsmkeys", "authority", "add", "--yes", certificate); err != nil { // so that there is something to do
			return err
		}
		u, err := b.watch(env, "hsmkeys", "rewrap", "--sessions", fmt.Sprint(sessions))
		if err != nil {
			return err
		}
		names = append(names, number(sessions))
		rates = append(rates, u.seconds)
	}
	return b.chart("sessions", fmt.Sprintf("rewrap of %d keys, by --sessions", keys), names, []series{{"rewrap", rates}})
}
