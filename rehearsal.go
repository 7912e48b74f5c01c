package hsmkeys

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Spare is the throw-away token of a rehearsal: the token of the new owner on another machine.
type Spare interface {
	// Certificate returns the certificate of the token's pair.
	Certificate(context.Context) (*x509.Certificate, error)

	// Take does what a new owner does after a recovery, in the copy of the keyring: the token joins it,
	// vouched for by a certificate, takes over one key, and decrypts a file.
	Take(ctx context.Context, voucher *x509.Certificate, key string, file []byte) ([]byte, error)

	// String returns what the token is, in 1 to 128 bytes.
	fmt.Stringer
}

// RehearsalOptions are how a recovery is rehearsed.
type RehearsalOptions struct {
	Canary string     // name of the key, see [IsCanary]
	Copy   blob.Store // empty, for the copy of the state, a [ledger.RehearsalStore] for whoever opens it
	Pins   *Pins      // of the copy, as nothing is pinned for the rehearsal but there
	Spare  Spare
	From   blob.Member // the owner who is taken for lost; the zero value means the first one

	Program string // name and version, 1 to 128 bytes

	// Begin begins the recovery in the copy; nil calls [Keyring.BeginRecovery]. A quorum's custodians
	// have approved the recovery before, see [Keyring.BeginApproved].
	Begin func(ctx context.Context, copied *Keyring) (*Recovery, error)
}

// IsCanary reports whether a key is for rehearsals alone: its name is canary, or ends in /canary.
func IsCanary(name string) bool { return name == "canary" || strings.HasSuffix(name, "/canary") }

// ErrNoCanary is the error for a rehearsal for which no key is made. It is a [blob.ErrNotFound].
var ErrNoCanary = fmt.Errorf("there is no key for rehearsals: %w", blob.ErrNotFound)

// Rehearse walks a recovery from end to end, with the pair of a backup authority, in a copy of the state
// and for one key alone: a file is encrypted under the key, the recovery is begun, the key recovered to the
// spare token, that joins, takes the key over and decrypts the file. Then it stores a signed statement that
// this was done, and returns it. Nothing else in the store is changed, and no pin moves.
//
// The caller removes the copy and the spare token. It is an [ErrRole] for an owner, and an [ErrNoCanary]
// if the key does not exist.
func (k *Keyring) Rehearse(ctx context.Context, o RehearsalOptions) (r blob.Rehearsal, err error) {
	err = k.recorder.changing(ctx, Use{Operation: OpRehearse, Key: o.Canary}, "", func(ctx context.Context, i *intent) (err error) {
		r, err = k.rehearseRecovery(ctx, o, i)
		return err
	})
	return r, err
}

func (k *Keyring) rehearseRecovery(ctx context.Context, o RehearsalOptions, i *intent) (blob.Rehearsal, error) {
	const op = "rehearse the recovery"
	begun := time.Now()
	refs, e, err := k.mayRehearse(ctx, op, &o)
	if err != nil {
		return blob.Rehearsal{}, err
	}
	if err := i.begin(Use{}); err != nil {
		return blob.Rehearsal{}, err
	}
	fail := func(step string, err error) (blob.Rehearsal, error) {
		return blob.Rehearsal{}, fmt.Errorf("%s: %s: %w", op, step, err)
	}
	text := make([]byte, 32)
	_, _ = rand.Read(text) // never fails
	file, err := k.encryptBytes(ctx, Ref{Name: o.Canary, Version: e.version}, text)
	if err != nil {
		return fail("encrypt a file", err)
	}
	if _, err := ledger.Copy(ctx, onlyKey{k.store, e.names}, o.Copy, nil); err != nil {
		return fail("copy the state", err)
	}
	at := k.view().At()
	copied, err := Open(ctx, Options{Store: ledger.RehearsalStore{Store: o.Copy}, Pair: k.pair, Pins: o.Pins, Keyring: k.ID(), Checkpoint: &at, Warn: k.options.Warn})
	if err != nil {
		return fail("open the copy", err)
	}
	recovery, err := o.Begin(ctx, copied)
	if err != nil {
		return fail("in the copy", err)
	}
	for result := range recovery.Keys(ctx, refs) {
		if result.Err != nil {
			return fail("in the copy", result.Err)
		}
	}
	got, err := o.Spare.Take(ctx, k.rehearsalVoucher(o.From), o.Canary, file)
	if err != nil {
		return fail("as the new owner", err)
	}
	if !bytes.Equal(got, text) {
		return fail("as the new owner", fmt.Errorf("the file was decrypted to something else: %w", blob.ErrIntegrity))
	}
	now := time.Now()
	r := blob.Rehearsal{
		KeyringID: k.ID(), Created: now, Seconds: int(now.Sub(begun) / time.Second), Checkpoint: at.Number, List: k.ListNumber(),
		From: []byte(keyID(o.From)), Canary: o.Canary, Version: e.version, Blob: e.digest, Program: o.Program, Spare: o.Spare.String(),
	}
	return r, k.putRehearsal(ctx, r)
}

// mayRehearse returns the versions of the canary and its newest one, once it has found that the pair is a
// backup authority's and may sign. It sets the defaults.
func (k *Keyring) mayRehearse(ctx context.Context, op string, o *RehearsalOptions) ([]Ref, canary, error) {
	if err := k.refresh(ctx); err != nil {
		return nil, canary{}, err
	}
	if err := k.maySign(op); err != nil {
		return nil, canary{}, err
	}
	self := k.Self()
	if self.Role != blob.BackupAuthority {
		return nil, canary{}, withFacts(fmt.Errorf("%s: %q is an owner: %w", op, self.Label, ErrRole), ErrOwnerRehearses)
	}
	if !IsCanary(o.Canary) {
		return nil, canary{}, fmt.Errorf("%s: key %q is not called canary, and could be in use: %w", op, o.Canary, ErrNoCanary)
	}
	refs, err := k.Versions(ctx, o.Canary)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity) {
		err = fmt.Errorf("%s: key %q: %w", op, o.Canary, ErrNoCanary)
	}
	if err != nil {
		return nil, canary{}, err
	}
	e, err := k.entryNamed(ctx, o.Canary)
	if err != nil {
		return nil, canary{}, err
	}
	v, err := k.view().Version(ctx, e, 0)
	if err != nil {
		return nil, canary{}, withFacts(fmt.Errorf("%s: %w", op, err), &NoCurrentVersion{o.Canary})
	}
	if o.From.Certificate == nil {
		all := k.Members()
		o.From = all[slices.IndexFunc(all, func(m blob.Member) bool { return m.Role == blob.Owner })]
	}
	if o.Begin == nil {
		o.Begin = func(ctx context.Context, copied *Keyring) (*Recovery, error) { return copied.beginRehearsed(ctx, o) }
	}
	return refs, canary{append(slices.Clone(e.Earlier), e.Name), v.Number, v.Blob}, nil
}

// rehearsalVoucher returns the certificate that vouches for the keyring to the new owner: the authority's own,
// or for a quorum, which vouches for nothing, that of an owner.
func (k *Keyring) rehearsalVoucher(from blob.Member) *x509.Certificate {
	by := k.Self()
	if by.Quorum != nil {
		if by, _ = k.view().HeadSigner(); by.Role != blob.Owner {
			by = from
		}
	}
	if by.Signing != nil {
		return by.Signing
	}
	return by.Certificate
}

// A canary is the version of a key that is rehearsed.
type canary struct {
	names   []string // of the key, today and before
	version int
	digest  [32]byte
}

// RehearsalReason is the reason of a recovery that is only rehearsed.
const RehearsalReason = "rehearsal"

// beginRehearsed begins the recovery in the copy.
func (k *Keyring) beginRehearsed(ctx context.Context, o *RehearsalOptions) (*Recovery, error) {
	certificate, err := o.Spare.Certificate(ctx)
	if err != nil {
		return nil, err
	}
	return k.BeginRecovery(ctx, o.From.Certificate, SpareMember(certificate), RehearsalReason)
}

// SpareMember returns the member that a spare token becomes, with a label that no other one has.
func SpareMember(certificate *x509.Certificate) blob.Member {
	id, _ := blob.PublicKeyID(certificate.PublicKey) // BeginRecovery refuses a key without
	return blob.Member{Role: blob.Owner, Label: "rehearsal " + hex.EncodeToString(id), Certificate: certificate}
}

// encryptBytes encrypts a short text.
func (k *Keyring) encryptBytes(ctx context.Context, ref Ref, text []byte) ([]byte, error) {
	var file bytes.Buffer
	w, err := k.Encrypt(ctx, &file, []Ref{ref})
	if err != nil {
		return nil, err
	}
	_, err = w.Write(text)
	err = errors.Join(err, w.Close())
	return file.Bytes(), err
}

// putRehearsal signs and stores a rehearsal.
func (k *Keyring) putRehearsal(ctx context.Context, r blob.Rehearsal) error {
	signed, err := blob.SignRehearsal(r, k.signs(), r.Created)
	if err != nil {
		return err
	}
	return k.store.Put(ctx, blob.RehearsalPath(k.signer, signed.Digest()), signed.Bytes())
}

// Rehearsals returns the rehearsals that a backup authority has signed, oldest first. One that does not
// verify is reported to failed, and counts for nothing.
func (k *Keyring) Rehearsals(ctx context.Context, m blob.Member, failed func(error)) ([]blob.Rehearsal, error) {
	var all []blob.Rehearsal
	for path, err := range k.store.List(ctx, blob.RehearsalsPrefix+hex.EncodeToString([]byte(signerID(m)))+"/") {
		if err != nil {
			return nil, fmt.Errorf("look for rehearsals: %w", err)
		}
		r, err := k.rehearsal(ctx, path, m)
		if err != nil {
			failed(fmt.Errorf("rehearsal %s: %w", path, err))
			continue
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b blob.Rehearsal) int { return a.Created.Compare(b.Created) })
	return all, nil
}

func (k *Keyring) rehearsal(ctx context.Context, path string, m blob.Member) (blob.Rehearsal, error) {
	_, digest, ok := blob.ParseRehearsalPath(path)
	if !ok {
		return blob.Rehearsal{}, fmt.Errorf("%w: no rehearsal", blob.ErrName)
	}
	der, err := k.store.Get(ctx, path)
	if err != nil {
		return blob.Rehearsal{}, err
	}
	u, err := blob.ParseRehearsal(der)
	if err != nil {
		return blob.Rehearsal{}, err
	}
	if u.Digest() != digest {
		return blob.Rehearsal{}, fmt.Errorf("another digest than its name says: %w", blob.ErrMisplaced)
	}
	v, err := u.Verify(k.members().Parties(signerID(m)), k.ID())
	if err != nil {
		return blob.Rehearsal{}, err
	}
	return v.Rehearsal(), nil
}

// onlyKey is a store that lists the blobs of one key alone, and no proofs.
type onlyKey struct {
	blob.Store
	names []string // of the key, today and before
}

func (s onlyKey) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for path, err := range s.Store.List(ctx, prefix) {
			name, _, _, _, isKey := blob.ParseKeyPath(path)
			isProof := strings.HasPrefix(path, blob.ProofsPrefix) || strings.HasPrefix(path, blob.RehearsalsPrefix)
			if err == nil && (isProof || isKey && !slices.Contains(s.names, name)) {
				continue
			}
			if !yield(path, err) {
				return
			}
		}
	}
}
