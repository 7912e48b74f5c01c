package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/hsmkeys/hsmkeys/scripts/bench/storegen"
)

// hostileLinks makes very many links to one valid object under each kind of name, which costs
// anyone who can write to the storage next to nothing, and measures the memory of commands.
func (b *bench) hostileLinks() error {
	owner, err := b.stateOwner("hostile")
	if err != nil {
		return err
	}
	const links = 20_000
	key := storegen.Name(0)
	commands := [][]string{
		{"list"}, {"show", key}, {"history", key}, {"log"}, {"verify"}, {"drill"}, {"doctor"}, {"checkpoint"}, {"reveal", key},
		{"rewrap"}, {"rotate", key}, {"store", "compact"},
	}
	digest := func() string {
		random := make([]byte, 32)
		_, _ = rand.Read(random)
		return hex.EncodeToString(random)
	}
	rows := [][]string{{fmt.Sprintf("%s links to one object", number(links)), "most memory", "of", "to reach"}}
	for _, h := range []struct {
		glob  string // the object
		place func(i int) string
	}{
		{"keys/" + key + "/*", func(int) string { return "keys/" + key + "/1.1." + digest() + ".cms" }},
		{"keys/" + key + "/*", func(i int) string { return fmt.Sprintf("keys/%s/%d.1.%s.cms", key, i+2, digest()) }},
		{"keys/" + key + "/*", func(i int) string { return fmt.Sprintf("keys/h%05d/1.1.%s.cms", i, digest()) }},
		{"checkpoints/*", func(int) string { return "checkpoints/" + digest() + ".cms" }},
		{"checkpoints/*", func(i int) string { return fmt.Sprintf("state/%07d/%03d", (i+10)/1000, (i+10)%1000) }},
		{"members/*", func(int) string { return "members/" + digest() + ".der" }},
		{"changes/*", func(int) string { return "changes/" + digest() + ".changes" }},
		{"packs/*", func(int) string { return "packs/" + digest()[:32] + ".pack" }},
		{"proofs/*/*", func(int) string { return filepath.Join("proofs", "*", digest()+".cms") }},
	} {
		env, dir, err := b.store("hostile", "links", storegen.Options{Owner: owner, Keys: 3, Versions: 1, Members: 2, Blobs: 3})
		if err == nil {
			_, err = b.output(env, "hsmkeys", "drill", "--prove")
		}
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			return err
		}
		if err := link(dir, h.glob, links, h.place); err != nil {
			return err
		}
		var worst use
		var command []string
		for _, c := range commands {
			u, err := b.watch(env, append([]string{"hsmkeys"}, c...)...)
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				return err
			}
			if u.peak > worst.peak {
				worst, command = u, c
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		log.Printf("%s: %s, %v", h.place(0), mib(worst.peak), command)
		rows = append(rows, []string{"`" + h.place(0)[:min(24, len(h.place(0)))] + "…`", mib(worst.peak), fmt.Sprintf("`%s`", command[0]), "≤ 64 MiB"})
	}
	b.heading("Hostile links")
	b.table(rows)
	return nil
}

// link makes links to the first object that matches glob. A * in a new path stands for the
// same part of the object's path.
func link(dir, glob string, links int, place func(int) string) error {
	found, err := filepath.Glob(filepath.Join(dir, glob))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("no %s in the store: %w", glob, err)
	}
	slices.Sort(found)
	for i := range links {
		at := filepath.Join(dir, place(i))
		if filepath.Base(filepath.Dir(at)) == "*" {
			at = filepath.Join(filepath.Dir(found[0]), filepath.Base(at))
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			return err
		}
		if err := os.Link(found[0], at); err != nil {
			return err
		}
	}
	return nil
}
