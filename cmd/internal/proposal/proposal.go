// Package proposal reads and writes the files that go between machines when several people change a
// keyring: proposals, approvals, and the private key of a machine that recovers.
package proposal

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
)

// Labels of PEM blocks (RFC 7468).
const (
	proposalLabel = "HSMKEYS PROPOSAL"
	approvalLabel = "HSMKEYS APPROVAL"
	shareLabel    = "HSMKEYS SHARE"
)

// maxFile is the size limit of a file in PEM, in bytes: base64 of a few objects.
const maxFile = 2 * blob.MaxSize

// Write writes a proposal to a file, or to stdout if path is "-" or empty.
func Write(ctx context.Context, path string, p blob.Proposal) error {
	der, err := blob.MarshalProposal(p)
	if err != nil {
		return err
	}
	return datafile.Write(ctx, path, func(w io.Writer) error {
		return pem.Encode(w, &pem.Block{Type: proposalLabel, Bytes: der})
	})
}

// Fingerprint returns the SHA-256 of a proposal, as it is written to be compared: it stands for all of it, the
// key of the recovering machine too.
func Fingerprint(p blob.Proposal) (string, error) {
	der, err := blob.MarshalProposal(p)
	var parts []string
	for _, b := range sha256.Sum256(der) {
		parts = append(parts, fmt.Sprintf("%02X", b))
	}
	return "SHA-256 " + strings.Join(parts, ":"), err
}

// Read reads a proposal.
func Read(path string) (blob.Proposal, error) {
	blocks, err := read(path, proposalLabel)
	if err != nil {
		return blob.Proposal{}, err
	}
	p, err := blob.ParseProposal(blocks[0])
	if err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// WriteApproval writes the approval of a custodian, with the share in it.
func WriteApproval(ctx context.Context, path string, a hsmkeys.Approval) error {
	share, err := a.Share.Marshal()
	if err != nil {
		return err
	}
	return datafile.Write(ctx, path, func(w io.Writer) error {
		return errors.Join(pem.Encode(w, &pem.Block{Type: approvalLabel, Bytes: a.Signed}), pem.Encode(w, &pem.Block{Type: shareLabel, Bytes: share}))
	})
}

// ReadApproval reads the approval of a custodian.
func ReadApproval(path string) (hsmkeys.Approval, error) {
	blocks, err := read(path, approvalLabel, shareLabel)
	if err != nil {
		return hsmkeys.Approval{}, err
	}
	share, err := blob.ParseSealed(blocks[1])
	if err != nil {
		return hsmkeys.Approval{}, fmt.Errorf("%s: %w", path, err)
	}
	return hsmkeys.Approval{Signed: blocks[0], Share: share}, nil
}

// read reads a file that has one PEM block for each label, in their order, and nothing but text beside.
func read(path string, labels ...string) ([][]byte, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var blocks [][]byte
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if len(blocks) == len(labels) || block.Type != labels[len(blocks)] {
			return nil, fmt.Errorf("%s: the PEM block %q is not what belongs there: %w", path, block.Type, blob.ErrMalformed)
		}
		blocks, data = append(blocks, block.Bytes), rest
	}
	if len(blocks) < len(labels) {
		return nil, fmt.Errorf("%s: there is no PEM block %q: %w", path, labels[len(blocks)], blob.ErrMalformed)
	}
	return blocks, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes: %w", path, maxFile, blob.ErrTooLarge)
	}
	return data, err
}
