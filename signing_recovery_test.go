package hsmkeys_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// TestRecoveriesWithSigningKeys lets an authority with a signing key recover, and try
// what a recovery must not do to the keys of others.
func TestRecoveriesWithSigningKeys(t *testing.T) {
	ctx := context.Background()
	office, branch, vault, spare := newSite(t, "office"), newSite(t, "branch"), newSite(t, "vault"), newSite(t, "spare")
	branchKey, vaultKey, spareKey := newSigningKey(t), newSigningKey(t), newSigningKey(t)
	k, store, _ := office.found(t)
	add(t, k, vault.signsWith(blob.BackupAuthority, "vault", vaultKey))
	add(t, k, branch.signsWith(blob.Owner, "branch", branchKey))
	source := keyBy(t, k, "payroll", branch, office.signer())
	record(t, store, office.signer(), source)
	branch.joinWith(t, store, office.cert)
	recovery := func(s signer, edit func(*blob.MemberList)) (undo func()) {
		return forgeList(t, store, s, func(l *blob.MemberList) {
			l.Members[0] = spare.signsWith(blob.Owner, "spare", spareKey)
			l.Recovery = &blob.Recovery{List: l.Number, From: office.id(), Reason: "a test"}
			if edit != nil {
				edit(l)
			}
		})
	}
	for name, attack := range map[string]struct {
		by   signer
		edit func(*blob.MemberList)
		says string
	}{
		"signed by the authority's key exchange key":     {vault.signer(), nil, `that is the key exchange key of "vault"`},
		"that exchanges another owner's signing key":     {vaultKey.signer(), func(l *blob.MemberList) { l.Members[2].Signing = newSigningKey(t).cert }, `it changes the member "branch"`},
		"that exchanges the certificate of the same":     {vaultKey.signer(), func(l *blob.MemberList) { l.Members[2].Signing = certify(t, branchKey, nil) }, `it changes the member "branch"`},
		"that takes another owner's signing key away":    {vaultKey.signer(), func(l *blob.MemberList) { l.Members[2].Signing = nil }, `it changes the member "branch"`},
		"that gives the authority another signing key":   {vaultKey.signer(), func(l *blob.MemberList) { l.Members[1].Signing = newSigningKey(t).cert }, `it changes the member "vault"`},
		"signed by the signing key of another owner":     {branchKey.signer(), nil, `which is for a backup authority`},
		"signed by the signing key of its new owner":     {spareKey.signer(), nil, "untrusted signer"},
		"that is none, signed by an authority's own key": {vaultKey.signer(), func(l *blob.MemberList) { l.Recovery = nil }, "outside a recovery"},
	} {
		t.Run(name, func(t *testing.T) {
			undo := recovery(attack.by, attack.edit)
			defer undo()
			if _, err := branch.open(store); !errors.Is(err, blob.ErrIntegrity) || !strings.Contains(err.Error(), attack.says) {
				t.Errorf("%v; want it to say %q", err, attack.says)
			}
		})
	}

	recovery(vaultKey.signer(), nil)
	open := func() {
		t.Helper()
		var err error
		if k, err = hsmkeys.OpenVouched(ctx, hsmkeys.Options{Store: store, Voucher: vaultKey.cert}); err != nil {
			t.Fatal(err)
		}
	}
	open()
	record(t, store, spareKey.signer(), keyBy(t, k, "by-the-new-owner", spare, spareKey.signer()))
	open()
	if e, err := k.Show(ctx, hsmkeys.Ref{Name: "by-the-new-owner"}); err != nil || e.Signer.Label != "spare" {
		t.Errorf("%+v, %v", e.Signer, err)
	}
	// The recovered key, by both keys of the authority: what is not wrapped to the new owner
	// as it should be is passed over.
	digest := source.Digest()
	value := make([]byte, 32)
	value[0] = 1
	joined := spare.joinWith(t, store, vaultKey.cert)
	for _, test := range []struct {
		name string
		by   signer
		ok   bool
	}{{"the authority's key exchange key", vault.signer(), false}, {"another owner's", branchKey.signer(), false}, {"the authority's signing key", vaultKey.signer(), true}} {
		b, err := blob.Sign(blob.Descriptor{
			KeyringID: k.ID(), Name: "payroll", Version: 1, Revision: 2, Created: source.Descriptor().Created, Purpose: keyspec.WrapKeys, Replaces: digest[:],
			Recovery: &blob.Recovery{List: 4, From: office.id(), Reason: "a test"},
		}, blob.Content{Algorithm: keyspec.AES256, Recipients: []blob.Recipient{wrapTo(t, spare, value)}}, test.by.blob(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		putBlob(t, store, b)
		got, err := joined.Reveal(ctx, hsmkeys.Ref{Name: "payroll"})
		if test.ok != (err == nil) || test.ok && !bytes.Equal(got, value) || !test.ok && !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("signed by %s: %v", test.name, err)
		}
	}
}

// TestARecoveryToAnOwnerWithASigningKey begins recoveries as an authority does.
func TestARecoveryToAnOwnerWithASigningKey(t *testing.T) {
	ctx := context.Background()
	office, vault, spare := newSite(t, "office"), newSite(t, "vault"), newSite(t, "spare")
	officeKey, spareKey := newSigningKey(t), newSigningKey(t)
	_, store, _ := vault.found(t) // as an owner, who changes that next
	forgeList(t, store, vault.signer(), func(l *blob.MemberList) {
		l.Members = []blob.Member{office.signsWith(blob.Owner, "office", officeKey), vault.member(blob.BackupAuthority, "vault")}
	})
	k, err := vault.open(store)
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]blob.Member{
		"its pair as its signing key":            {Label: "spare", Certificate: spare.cert, Signing: spare.cert},
		"a certificate for signing as the other": {Label: "spare", Certificate: officeKey.cert},
	} {
		if _, err := k.BeginRecovery(ctx, office.cert, to, "a test"); !errors.Is(err, hsmkeys.ErrCertificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := k.BeginRecovery(ctx, office.cert, blob.Member{Label: "spare", Certificate: spare.cert, Signing: vault.cert}, "a test"); !errors.Is(err, blob.ErrExists) {
		t.Errorf("the authority's own key as a signing key: %v", err)
	}
	// The certificate that vouches for the keyring names the old owner as well.
	r, err := k.BeginRecovery(ctx, officeKey.cert, spare.signsWith(0, "spare", spareKey), "a test")
	if err != nil {
		t.Fatal(err)
	}
	if r.From() != hex.EncodeToString(office.id()) || !r.Keyring.Members()[0].Signing.Equal(spareKey.cert) {
		t.Errorf("from %s, to %+v", r.From(), r.Keyring.Members()[0])
	}
	again, err := r.Keyring.BeginRecovery(ctx, office.cert, spare.signsWith(0, "spare", spareKey), "a test")
	if err != nil || again.Number() != r.Number() {
		t.Errorf("taken up again: %v", err)
	}
	if _, err := r.Keyring.BeginRecovery(ctx, office.cert, spare.member(0, "spare"), "a test"); !errors.Is(err, blob.ErrExists) {
		t.Errorf("taken up again with another signing key: %v", err)
	}
}
