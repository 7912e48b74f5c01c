package hsmkeys_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	dirstore "github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// signingKey is a key that signs for a member, beside its key exchange pair.
type signingKey struct {
	crypto.Signer
	cert *x509.Certificate
}

func newSigningKey(t *testing.T) *signingKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signingKey{key, certify(t, key, nil)}
}

// certify makes a self-signed certificate that is valid today, for signing.
func certify(t *testing.T, key crypto.Signer, edit func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signing key"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *signingKey) id(t *testing.T) []byte {
	t.Helper()
	id, err := blob.PublicKeyID(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// signsWith is the site as it stands in a list of members, with a signing key.
func (s *site) signsWith(role blob.Role, label string, key *signingKey) blob.Member {
	m := s.member(role, label)
	m.Signing = key.cert
	return m
}

func (s *signingKey) signer() signer { return signer{s, keyspec.ECDSA} }

// keyBy returns a key that somebody signs, wrapped to a site.
func keyBy(t *testing.T, k *hsmkeys.Keyring, name string, to *site, s signer) *blob.Blob {
	t.Helper()
	d := blob.Descriptor{KeyringID: k.ID(), Name: name, Version: 1, Revision: 1, Created: time.Now(), Purpose: keyspec.WrapKeys}
	b, err := blob.Sign(d, blob.Content{Algorithm: keyspec.AES256, Recipients: []blob.Recipient{wrapTo(t, to, make([]byte, 32))}}, blob.Signer{Key: s.key, Scheme: s.scheme}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// twoSigners is a keyring of office, who signs with its pair, and branch, who signs
// with another key than that of its pair.
func twoSigners(t *testing.T) (office, branch *site, key *signingKey, k *hsmkeys.Keyring, store *dirstore.Store, dir string) {
	t.Helper()
	office, branch, key = newSite(t, "office"), newSite(t, "branch"), newSigningKey(t)
	k, store, dir = office.found(t)
	add(t, k, branch.signsWith(blob.Owner, "branch", key))
	return
}

func TestAnOwnerSignsWithItsSigningKeyAlone(t *testing.T) {
	ctx := context.Background()
	office, branch, key, k, store, _ := twoSigners(t)

	record(t, store, key.signer(), keyBy(t, k, "genuine", office, key.signer()))
	k, err := office.open(store)
	if err != nil {
		t.Fatal(err)
	}
	e, err := k.Show(ctx, hsmkeys.Ref{Name: "genuine"})
	if want := (hsmkeys.Holder{Label: "branch", Role: "owner", SubjectKeyID: hex.EncodeToString(key.id(t))}); err != nil || e.Signer != want {
		t.Errorf("%+v, %v", e.Signer, err)
	}
	// What is wrapped to branch is wrapped to the other key.
	create(t, k, "payroll")
	if e, err := k.Show(ctx, hsmkeys.Ref{Name: "payroll"}); err != nil || !slices.ContainsFunc(e.Holders, func(h hsmkeys.Holder) bool { // in the order of DER
		return h.Label == "branch" && h.SubjectKeyID == hex.EncodeToString(branch.id())
	}) {
		t.Errorf("%+v, %v", e.Holders, err)
	}
	if c := coverage(t, k); c.Holders[1].SubjectKeyID != hex.EncodeToString(branch.id()) || c.Holders[1].Opens != 2 {
		t.Errorf("%+v", c.Holders)
	}

	const another = `that is the key exchange key of "branch", who signs with another key`
	record(t, store, key.signer(), keyBy(t, k, "forged", office, branch.signer()))
	if k, err = office.open(store); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Show(ctx, hsmkeys.Ref{Name: "forged"}); !errors.Is(err, blob.ErrUntrusted) || !strings.Contains(err.Error(), another) {
		t.Errorf("a blob signed by the key exchange key: %v", err)
	}
	vault := newSite(t, "vault").member(blob.BackupAuthority, "vault")
	edit := func(l *blob.MemberList) { l.Members = append(l.Members, vault) }
	undo := forgeList(t, store, branch.signer(), edit)
	if _, err := office.open(store); !errors.Is(err, blob.ErrUntrusted) || !strings.Contains(err.Error(), another) {
		t.Errorf("a list signed by the key exchange key: %v", err)
	}
	undo()
	forgeList(t, store, key.signer(), edit)
	if k, err = office.open(store); err != nil || len(k.Members()) != 3 {
		t.Errorf("a list signed by the signing key: %v", err)
	}
}

// TestCheckpointOneIsSignedByTheSigningKey founds keyrings for an owner with a signing key.
func TestCheckpointOneIsSignedByTheSigningKey(t *testing.T) {
	ctx := context.Background()
	office, key := newSite(t, "office"), newSigningKey(t)
	list := blob.MemberList{KeyringID: blob.ID{1}, Members: []blob.Member{office.signsWith(blob.Owner, "office", key)}}
	store, _ := newStore(t)
	if _, err := ledger.Init(ctx, store, list, office.signer().blob(), time.Now(), random); !errors.Is(err, blob.ErrUntrusted) {
		t.Errorf("by the key exchange key: %v", err)
	}
	if _, err := ledger.Init(ctx, store, list, key.signer().blob(), time.Now(), random); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		voucher *x509.Certificate
		want    error
	}{
		{"by the signing key", key.cert, nil},
		{"vouched for by the key exchange certificate", office.cert, blob.ErrUntrusted},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := hsmkeys.OpenWithCertificate(ctx, hsmkeys.Options{Store: store, Voucher: test.voucher}); !errors.Is(err, test.want) {
				t.Errorf("without a token: %v", err)
			}
			// On a directory of its own, or the second would find the pin of the first.
			pins := hsmkeys.NewPins(nil, filepath.Join(t.TempDir(), "pins"))
			if _, err := hsmkeys.Join(ctx, hsmkeys.Options{Store: store, Pair: office.pair, Pins: pins, Voucher: test.voucher}); !errors.Is(err, test.want) {
				t.Errorf("with a token: %v", err)
			}
		})
	}
	// A token that has not pinned the keyring, and is used without its signing key.
	if _, err := office.open(store); !errors.Is(err, hsmkeys.ErrNotJoined) {
		t.Errorf("%v", err)
	}
}

// TestASigningKeyThatIsRemoved removes a member, and brings it back with another key.
func TestASigningKeyThatIsRemoved(t *testing.T) {
	ctx := context.Background()
	office, branch, key, k, store, _ := twoSigners(t)
	put := func(name string, s signer) {
		t.Helper()
		record(t, store, s, keyBy(t, k, name, office, s))
	}
	reopen := func() {
		t.Helper()
		var err error
		if k, err = office.open(store); err != nil {
			t.Fatal(err)
		}
	}
	put("before", key.signer())
	reopen()
	remove(t, k, blob.Owner, "branch")

	// expect has what was signed in time stand, and what comes later refused.
	expect := func(role, says string) {
		t.Helper()
		if e, err := k.Show(ctx, hsmkeys.Ref{Name: "before"}); err != nil || e.Signer.Label != "branch" || e.Signer.Role != role {
			t.Errorf("what was there: %+v, %v", e.Signer, err)
		}
		undo := forgeList(t, store, key.signer(), func(l *blob.MemberList) { l.Members = l.Members[:1] })
		defer undo()
		if _, err := office.open(store); !errors.Is(err, blob.ErrUntrusted) || !strings.Contains(err.Error(), says) {
			t.Errorf("a list: %v", err)
		}
	}
	expect("former owner", `"branch" is no member any more`)

	other := newSigningKey(t)
	add(t, k, branch.signsWith(blob.Owner, "branch", other))
	expect("owner", `"branch" signs with another key by now`)
	put("with-the-new-key", other.signer())
	reopen()
	if e, err := k.Show(ctx, hsmkeys.Ref{Name: "with-the-new-key"}); err != nil || e.Signer.SubjectKeyID != hex.EncodeToString(other.id(t)) {
		t.Errorf("%+v, %v", e.Signer, err)
	}
	// And without a signing key: the pair signs, as never before.
	remove(t, k, blob.Owner, "branch")
	add(t, k, branch.member(blob.Owner, "branch"))
	put("with-the-pair", branch.signer())
	reopen()
	for _, name := range []string{"before", "with-the-new-key", "with-the-pair"} {
		if e, err := k.Show(ctx, hsmkeys.Ref{Name: name}); err != nil || e.Signer.Label != "branch" {
			t.Errorf("%s: %+v, %v", name, e.Signer, err)
		}
	}
}

// TestATokenWithoutItsSigningKeyReads opens a keyring whose list lets somebody else's
// key sign for the token.
func TestATokenWithoutItsSigningKeyReads(t *testing.T) {
	ctx := context.Background()
	for _, role := range []blob.Role{blob.Owner, blob.BackupAuthority} {
		t.Run(role.String(), func(t *testing.T) {
			office, branch, key := newSite(t, "office"), newSite(t, "branch"), newSigningKey(t)
			k, store, _ := office.found(t)
			add(t, k, branch.signsWith(role, "branch", key))
			create(t, k, "payroll")
			file := encrypt(t, k, "payroll", []byte("a letter"))

			b := branch.join(t, store, office)
			if got, err := decrypt(b, file); err != nil || string(got) != "a letter" {
				t.Errorf("%q, %v", got, err)
			}
			if m := b.Self(); m.Label != "branch" || m.Signing == nil {
				t.Errorf("%+v", m)
			}
			refused := func(what string, err error) {
				t.Helper()
				want := hsmkeys.ErrSigningKey
				if role == blob.BackupAuthority && !strings.HasPrefix(what, "prove") && !strings.HasPrefix(what, "recover") {
					want = hsmkeys.ErrRole
				}
				if !errors.Is(err, want) {
					t.Errorf("%s: %v", what, err)
				}
			}
			_, err := b.Create(ctx, "another", keyspec.AES256, 0)
			refused("create", err)
			_, err = b.Rotate(ctx, "payroll", "")
			refused("rotate", err)
			err = b.AddMember(ctx, newSite(t, "spare").member(blob.Owner, "spare"))
			refused("add", err)
			err = b.RemoveMember(ctx, blob.Owner, "office", func(error) {})
			refused("remove", err)
			_, err = b.BeginRecovery(ctx, office.cert, newSite(t, "spare").member(blob.Owner, "spare"), "a test")
			refused("recover", err)
			for r := range b.Rewrap(ctx, versions(t, b), "") {
				refused("rewrap", r.Err)
			}
			for r := range b.Prove(ctx, versions(t, b), time.Now()) {
				refused("prove", r.Err)
			}
		})
	}
}

// TestProofsOfASigningKey stores proofs under the key that signs, and under the other.
func TestProofsOfASigningKey(t *testing.T) {
	ctx := context.Background()
	_, branch, key, k, store, _ := twoSigners(t)
	create(t, k, "payroll")
	put := func(at []byte, s signer) { putProof(t, store, k, at, s, "payroll") }
	put(branch.id(), branch.signer())
	put(branch.id(), key.signer())
	if c := coverage(t, k); c.Holders[1].Proven != 0 {
		t.Errorf("under the key exchange key: %+v", c.Holders[1])
	}
	put(key.id(t), branch.signer())
	told := 0
	if c, err := k.Coverage(ctx, nil, func(error) { told++ }); err != nil || told != 1 || c.Holders[1].Proven != 0 {
		t.Errorf("signed by the key exchange key: %+v, %v, told of %d", c.Holders[1], err, told)
	}
	put(key.id(t), key.signer())
	if c, err := k.Coverage(ctx, nil, func(error) {}); err != nil || c.Holders[1].Proven != 1 {
		t.Errorf("%+v, %v", c.Holders[1], err)
	}
}

func TestSigningKeysThatCannotCome(t *testing.T) {
	ctx := context.Background()
	office, branch, key, k, _, _ := twoSigners(t)
	vault, other := newSite(t, "vault"), newSigningKey(t)
	for name, test := range map[string]struct {
		m    blob.Member
		want error
	}{
		"the signing key of another":          {vault.signsWith(blob.Owner, "vault", key), blob.ErrExists},
		"the pair of another":                 {blob.Member{Role: blob.Owner, Label: "vault", Certificate: vault.cert, Signing: office.cert}, blob.ErrExists},
		"the pair of one who has another":     {blob.Member{Role: blob.Owner, Label: "vault", Certificate: vault.cert, Signing: branch.cert}, blob.ErrExists},
		"a pair that is another's to decrypt": {branch.signsWith(blob.Owner, "vault", other), blob.ErrExists},
		"its own pair":                        {blob.Member{Role: blob.Owner, Label: "vault", Certificate: vault.cert, Signing: vault.cert}, hsmkeys.ErrCertificate},
		"an expired certificate": {blob.Member{Role: blob.Owner, Label: "vault", Certificate: vault.cert, Signing: certify(t, other, func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-time.Minute)
		})}, hsmkeys.ErrCertificate},
	} {
		if err := k.AddMember(ctx, test.m); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	add(t, k, vault.signsWith(blob.Owner, "vault", other))
}

func TestCertificatesOfSigningKeys(t *testing.T) {
	ec := func(curve elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	rsaKey := func(bits int) crypto.Signer {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	usage := func(u x509.KeyUsage) func(*x509.Certificate) { return func(c *x509.Certificate) { c.KeyUsage = u } }
	for name, test := range map[string]struct {
		key  crypto.Signer
		edit func(*x509.Certificate)
		says string
	}{
		"P-256":           {ec(elliptic.P256()), nil, ""},
		"P-384":           {ec(elliptic.P384()), nil, ""},
		"P-521":           {ec(elliptic.P521()), nil, ""},
		"RSA":             {rsaKey(2048), nil, ""},
		"any usage":       {ec(elliptic.P256()), usage(0), ""},
		"nonRepudiation":  {ec(elliptic.P256()), usage(x509.KeyUsageContentCommitment), ""},
		"keyAgreement":    {ec(elliptic.P256()), usage(x509.KeyUsageKeyAgreement), "its key usage does not allow signing"},
		"keyEncipherment": {rsaKey(2048), usage(x509.KeyUsageKeyEncipherment), "its key usage does not allow signing"},
		"P-224":           {ec(elliptic.P224()), nil, "only P-256, P-384 and P-521 can sign"},
		"Ed25519":         {ed, nil, "only RSA and EC can sign"},
		"a short RSA key": {rsaKey(1024), nil, "RSA with 1024 bits is too weak"},
		"not yet valid":   {ec(elliptic.P256()), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, "it is not valid before"},
		"expired":         {ec(elliptic.P256()), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "it expired on"},
		"unknown extension": {ec(elliptic.P256()), func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, "the critical extension 1.2.3"},
	} {
		err := hsmkeys.CheckSigner(certify(t, test.key, test.edit), time.Now())
		if (err == nil) != (test.says == "") || err != nil && (!errors.Is(err, hsmkeys.ErrCertificate) || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
