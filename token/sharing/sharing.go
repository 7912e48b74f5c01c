// Package sharing splits the private key of a pair in memory into shares, of which any that are enough put
// it together again and fewer disclose nothing: Shamir's secret sharing, with Feldman's commitments by
// which each share can be checked alone ("A Practical Scheme for Non-interactive Verifiable Secret
// Sharing", 1987). The key is EC on P-384.
//
// Package circl, which computes this, works with numbers of package math/big and in a time that depends on
// them. What this package can overwrite it does; copies in the memory of math/big and of package
// crypto/ecdsa stay until the garbage collector uses their memory again. So a key is split, or put
// together, on a machine that does nothing else.
package sharing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/hsmkeys/hsmkeys/token/memkey"
	"github.com/hsmkeys/hsmkeys/token/softpair"
)

// Size is the size of a share in bytes, most significant byte first, and that of a private key.
const Size = 48

// ErrShare is the error for a share that does not fit the commitments.
var ErrShare = errors.New("the share is not one of this key")

// A Split is a private key that was split.
type Split struct {
	// Pair is the pair of the private key, for as long as it is needed.
	Pair *softpair.Pair
	// Commitments are points of P-384, uncompressed, as many as the threshold. The first one is the
	// public key.
	Commitments [][]byte
	// Shares are the shares 1 to n. The caller must overwrite them.
	Shares [][]byte
}

// New makes a key, and splits it into n shares, of which threshold put it together.
func New(threshold, n int) (*Split, error) {
	if threshold < 2 || n < threshold {
		return nil, fmt.Errorf("split a key: %d of %d shares: %w", threshold, n, errors.ErrUnsupported)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("split a key: %w", err)
	}
	pair, err := softpair.New(key)
	if err != nil {
		return nil, err
	}
	value, err := key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("split a key: %w", err)
	}
	s := &Split{Pair: pair}
	return s, memkey.WithoutTrace(func() error {
		defer clear(value)
		return s.split(value, threshold, n)
	})
}

func (s *Split) split(value []byte, threshold, n int) error {
	secret, err := scalar(value)
	if err != nil {
		return err
	}
	defer wipe(secret)
	sharing := secretsharing.New(rand.Reader, uint(threshold-1), secret)
	for _, c := range sharing.CommitSecret() {
		point, err := c.MarshalBinary()
		if err != nil {
			return fmt.Errorf("split a key: %w", err)
		}
		s.Commitments = append(s.Commitments, point)
	}
	for _, share := range sharing.Share(uint(n)) {
		value, err := share.Value.MarshalBinary()
		wipe(share.Value)
		if err != nil {
			return fmt.Errorf("split a key: %w", err)
		}
		s.Shares = append(s.Shares, value)
	}
	return nil
}

// Check returns an [ErrShare] unless a share is the one with the index, from 1, of the key with the
// commitments.
func Check(index int, share []byte, commitments [][]byte) error {
	points, err := commitment(commitments)
	if err != nil {
		return err
	}
	return memkey.WithoutTrace(func() error {
		_, err := check(index, share, points)
		return err
	})
}

func check(index int, share []byte, points secretsharing.SecretCommitment) (secretsharing.Share, error) {
	value, err := scalar(share)
	if err != nil || index < 1 {
		return secretsharing.Share{}, fmt.Errorf("share %d: %w", index, ErrShare)
	}
	s := secretsharing.Share{ID: group.P384.NewScalar().SetUint64(uint64(index)), Value: value}
	if !secretsharing.Verify(uint(len(points)-1), s, points) {
		return secretsharing.Share{}, fmt.Errorf("share %d: %w", index, ErrShare)
	}
	return s, nil
}

// Combine puts a private key together from shares by their index, of which there must be as many as there
// are commitments. The caller must overwrite the shares.
func Combine(shares map[int][]byte, commitments [][]byte) (*softpair.Pair, error) {
	points, err := commitment(commitments)
	if err != nil {
		return nil, err
	}
	if len(shares) < len(points) {
		return nil, fmt.Errorf("put a key together: %d shares, and %d are needed: %w", len(shares), len(points), ErrShare)
	}
	var pair *softpair.Pair
	err = memkey.WithoutTrace(func() error {
		pair, err = combine(shares, points, commitments[0])
		return err
	})
	return pair, err
}

func combine(shares map[int][]byte, points secretsharing.SecretCommitment, public []byte) (*softpair.Pair, error) {
	var all []secretsharing.Share
	defer func() {
		for _, s := range all {
			wipe(s.Value)
		}
	}()
	for index, value := range shares {
		s, err := check(index, value, points)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	secret, err := secretsharing.Recover(uint(len(points)-1), all)
	if err != nil {
		return nil, fmt.Errorf("put a key together: %w", err)
	}
	defer wipe(secret)
	value, err := secret.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("put a key together: %w", err)
	}
	defer clear(value)
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), value)
	if err != nil {
		return nil, fmt.Errorf("put a key together: %w", err)
	}
	if point, err := key.PublicKey.Bytes(); err != nil || !bytes.Equal(point, public) {
		return nil, fmt.Errorf("put a key together: %w", ErrShare)
	}
	return softpair.New(key)
}

// scalar reads 48 bytes that are less than the order of P-384.
func scalar(value []byte) (group.Scalar, error) {
	s := group.P384.NewScalar()
	if len(value) != Size {
		return nil, fmt.Errorf("a share of %d bytes: %w", len(value), ErrShare)
	}
	if err := s.UnmarshalBinary(value); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrShare, err)
	}
	return s, nil
}

// wipe overwrites a scalar in its place, which of the methods of package group only CMov does.
func wipe(s group.Scalar) { s.CMov(1, group.P384.NewScalar()) }

// commitment reads points of P-384, of which there are two or more.
func commitment(points [][]byte) (all secretsharing.SecretCommitment, err error) {
	if len(points) < 2 {
		return nil, fmt.Errorf("%d commitments: %w", len(points), ErrShare)
	}
	for i, point := range points {
		e := group.P384.NewElement()
		if len(point) != 1+2*Size || e.UnmarshalBinary(point) != nil {
			return nil, fmt.Errorf("commitment %d is no point of P-384: %w", i, ErrShare)
		}
		all = append(all, e)
	}
	return all, nil
}
