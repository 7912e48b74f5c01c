package hsmkeys_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token/sharing"
	"github.com/hsmkeys/hsmkeys/token/softpair"
)

// A ceremony is a keyring with a quorum, and the pairs in memory of all who take part.
type ceremony struct {
	*testing.T
	store      blob.Store
	owner      *softpair.Pair
	voucher    *x509.Certificate // the owner's
	k          *hsmkeys.Keyring  // the owner's
	custodians []*softpair.Pair
	quorum     blob.Member
}

// newCeremony has custodians with EC keys, and one with an RSA key.
func newCeremony(t *testing.T, threshold, n int) *ceremony {
	t.Helper()
	c := &ceremony{T: t, store: new(mem.Store), owner: ecPair(elliptic.P256())}
	c.k = must(hsmkeys.Init(t.Context(), hsmkeys.Options{Store: c.store, Pair: c.owner}, "office"))
	c.voucher = must(c.k.Certificate())
	for i := range n {
		pair := ecPair(elliptic.P256())
		if i == 1 {
			pair = rsaPair()
		}
		c.custodians = append(c.custodians, pair)
	}
	c.quorum = must(c.k.CreateQuorum(t.Context(), "board", threshold, c.members()))
	must(c.k.Create(t.Context(), "payroll", keyspec.AES256, 0))
	return c
}

func ecPair(curve elliptic.Curve) *softpair.Pair {
	return must(softpair.New(must(ecdsa.GenerateKey(curve, rand.Reader))))
}

var anRSAKey = must(rsa.GenerateKey(rand.Reader, 2048))

func rsaPair() *softpair.Pair { return must(softpair.New(anRSAKey)) }

// members are the custodians as an owner names them.
func (c *ceremony) members() (all []blob.Member) {
	for i, pair := range c.custodians {
		name := fmt.Sprintf("custodian %d", i+1)
		certificate, err := pair.Certify(c.Context(), name)
		if err != nil {
			certificate = must(pair.Certificate(c.Context()))
		}
		all = append(all, blob.Member{Role: blob.Custodian, Label: name, Certificate: certificate})
	}
	return all
}

// custodian opens the keyring with the token of a custodian.
func (c *ceremony) custodian(i int) *hsmkeys.Custodian {
	c.Helper()
	opened, err := hsmkeys.OpenCustodian(c.Context(), hsmkeys.Options{Store: c.store, Pair: c.custodians[i], Voucher: c.voucher}, hsmkeys.QuorumName{Label: "board"})
	if err != nil {
		c.Fatal(err)
	}
	return opened
}

// propose returns the proposal of a recovery to another pair, and the recovering machine's key.
func (c *ceremony) propose(to *softpair.Pair) (blob.Proposal, *ecdh.PrivateKey) {
	c.Helper()
	certificate, err := to.Certify(c.Context(), "spare")
	if err != nil {
		certificate = must(to.Certificate(c.Context()))
	}
	key := must(ecdh.P384().GenerateKey(rand.Reader))
	p, err := c.machine().ProposeRecovery(c.quorum, c.voucher, blob.Member{Label: "spare", Certificate: certificate}, "flood", key.PublicKey(), time.Now().Add(time.Hour), false)
	if err != nil {
		c.Fatal(err)
	}
	return p, key
}

// machine is the keyring as the recovering machine opens it, without a token.
func (c *ceremony) machine() *hsmkeys.Keyring {
	c.Helper()
	return must(hsmkeys.OpenVouched(c.Context(), hsmkeys.Options{Store: c.store, Voucher: c.voucher}))
}

func (c *ceremony) approve(p blob.Proposal, i int) hsmkeys.Approval {
	c.Helper()
	a, err := c.custodian(i).Approve(c.Context(), p)
	if err != nil {
		c.Fatal(err)
	}
	return a
}

func (c *ceremony) gather(p blob.Proposal, key *ecdh.PrivateKey, approvals ...hsmkeys.Approval) *hsmkeys.Gathering {
	c.Helper()
	g, err := c.machine().Gather(c.Context(), p, key)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(g.Close)
	for _, a := range approvals {
		if _, err := g.Add(c.Context(), a); err != nil {
			c.Fatal(err)
		}
	}
	return g
}

// recover brings all keys to the new owner.
func (c *ceremony) recover(g *hsmkeys.Gathering) error {
	c.Helper()
	ctx := c.Context()
	pair, err := g.Pair()
	if err != nil {
		return err
	}
	at := c.machine().State().At
	k, err := hsmkeys.Join(ctx, hsmkeys.Options{Store: c.store, Pair: pair, Checkpoint: &at})
	if err != nil {
		return err
	}
	r, err := k.BeginApproved(ctx, g)
	if err != nil {
		return err
	}
	for result := range r.Keys(ctx, must(k.Versions(ctx))) {
		if result.Err != nil {
			return result.Err
		}
	}
	return nil
}

func TestARecoveryByAQuorum(t *testing.T) {
	c := newCeremony(t, 3, 5)
	ctx := t.Context()
	file := encryptWith(t, c.k, "payroll", "The salaries of March.")
	spare := ecPair(elliptic.P521())
	p, key := c.propose(spare)
	must(c.k.Create(ctx, "meanwhile", keyspec.AES128, 0)) // voids nothing
	first, second := c.approve(p, 4), c.approve(p, 1)
	g := c.gather(p, key, first, second)
	if _, err := g.Pair(); !errors.Is(err, hsmkeys.ErrApprovalsMissing) || g.Missing() != 1 {
		t.Fatalf("two of three: %v, %d missing", err, g.Missing())
	}
	third := c.approve(p, 0)
	if who := must(g.Add(ctx, third)); who.Label != "custodian 1" {
		t.Errorf("%q has approved", who.Label)
	}
	if err := c.recover(g); err != nil {
		t.Fatal(err)
	}
	// Interrupted, it goes on with the same approvals.
	if err := c.recover(c.gather(p, key, first, second, third)); err != nil {
		t.Errorf("again: %v", err)
	}
	// Whoever has the quorum's key could make up what it has signed: it vouches for nothing.
	if _, err := hsmkeys.Join(ctx, hsmkeys.Options{Store: c.store, Pair: spare, Voucher: c.quorum.Certificate}); !errors.Is(err, hsmkeys.ErrQuorumVouches) {
		t.Errorf("vouched for by the quorum: %v", err)
	}
	if _, err := hsmkeys.OpenVouched(ctx, hsmkeys.Options{Store: c.store, Voucher: c.quorum.Certificate}); !errors.Is(err, hsmkeys.ErrQuorumVouches) {
		t.Errorf("looked at, vouched for by the quorum: %v", err)
	}
	k := must(hsmkeys.Join(ctx, hsmkeys.Options{Store: c.store, Pair: spare, Voucher: c.voucher}))
	for r := range k.Rewrap(ctx, must(k.Versions(ctx)), "") {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	if got := decryptWith(t, k, file); got != "The salaries of March." {
		t.Errorf("decrypted %q", got)
	}
	coverage := must(k.Coverage(ctx, nil, func(err error) { t.Error(err) }))
	if q := coverage.Holders[1].Quorum; q == nil || q.Used != 3 || q.Threshold != 3 {
		t.Errorf("the quorum was used by list 3: %+v", q)
	}
	var approved []string
	for e, err := range k.Log(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range e.Approved {
			approved = append(approved, m.Label)
		}
	}
	if slices.Sort(approved); !slices.Equal(approved, []string{"custodian 1", "custodian 2", "custodian 5"}) {
		t.Errorf("approved by %v", approved)
	}

	// The next one: nobody needs the former key.
	fresh := must(k.ReplaceQuorum(ctx, "board", 2, c.members()[:3]))
	if fresh.Certificate.Equal(c.quorum.Certificate) {
		t.Error("the same key")
	}
	for r := range k.Rewrap(ctx, must(k.Versions(ctx)), "") {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	c.voucher = must(k.Certificate())
	coverage = must(k.Coverage(ctx, nil, func(err error) { t.Error(err) }))
	if q := coverage.Holders[1].Quorum; q == nil || q.Used != 0 || len(q.Custodians) != 3 || coverage.Lost != 0 {
		t.Errorf("%+v, %d lost", q, coverage.Lost)
	}
}

// A recovery that was recorded and then interrupted, on a machine that has kept nothing, goes on with new
// approvals of the same custodians, or of others.
func TestARecordedRecoveryGoesOn(t *testing.T) {
	c := newCeremony(t, 2, 3)
	ctx := t.Context()
	spare := ecPair(elliptic.P256())
	p, key := c.propose(spare)
	g := c.gather(p, key, c.approve(p, 0), c.approve(p, 1))
	pair := must(g.Pair())
	at := c.machine().State().At
	k := must(hsmkeys.Join(ctx, hsmkeys.Options{Store: c.store, Pair: pair, Checkpoint: &at}))
	if _, err := k.BeginApproved(ctx, g); err != nil {
		t.Fatal(err)
	}
	again, key := c.propose(spare)
	if recorded, err := c.acceptedBy(2).MayApprove(again); err != nil || !recorded {
		t.Fatalf("recorded %v, %v", recorded, err)
	}
	var approvals []hsmkeys.Approval
	for _, i := range []int{1, 2} {
		a, err := c.acceptedBy(i).Approve(ctx, again)
		if err != nil {
			t.Fatal(err)
		}
		approvals = append(approvals, a)
	}
	if err := c.recover(c.gather(again, key, approvals...)); err != nil {
		t.Fatal(err)
	}
	if number := c.machine().ListNumber(); number != 3 {
		t.Errorf("list of members %d", number)
	}
	joined := must(hsmkeys.Join(ctx, hsmkeys.Options{Store: c.store, Pair: spare, Voucher: c.voucher}))
	for r := range joined.Rewrap(ctx, must(joined.Versions(ctx)), "") {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
}

// acceptedBy is a custodian who has accepted the recovery.
func (c *ceremony) acceptedBy(i int) *hsmkeys.Custodian {
	c.Helper()
	opened := c.custodian(i)
	if len(opened.Keyring().State().Recoveries) > 0 {
		if err := opened.Accept(c.Context()); err != nil {
			c.Fatal(err)
		}
	}
	return opened
}

// A pair can be a custodian of two quorums, under two labels.
func TestACustodianOfTwoQuorums(t *testing.T) {
	c := newCeremony(t, 2, 2)
	ctx := t.Context()
	members := c.members()
	members[0].Label, members[1].Label = "first", "second"
	if _, err := c.k.CreateQuorum(ctx, "audit", 2, members); err != nil {
		t.Fatal(err)
	}
	open := func(of hsmkeys.QuorumName) error {
		_, err := hsmkeys.OpenCustodian(ctx, hsmkeys.Options{Store: c.store, Pair: c.custodians[0], Voucher: c.voucher}, of)
		return err
	}
	if err := open(hsmkeys.QuorumName{}); !errors.Is(err, hsmkeys.ErrSeveralQuorums) {
		t.Errorf("which one is not said: %v", err)
	}
	for _, of := range []hsmkeys.QuorumName{{Label: "audit"}, {Certificate: sha256.Sum256(c.quorum.Certificate.Raw)}} {
		if err := open(of); err != nil {
			t.Errorf("%+v: %v", of, err)
		}
	}
	p, key := c.propose(ecPair(elliptic.P256()))
	if err := c.recover(c.gather(p, key, c.approve(p, 0), c.approve(p, 1))); err != nil {
		t.Fatal(err)
	}
	for e, err := range c.machine().Log(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range e.Approved {
			if !strings.HasPrefix(m.Label, "custodian ") {
				t.Errorf("approved by %q", m.Label)
			}
		}
	}
}

// For all n up to 4, any k of n custodians recover, and no k-1 do. For n up to 8 package sharing shows it
// of the key, and package ledger of the approvals.
func TestAnyCustodiansThatAreEnoughRecover(t *testing.T) {
	for n := 2; n <= 4; n++ {
		for k := 2; k <= n; k++ {
			t.Run(fmt.Sprintf("%d of %d", k, n), func(t *testing.T) {
				t.Parallel()
				c := newCeremony(t, k, n)
				p, key := c.propose(ecPair(elliptic.P256()))
				var approvals []hsmkeys.Approval
				for i := range n {
					approvals = append(approvals, c.approve(p, i))
				}
				before := c.store
				for set := range uint(1 << n) {
					size := bits.OnesCount(set)
					if size != k && size != k-1 {
						continue
					}
					c.store = memoryCopyOf(t, before)
					g := c.gather(p, key)
					for i, a := range approvals {
						if set&(1<<i) != 0 {
							must(g.Add(t.Context(), a))
						}
					}
					if err := c.recover(g); (err == nil) != (size == k) || err != nil && !errors.Is(err, hsmkeys.ErrApprovalsMissing) {
						t.Errorf("%0*b: %v", n, set, err)
					}
				}
			})
		}
	}
}

// memoryCopyOf copies a store into memory.
func memoryCopyOf(t *testing.T, from blob.Store) blob.Store {
	t.Helper()
	to := new(mem.Store)
	for path, err := range from.List(t.Context(), "") {
		if err == nil {
			err = to.Put(t.Context(), path, must(from.Get(t.Context(), path)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func TestApprovalsThatAreRefused(t *testing.T) {
	c := newCeremony(t, 2, 3)
	ctx := t.Context()
	p, key := c.propose(ecPair(elliptic.P256()))
	otherRequest, otherKey := c.propose(ecPair(elliptic.P384()))
	good := c.approve(p, 0)

	other := newCeremony(t, 2, 3)
	foreign, _ := other.propose(ecPair(elliptic.P256()))

	flipped := c.approve(p, 1)
	flipped.Share.Content[3] ^= 1
	wrongShare := c.approve(p, 1)
	wrongShare.Share = good.Share
	forged := c.approve(p, 1)
	forged.Signed = bytes.Clone(forged.Signed)
	forged.Signed[len(forged.Signed)-5] ^= 1
	for _, test := range []struct {
		name     string
		approval hsmkeys.Approval
		want     error
		names    string // the custodian
	}{
		{"the same custodian twice", good, ledger.ErrApproval, "custodian 1"},
		{"a share with one bit changed", flipped, blob.ErrIntegrity, "custodian 2"},
		{"the share of another custodian", wrongShare, blob.ErrIntegrity, "custodian 2"},
		{"for another request", c.approve(otherRequest, 1), ledger.ErrApproval, "custodian 2"},
		{"of another keyring", other.approve(foreign, 1), ledger.ErrApproval, ""},
		{"with one bit changed", forged, blob.ErrIntegrity, ""},
		{"the share that a custodian signed and that does not fit", c.lyingCustodian(p, 1), blob.ErrIntegrity, "custodian 2"},
	} {
		g := c.gather(p, key, good)
		_, err := g.Add(ctx, test.approval)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.names) {
			t.Errorf("%s: %v", test.name, err)
		}
		if g.Missing() != 1 {
			t.Errorf("%s: %d missing", test.name, g.Missing())
		}
		if _, err := g.Add(ctx, c.approve(p, 2)); err != nil {
			t.Errorf("%s: and then a good one: %v", test.name, err)
		}
	}

	// A request that another machine has made, and approvals for it.
	if _, err := c.machine().Gather(ctx, p, otherKey); !errors.Is(err, hsmkeys.ErrProposal) {
		t.Errorf("the key of another request: %v", err)
	}
	swapped := p
	recovery := *p.Recovery
	recovery.Recipient = otherKey.PublicKey()
	swapped.Recovery = &recovery
	if _, err := c.gather(p, key).Add(ctx, c.approve(swapped, 1)); !errors.Is(err, ledger.ErrApproval) || !strings.Contains(err.Error(), "another machine") {
		t.Errorf("for another machine: %v", err)
	}
}

// lyingCustodian approves with a share that is none.
func (c *ceremony) lyingCustodian(p blob.Proposal, i int) hsmkeys.Approval {
	to := must(ecdsa.ParseUncompressedPublicKey(elliptic.P384(), p.Recovery.Recipient.Bytes()))
	sealed := must(sharing.Seal(c.Context(), bytes.Repeat([]byte{1}, sharing.Size), to, 0))
	a := hsmkeys.Approval{Share: blob.Sealed{Recipient: blob.Recipient{Identifier: must(blob.PublicKeyID(to)), Key: sealed.Key}, IV: sealed.IV, Content: sealed.Content}}
	key, scheme := c.custodians[i].Signer()
	recipient := must(p.Recovery.RecipientInfo())
	a.Signed = must(blob.SignApproval(blob.Approval{
		KeyringID: p.List.KeyringID, Created: time.Now(), Expires: p.Expires, List: [32]byte(p.List.Previous), Proposed: must(blob.ProposedDigest(p.List)),
		Quorum: &blob.Approved{Certificate: p.Recovery.Quorum, Recipient: sha256.Sum256(recipient), Share: sha256.Sum256(must(a.Share.Marshal()))},
	}, blob.Signer{Key: key, Scheme: scheme}, time.Now())).Bytes()
	return a
}

func TestProposalsThatCustodiansRefuse(t *testing.T) {
	c := newCeremony(t, 2, 3)
	good, _ := c.propose(ecPair(elliptic.P256()))
	mallory := ecPair(elliptic.P256())
	for name, edit := range map[string]func(*blob.Proposal){
		"expired":            func(p *blob.Proposal) { p.Expires = time.Now().Add(-time.Second) },
		"of another keyring": func(p *blob.Proposal) { p.List.KeyringID[0]++ },
		"for another quorum": func(p *blob.Proposal) { r := *p.Recovery; r.Quorum[0]++; p.Recovery = &r },
		"after another list": func(p *blob.Proposal) { p.List.Previous = make([]byte, 32) },
		"of a later list": func(p *blob.Proposal) {
			p.List.Number++
			p.List.Recovery = &blob.Recovery{List: p.List.Number, From: p.List.Recovery.From, Reason: "x"}
		},
		"with another member": func(p *blob.Proposal) {
			p.List.Members = append(slices.Clone(p.List.Members), blob.Member{Role: blob.Owner, Label: "mallory", Certificate: must(mallory.Certify(t.Context(), "mallory"))})
		},
		"with a policy":       func(p *blob.Proposal) { p.List.Policy.QuorumOnly = true },
		"with approvals":      func(p *blob.Proposal) { p.List.Approvals = [][]byte{{1}} },
		"that is no recovery": func(p *blob.Proposal) { p.Recovery = nil },
	} {
		p := good
		edit(&p)
		if _, err := c.custodian(0).Approve(t.Context(), p); !errors.Is(err, hsmkeys.ErrProposal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.custodian(0).Approve(t.Context(), good); err != nil {
		t.Error(err)
	}
}

func TestCustodiansProveTheirShares(t *testing.T) {
	c := newCeremony(t, 2, 3)
	ctx := t.Context()
	coverage := func() *hsmkeys.QuorumCoverage {
		return must(c.k.Coverage(ctx, nil, func(err error) { t.Log(err) })).Holders[1].Quorum
	}
	if q := coverage(); q.Proven(time.Time{}) != 0 || q.Broken != "" {
		t.Errorf("%+v", q)
	}
	for i := range 2 {
		if err := c.custodian(i).Check(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if q := coverage(); q.Proven(time.Time{}) != 2 || q.Proven(time.Now().Add(time.Hour)) != 0 || !q.Custodians[2].Proven.IsZero() {
		t.Errorf("%+v", q)
	}
	// Shares that are gone, or were exchanged: nobody could recover, and so the key would be lost.
	path := blob.SharesPath(c.quorum.Quorum.Shares)
	shares := must(c.store.Get(ctx, path))
	if err := c.store.Delete(ctx, path); err != nil {
		t.Fatal(err)
	}
	if q := coverage(); q.Broken == "" {
		t.Error("without shares it is not broken")
	}
	if lost := must(c.k.Coverage(ctx, nil, func(error) {})).Lost; lost != 1 {
		t.Errorf("%d keys would be lost", lost)
	}
	if err := c.custodian(2).Check(ctx); !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("checked without shares: %v", err)
	}
	if err := c.k.VerifyQuorums(ctx); !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("verified without shares: %v", err)
	}
	shares[len(shares)/2] ^= 1
	if err := c.store.Put(ctx, path, shares); err != nil {
		t.Fatal(err)
	}
	if err := c.custodian(2).Check(ctx); !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("checked with other shares: %v", err)
	}
}

func TestWhoIsNoCustodian(t *testing.T) {
	c := newCeremony(t, 2, 2)
	ctx := t.Context()
	open := func(pair hsmkeys.Pair, voucher *x509.Certificate, label string) error {
		_, err := hsmkeys.OpenCustodian(ctx, hsmkeys.Options{Store: c.store, Pair: pair, Voucher: voucher}, hsmkeys.QuorumName{Label: label})
		return err
	}
	if err := open(ecPair(elliptic.P256()), c.voucher, ""); !errors.Is(err, hsmkeys.ErrNoCustodian) || !errors.Is(err, blob.ErrUntrusted) {
		t.Errorf("a stranger: %v", err)
	}
	if err := open(c.owner, c.voucher, ""); !errors.Is(err, hsmkeys.ErrNoCustodian) {
		t.Errorf("the owner: %v", err)
	}
	if err := open(c.custodians[0], nil, ""); !errors.Is(err, hsmkeys.ErrCustodianNew) {
		t.Errorf("without a voucher: %v", err)
	}
	if err := open(c.custodians[0], c.voucher, "bored"); !errors.Is(err, hsmkeys.ErrNoQuorum) {
		t.Errorf("another quorum: %v", err)
	}
	if err := open(c.custodians[0], c.voucher, ""); err != nil {
		t.Error(err)
	}
	if err := open(c.custodians[0], nil, "board"); err != nil { // it is pinned now
		t.Error(err)
	}
	if _, err := hsmkeys.Open(ctx, hsmkeys.Options{Store: c.store, Pair: c.custodians[0]}); !errors.Is(err, blob.ErrUntrusted) {
		t.Errorf("as a member: %v", err)
	}
	// And who cannot become one.
	for name, m := range map[string]blob.Member{
		"an owner":           {Role: blob.Custodian, Label: "x", Certificate: c.voucher},
		"the quorum":         {Role: blob.Custodian, Label: "x", Certificate: c.quorum.Certificate},
		"a custodian, twice": c.members()[0],
	} {
		if _, err := c.k.CreateQuorum(ctx, "second", 2, []blob.Member{c.members()[0], m}); err == nil {
			t.Errorf("%s became a custodian", name)
		}
	}
	if _, err := c.k.CreateQuorum(ctx, "board", 2, c.members()); !errors.Is(err, blob.ErrExists) {
		t.Errorf("a second quorum with the label: %v", err)
	}
	if _, err := c.k.ReplaceQuorum(ctx, "bored", 2, c.members()); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("in the place of none: %v", err)
	}
}

// Whatever quorum can be made can recover: 32 custodians, with certificates of any size, or it is refused.
func TestTheLargestQuorumRecovers(t *testing.T) {
	custodians := func(padding int) (pairs []*softpair.Pair, members []blob.Member) {
		for i := range blob.MaxCustodians {
			key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			template := &x509.Certificate{
				SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: strings.Repeat("x", padding)},
				NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
			}
			der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
			pairs = append(pairs, must(softpair.New(key)))
			members = append(members, blob.Member{Role: blob.Custodian, Label: fmt.Sprintf("custodian %d", i), Certificate: must(x509.ParseCertificate(der))})
		}
		return pairs, members
	}
	c := &ceremony{T: t, store: new(mem.Store), owner: ecPair(elliptic.P256())}
	c.k = must(hsmkeys.Init(t.Context(), hsmkeys.Options{Store: c.store, Pair: c.owner}, "office"))
	c.voucher = must(c.k.Certificate())
	large := 8 << 10
	for ; ; large -= 256 {
		pairs, members := custodians(large / 2) // which is in it twice
		m, err := c.k.CreateQuorum(t.Context(), "board", len(members), members)
		if errors.Is(err, blob.ErrTooLarge) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		c.custodians, c.quorum = pairs, m
		break
	}
	if large == 8<<10 {
		t.Error("nothing was refused")
	}
	must(c.k.Create(t.Context(), "payroll", keyspec.AES256, 0))
	p, key := c.propose(ecPair(elliptic.P256()))
	g := c.gather(p, key)
	for i := range c.custodians {
		must(g.Add(t.Context(), c.approve(p, i)))
	}
	if err := c.recover(g); err != nil {
		t.Errorf("with certificates of about %d bytes: %v", large, err)
	}
}

func TestTwoOwnersChangeTheMembers(t *testing.T) {
	ctx := t.Context()
	store := new(mem.Store)
	alice, bob := ecPair(elliptic.P256()), ecPair(elliptic.P256())
	k := must(hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: alice}, "alice"))
	if err := k.AddMember(ctx, blob.Member{Role: blob.Owner, Label: "bob", Certificate: must(bob.Certify(ctx, "bob"))}); err != nil {
		t.Fatal(err)
	}
	b := must(hsmkeys.Join(ctx, hsmkeys.Options{Store: store, Pair: bob, Voucher: must(k.Certificate())}))
	if err := k.SetPolicy(ctx, blob.Policy{QuorumOnly: true}); err == nil {
		t.Error("only a quorum may recover, and there is none")
	}
	if err := k.SetPolicy(ctx, blob.Policy{SecondOwner: true}); err != nil {
		t.Fatal(err)
	}
	vault := blob.Member{Role: blob.BackupAuthority, Label: "vault", Certificate: must(ecPair(elliptic.P256()).Certify(ctx, "vault"))}
	if err := k.AddMember(ctx, vault); !errors.Is(err, hsmkeys.ErrSecondOwner) {
		t.Errorf("alone: %v", err)
	}
	var proposed blob.Proposal
	proposing := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: alice, ProposeFor: time.Hour, Propose: func(p blob.Proposal) error { proposed = p; return nil }}))
	if err := proposing.AddMember(ctx, vault); err != nil || len(proposing.Members()) != 2 {
		t.Fatalf("%v, %d members", err, len(proposing.Members()))
	}
	proposed = must(blob.ParseProposal(must(blob.MarshalProposal(proposed))))
	if err := k.ApproveChange(ctx, proposed); !errors.Is(err, hsmkeys.ErrOwnProposal) {
		t.Errorf("by the one who has proposed it: %v", err)
	}
	by, joined, left, err := b.Proposer(ctx, proposed)
	if err != nil || by.Label != "alice" || len(joined) != 1 || joined[0].Label != "vault" || len(left) != 0 {
		t.Errorf("%q, %v, %v, %v", by.Label, joined, left, err)
	}
	must(b.Create(ctx, "meanwhile", keyspec.AES256, 0))
	if err := b.ApproveChange(ctx, proposed); err != nil {
		t.Fatal(err)
	}
	if err := b.ApproveChange(ctx, proposed); !errors.Is(err, hsmkeys.ErrProposal) {
		t.Errorf("again: %v", err)
	}
	if m, err := must(hsmkeys.Open(ctx, hsmkeys.Options{Store: store, Pair: alice})).Member(blob.BackupAuthority, "vault"); err != nil || m.Label != "vault" {
		t.Error(err)
	}
}

// Stock OpenSSL opens a custodian's share.
func TestOpenSSLOpensAShare(t *testing.T) {
	c := newCeremony(t, 2, 2)
	dir := t.TempDir()
	der := must(c.store.Get(t.Context(), blob.SharesPath(c.quorum.Quorum.Shares)))
	v, err := must(blob.ParseShares(der)).Verify([]blob.Party{must(blob.PartyOf(c.voucher))}, c.k.ID(), c.quorum)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range []any{c.private(0), anRSAKey} {
		pkcs8 := must(x509.MarshalPKCS8PrivateKey(key))
		write := func(name string, data []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		keyFile := write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
		certificate := write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.quorum.Quorum.Custodians[i].Certificate.Raw}))
		sealed := write("share.cms", must(v.Shares().Sealed[i].Marshal()))
		share, err := exec.Command("openssl", "cms", "-decrypt", "-inform", "DER", "-binary", "-in", sealed, "-inkey", keyFile, "-recip", certificate).Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := sharing.Check(i+1, share, v.Shares().Commitments); err != nil {
			t.Error(err)
		}
	}
}

// private returns the private key of a custodian that is EC.
func (c *ceremony) private(i int) crypto.Signer {
	key, _ := c.custodians[i].Signer()
	return key
}
