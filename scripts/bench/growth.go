package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/hsmkeys/hsmkeys/scripts/bench/storegen"
)

// growth measures how the time of commands grows with the contents of the store. The owner's
// pair comes from a file, on P-256: both the generator and the token sign with it.
func (b *bench) growth() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := b.importPair(key, "growth"); err != nil {
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

// byKeys measures the growth with the number of keys, and verify on the largest store.
func (b *bench) byKeys(key *ecdsa.PrivateKey) error {
	sizes := []int{100, 10_000, b.largest}
	var names []string
	commands := []string{"open", "create", "history", "list", "verify", "drill"}
	seconds := map[string][]float64{}
	var largest []string
	rows := [][]string{{"command", "until it prints", "until the end", "peak memory", "to reach"}}
	for _, size := range sizes {
		env, dir, err := b.store("growth", fmt.Sprintf("keys-%d", size), storegen.Options{Owner: key, Keys: size, Versions: 1, Members: 2, Blobs: size})
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		largest = env
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
			if size == b.largest && command == "verify" {
				rows = append(rows, []string{"`verify`", fmt.Sprintf("%.2f s", u.first), fmt.Sprintf("%.1f s", u.seconds), mib(u.peak), "< 256 MiB"})
			}
		}
	}
	u, err := b.watch(largest, "hsmkeys", "verify", "--sample", "1%")
	if err != nil {
		return err
	}
	rows = append(rows, []string{"`verify --sample 1%`", fmt.Sprintf("%.2f s", u.first), fmt.Sprintf("%.1f s", u.seconds), mib(u.peak), "< 1 s"})
	b.heading("%s keys in the store", number(b.largest))
	b.table(rows)
	var all []series
	for _, command := range commands {
		all = append(all, series{command, seconds[command]})
	}
	b.heading("Growth")
	return b.chart("keys", "whole commands, by the number of keys in the store", names, all)
}

func (b *bench) byVersions(key *ecdsa.PrivateKey) error {
	var names []string
	var open, history, verify []float64
	for _, versions := range []int{1, 10, 100, 1000} {
		env, _, err := b.store("growth", fmt.Sprintf("versions-%d", versions), storegen.Options{Owner: key, Keys: 10, Versions: versions, Members: 2, Blobs: 10})
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
		env, _, err := b.store("growth", fmt.Sprintf("members-%d", members), storegen.Options{Owner: key, Keys: 100, Versions: 1, Members: members, Blobs: 100})
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

// bySessions rewraps 400 keys of an RSA pair that was generated on the token.
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
		if err := b.writeCertificate(other, label); err != nil {
			return err
		}
		if _, err := b.output(env, "hsmkeys", "authority", "add", "--yes", b.certificate(label)); err != nil { // so that there is something to do
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
