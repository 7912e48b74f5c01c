package server

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// A Policy says which other users may use which keys, and for what. What it does not allow is refused.
type Policy struct{ rules []rule }

type rule struct {
	uids, gids []int
	keys       []string // names, or prefixes that end in a slash
	operations []string // of encrypt and decrypt
}

// maxPolicy is the maximal size of the file of a policy, in bytes.
const maxPolicy = 64 << 10

// ReadPolicy reads a policy from a TOML file of tables [[allow]], each with users or groups, by name or
// number, keys, by name or by a prefix that ends in a slash, and operations, encrypt or decrypt. The
// file must be one that only this user and root can write to. A user or group that does not exist is
// an error: the policy would allow less than it says.
func ReadPolicy(path string) (*Policy, error) {
	data, err := ownfile.Read(path, maxPolicy)
	if err != nil {
		return nil, err
	}
	p, err := parsePolicy(data)
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w", path, err)
	}
	return p, nil
}

func parsePolicy(data []byte) (*Policy, error) {
	var file struct {
		Allow []struct {
			Users, Groups, Keys, Operations []string
		}
	}
	meta, err := toml.Decode(string(data), &file)
	if err != nil {
		return nil, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("%q is no setting of a policy; allow has users, groups, keys and operations", unknown[0].String())
	}
	p := &Policy{}
	for n, a := range file.Allow {
		r := rule{keys: a.Keys, operations: a.Operations}
		if r.uids, err = ids(a.Users, uidOf); err == nil {
			r.gids, err = ids(a.Groups, gidOf)
		}
		if err == nil {
			err = r.check()
		}
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", n+1, err)
		}
		p.rules = append(p.rules, r)
	}
	if len(p.rules) == 0 {
		return nil, errors.New("it allows nothing: it has no table [[allow]]")
	}
	return p, nil
}

func (r rule) check() error {
	if len(r.uids)+len(r.gids) == 0 || len(r.keys) == 0 || len(r.operations) == 0 {
		return errors.New("it needs users or groups, keys, and operations")
	}
	for _, key := range r.keys {
		if err := blob.ValidName(strings.TrimSuffix(key, "/")); err != nil {
			return err
		}
	}
	for _, operation := range r.operations {
		if operation != opEncrypt && operation != opDecrypt {
			return fmt.Errorf("operation %q is not encrypt or decrypt", operation)
		}
	}
	return nil
}

const opEncrypt, opDecrypt = "encrypt", "decrypt"

func ids(names []string, idOf func(string) (string, error)) ([]int, error) {
	var all []int
	for _, name := range names {
		id, err := strconv.Atoi(name)
		if err != nil {
			text, err := idOf(name)
			if err != nil {
				return nil, err
			}
			if id, err = strconv.Atoi(text); err != nil {
				return nil, err
			}
		}
		all = append(all, id)
	}
	return all, nil
}

func uidOf(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func gidOf(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}

// knows reports whether the policy allows a process anything.
func (p *Policy) knows(by peer) bool {
	return slices.ContainsFunc(p.rules, func(r rule) bool { return r.isFor(by) })
}

// check returns an [wire.ErrPolicy] unless a process may do an operation with a key.
func (p *Policy) check(by peer, operation, key string) error {
	for _, r := range p.rules {
		if r.isFor(by) && slices.Contains(r.operations, operation) && slices.ContainsFunc(r.keys, func(name string) bool {
			return name == key || strings.HasSuffix(name, "/") && strings.HasPrefix(key, name)
		}) {
			return nil
		}
	}
	return fmt.Errorf("%s with key %q as user %d: %w", operation, key, by.uid, wire.ErrPolicy)
}

func (r rule) isFor(by peer) bool {
	return slices.Contains(r.uids, by.uid) || slices.ContainsFunc(r.gids, func(gid int) bool { return slices.Contains(by.gids, gid) })
}
