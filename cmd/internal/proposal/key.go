package proposal

import (
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// A Key is what a machine keeps of a proposal of a recovery that it has made, for its user alone: the
// private key to which custodians seal their shares, and the checkpoint that was trusted.
type Key struct {
	Private *ecdh.PrivateKey
	Trusted ledger.Point
}

const (
	keyLabel         = "PRIVATE KEY"
	checkpointHeader = "Checkpoint"
	maxKey           = 4096
)

// keyPath is where the key of a proposal is kept.
func keyPath(p blob.Proposal) (string, error) {
	der, err := blob.MarshalProposal(p)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	dir := settings.XDG("XDG_STATE_HOME", ".local/state", "proposals")
	if dir == "" {
		return "", failure.Usage("neither $XDG_STATE_HOME nor $HOME is an absolute path: the key of the proposal has no place")
	}
	return filepath.Join(dir, hex.EncodeToString(sum[:])+".pem"), nil
}

// Keep stores the key of a proposal, before the proposal is written.
func (k Key) Keep(p blob.Proposal) error {
	path, err := keyPath(p)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.Private)
	if err != nil {
		return err
	}
	defer clear(der)
	data := pem.EncodeToMemory(&pem.Block{Type: keyLabel, Headers: map[string]string{checkpointHeader: k.Trusted.String()}, Bytes: der})
	defer clear(data)
	if err := ownfile.MkdirAll(filepath.Dir(path)); err != nil {
		return fmt.Errorf("keep the key of the proposal: %w", err)
	}
	if err := ownfile.Replace(path, data); err != nil {
		return fmt.Errorf("keep the key of the proposal: %w", err)
	}
	return nil
}

// KeyOf returns the key of a proposal that this user has made on this machine.
func KeyOf(p blob.Proposal) (Key, error) {
	path, err := keyPath(p)
	if err != nil {
		return Key{}, err
	}
	data, err := ownfile.Read(path, maxKey)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, failure.WithHint(failure.NotFound("the key of the request is not here: the recovery is done, the request was withdrawn, or another machine or user has made it"),
			"hsmkeys log shows whether the recovery is done; otherwise run it where hsmkeys quorum request was run")
	}
	if err != nil {
		return Key{}, fmt.Errorf("read the key of the proposal: %w", err)
	}
	defer clear(data)
	k, err := parseKey(data)
	if err != nil {
		return Key{}, fmt.Errorf("read the key of the proposal: %s: %w", path, err)
	}
	return k, nil
}

func parseKey(data []byte) (k Key, err error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != keyLabel {
		return k, fmt.Errorf("no private key: %w", blob.ErrMalformed)
	}
	defer clear(block.Bytes)
	if k.Trusted, err = ledger.ParsePoint(block.Headers[checkpointHeader]); err != nil {
		return k, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return k, err
	}
	switch private := parsed.(type) {
	case *ecdh.PrivateKey:
		k.Private = private
	case interface {
		ECDH() (*ecdh.PrivateKey, error)
	}: // how package x509 returns keys of NIST's curves
		k.Private, err = private.ECDH()
	default:
		err = fmt.Errorf("no EC key: %w", blob.ErrMalformed)
	}
	return k, err
}

// overwrite overwrites a file in its place, if it is one.
func overwrite(path string) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || ownfile.CheckPlace(path) != nil {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteAt(make([]byte, info.Size()), 0)
	_ = f.Sync()
}

// Forget overwrites and deletes the key of a proposal. A file system may keep what was overwritten.
func Forget(p blob.Proposal) error {
	path, err := keyPath(p)
	if err != nil {
		return err
	}
	overwrite(path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete the key of the proposal: %w", err)
	}
	return nil
}
