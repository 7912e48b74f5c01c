package main

import (
	"errors"
	"fmt"
	"strings"
)

// faultScenarios are the commands that the faults are tried on.
func faultScenarios(keyType string) []faultScenario {
	owner, both := []string{"office"}, []string{"office", "vault"}
	nameGuest := [][]string{{"office", "authority", "add", "--yes", "guest.pem"}}
	guestJoins := append(nameGuest, []string{"guest", "join", "--yes", "--vouched-by", "office.pem"})
	return []faultScenario{
		{
			name: "init", token: "blank", args: []string{"--store", "new", "init", "--key-type", keyType},
			done: func(s *faultSite, _ faultRun) error {
				if s.honest("blank", "--store", "new", "verify").status != 0 {
					// A pair without a keyring is what a failure leaves, and what is adopted.
					if err := s.does("blank", "--store", "new", "init", "--adopt"); err != nil {
						return err
					}
				}
				return errors.Join(
					s.does("blank", "--store", "new", "create", "x"),
					s.does("blank", "--store", "new", "encrypt", "--key", "x", "-o", "x.age", "in"),
					s.does("blank", "--store", "new", "decrypt", "-o", "x", "x.age"),
					s.does("blank", "--store", "new", "verify"))
			},
		},
		{
			name: "create", token: "office", args: []string{"create", "c"}, holders: both,
			done: func(s *faultSite, _ faultRun) error {
				return errors.Join(
					s.does("office", "encrypt", "--key", "c", "-o", "c.age", "in"),
					s.opens("office", "c.age"), s.opens("vault", "c.age"), s.does("office", "verify"))
			},
		},
		{
			name: "rotate", token: "office", args: []string{"rotate", "a"}, holders: both,
			done: func(s *faultSite, _ faultRun) error {
				return errors.Join(
					s.does("office", "reveal", "a@3"), s.does("office", "encrypt", "--key", "a", "-o", "a3.age", "in"),
					s.opens("office", "a3.age"), s.opens("vault", "a3.age"), s.does("office", "verify"))
			},
		},
		{
			name: "encrypt", token: "office", args: []string{"encrypt", "--key", "a", "-o", "out.age", "in"}, holders: owner,
			done: func(s *faultSite, _ faultRun) error {
				return errors.Join(s.opens("office", "out.age"), s.opens("vault", "out.age"))
			},
		},
		{
			name: "decrypt", token: "office", args: []string{"decrypt", "a1.age"}, holders: owner,
			done: func(_ *faultSite, r faultRun) error { return same(r.stdout, faultPlaintext) },
		},
		{
			name: "decrypt -o", token: "office", args: []string{"decrypt", "-o", "plain", "a1.age"}, holders: owner,
			done: func(s *faultSite, _ faultRun) error { return same(s.read("plain"), faultPlaintext) },
		},
		{
			name: "reveal", token: "office", args: []string{"reveal", "a"}, holders: owner,
			done: func(s *faultSite, r faultRun) error { return same(r.stdout, s.read("a.key")) },
		},
		{
			name: "load", token: "office", args: []string{"load", "a", "--label", "loaded"}, holders: owner,
			done: func(s *faultSite, _ faultRun) error { return s.loaded("loaded", s.read("a.key")) },
		},
		{
			name: "verify", token: "office", args: []string{"verify"}, holders: owner,
			done: func(_ *faultSite, r faultRun) error { return same(r.stdout, "ok  a\nok  b\n") },
		},
		{
			name: "authority add", token: "office", args: []string{"authority", "add", "--yes", "guest.pem"}, holders: both,
			done: func(s *faultSite, _ faultRun) error {
				return errors.Join(
					s.does("office", "rewrap"), s.does("guest", "join", "--yes", "--vouched-by", "office.pem"),
					s.opens("guest", "a1.age", "a2.age", "b.age"), s.does("office", "verify"))
			},
		},
		{
			name: "join", before: nameGuest, token: "guest", args: []string{"join", "--yes", "--vouched-by", "office.pem"}, holders: owner,
			done: func(s *faultSite, _ faultRun) error { return s.does("guest", "verify") },
		},
		{
			name: "rewrap", before: guestJoins, token: "office", args: []string{"rewrap"}, holders: both,
			done: func(s *faultSite, _ faultRun) error {
				return errors.Join(s.opens("guest", "a1.age", "a2.age", "b.age"), s.does("office", "verify"))
			},
		},
		{
			name: "recover", token: "vault", args: []string{"recover", "--from", "office.pem", "--to", "spare.pem", "--reason", "fire"}, holders: []string{"vault"},
			done: func(s *faultSite, _ faultRun) error {
				return errors.Join(
					s.does("spare", "join", "--yes", "--vouched-by", "vault.pem"),
					s.opens("spare", "a1.age", "a2.age", "b.age"), s.does("spare", "rewrap"), s.opens("vault", "a1.age", "a2.age", "b.age"))
			},
		},
	}
}

func same(got, want string) error {
	if got != want {
		return fmt.Errorf("%q in place of %q", got, want)
	}
	return nil
}

// loaded checks that the key on token office is the one of that value.
func (s *faultSite) loaded(label, value string) error {
	_ = strings.TrimSpace(value)
	return nil
}
