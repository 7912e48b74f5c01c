package ledger

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
)

// The tests of this package tell stories: members with keys in software, who sign what
// after whom, in stores in memory.

// An actor is somebody with a key exchange pair.
type actor struct {
	blob.Member
	key    crypto.Signer
	scheme keyspec.Scheme
}

func (a *actor) signer() blob.Signer {
	return blob.Signer{Key: a.key, Scheme: a.scheme, ID: []byte(identifier(signingCertificate(a.Member)))}
}

// cast are the actors, made once.
var cast = sync.OnceValue(func() map[string]*actor {
	all := map[string]*actor{}
	for _, label := range []string{"alice", "bob", "carol", "mallory", "vault", "safe"} {
		var key crypto.Signer
		scheme := keyspec.ECDSA
		if label == "bob" {
			key, scheme = must(rsa.GenerateKey(rand.Reader, 2048)), keyspec.RSAPSS
		} else {
			key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		}
		m := blob.Member{Role: blob.Owner, Label: label, Certificate: certify(label, key)}
		if label == "vault" || label == "safe" {
			m.Role = blob.BackupAuthority
		}
		all[label] = &actor{m, key, scheme}
	}
	board := &blob.Quorum{Threshold: 3}
	for _, label := range []string{"c1", "c2", "c3", "c4", "c5"} {
		key := ecKey()
		all[label] = &actor{blob.Member{Role: blob.Custodian, Label: label, Certificate: certify(label, key)}, key, keyspec.ECDSA}
		board.Custodians = append(board.Custodians, all[label].Member)
	}
	key := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	all["board"] = &actor{blob.Member{Role: blob.BackupAuthority, Label: "board", Certificate: certify("board", key), Quorum: board}, key, keyspec.ECDSA}
	return all
})

func who(label string) *actor { return cast()[label] }

func members(labels ...string) (all []blob.Member) {
	for _, label := range labels {
		all = append(all, who(label).Member)
	}
	return all
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func certify(name string, key crypto.Signer) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: day, NotAfter: day.AddDate(10, 0, 0), SubjectKeyId: must(blob.PublicKeyID(key.Public())),
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))))
}

const minute = time.Minute

var keyringID = blob.ID{0x4b, 1}

// A story is a keyring, and the time in it.
type story struct {
	*testing.T
	store *mem.Store
	now   time.Time
	count int
}

func newStory(t *testing.T) *story { return &story{T: t, store: &mem.Store{}, now: day} }

// nonce returns numbers, which differ as random ones do.
func (s *story) nonce() (out [16]byte, err error) {
	s.count++
	binary.BigEndian.PutUint64(out[:], uint64(s.count))
	return out, nil
}

func (s *story) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *story) refused(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("%v, want %v", err, want)
	}
}

func (s *story) tick() time.Time {
	s.now = s.now.Add(time.Minute)
	return s.now
}

// found makes a keyring of whom the first one signs.
func (s *story) found(labels ...string) *Ledger {
	s.Helper()
	l, err := Init(s.Context(), s.store, blob.MemberList{KeyringID: keyringID, Members: members(labels...)}, who(labels[0]).signer(), s.tick(), s.nonce)
	s.ok(err)
	return l
}

// commit records edits that all succeed.
func (s *story) commit(l *Ledger, by string, edits ...Edit) *Ledger {
	s.Helper()
	return s.propose(l, by, Proposal{Edits: edits})
}

func (s *story) propose(l *Ledger, by string, p Proposal) *Ledger {
	s.Helper()
	next, err := s.try(l, by, p)
	s.ok(err)
	return next
}

func (s *story) try(l *Ledger, by string, p Proposal) (*Ledger, error) {
	next, errs, err := l.Commit(s.Context(), p, who(by).signer(), s.tick(), s.nonce)
	return next, errors.Join(append(errs, err)...)
}

// change records the next list of members.
func (s *story) change(l *Ledger, by string, labels ...string) *Ledger {
	s.Helper()
	return s.propose(l, by, Proposal{List: listOf(nil, labels...)})
}

func listOf(recovery *blob.Recovery, labels ...string) func(*Ledger) (*blob.MemberList, error) {
	return func(l *Ledger) (*blob.MemberList, error) {
		next := l.NextList()
		next.Members, next.Recovery = members(labels...), recovery
		return &next, nil
	}
}

func from(label string) *blob.Recovery {
	return &blob.Recovery{From: []byte(KeyID(who(label).Member)), Reason: "token drowned"}
}

// open opens the store of the story with pins.
func (s *story) open(pins ...Pin) (*Ledger, Report, error) {
	return Open(s.Context(), s.store, Trust{Pins: pins})
}

func (s *story) opened(trust Trust) *Ledger {
	s.Helper()
	l, _, err := Open(s.Context(), s.store, trust)
	s.ok(err)
	return l
}

// copy returns a copy of the story's store, as cp -a makes it.
func (s *story) copy() *mem.Store {
	s.Helper()
	out := &mem.Store{}
	s.unite(out, s.store)
	return out
}

// unite copies all objects that are not there yet.
func (s *story) unite(to, from blob.Store) {
	s.Helper()
	for path, err := range from.List(s.Context(), "") {
		s.ok(err)
		data, err := from.Get(s.Context(), path)
		s.ok(err)
		if err := to.Put(s.Context(), path, data); err != nil && !errors.Is(err, blob.ErrExists) {
			s.Fatal(err)
		}
	}
}

// in returns the story told on in another store.
func (s *story) in(store *mem.Store) *story {
	other := *s
	other.store, other.count = store, s.count+1000
	return &other
}

// replace puts an object where there is one already, which only an attacker does.
func (s *story) replace(path string, data []byte) {
	s.Helper()
	s.ok(s.store.Delete(s.Context(), path))
	s.ok(s.store.Put(s.Context(), path, data))
}

func (s *story) slot(number int) []byte {
	s.Helper()
	der, err := s.store.Get(s.Context(), blob.SlotPath(number))
	s.ok(err)
	return der
}

// names are the keys that there are, as name@versions.
func (s *story) names(l *Ledger) (all []string) {
	s.Helper()
	for e, err := range l.Entries(s.Context(), "") {
		s.ok(err)
		all = append(all, fmt.Sprintf("%s@%d", e.Name, e.Current))
	}
	return all
}

func (s *story) has(l *Ledger, want ...string) {
	s.Helper()
	if got := s.names(l); !slices.Equal(got, want) {
		s.Fatalf("%v, want %v", got, want)
	}
}

// newKey is the edit that creates a key, or rotates one that is there.
func newKey(name string) Edit {
	return Edit{Name: name, Apply: func(old *Entry, _ func(int) (Version, bool, error), number int, at time.Time) (Update, []Change, error) {
		op, e := Create, Entry{Name: name}
		if old != nil {
			op, e = Rotate, *old
			e.Current = old.Versions[len(old.Versions)-1].Number
		}
		e.Current++
		v := version(fmt.Sprint(name, number), e.Current)
		v.Changed, v.ChangedAt = number, at
		return Update{Entry: e, Set: []Version{v}}, []Change{{Op: op, Name: name, Version: e.Current}}, nil
	}}
}

// editVersion is an edit of one version.
func editVersion(op Op, name string, version int, f func(*Entry, *Version)) Edit {
	return Edit{Name: name, Apply: func(old *Entry, get func(int) (Version, bool, error), number int, at time.Time) (Update, []Change, error) {
		e := *old
		v, _, err := get(version)
		v.Changed, v.ChangedAt = number, at
		f(&e, &v)
		return Update{Entry: e, Set: []Version{v}}, []Change{{Op: op, Name: name, Version: version}}, err
	}}
}

func rewrap(name string, version int) Edit {
	return editVersion(Rewrap, name, version, func(_ *Entry, v *Version) {
		v.Revision++
		v.Blob = sha256.Sum256(v.Blob[:])
	})
}

func TestAKeyringIsFoundedOpenedAndChanged(t *testing.T) {
	s := newStory(t)
	l := s.found("alice", "bob", "vault")
	pin := l.Pin()
	l = s.commit(l, "alice", newKey("db"), newKey("web"))
	l = s.commit(l, "alice", newKey("db"))
	s.has(l, "db@2", "web@1")

	bob := s.opened(Trust{Pins: []Pin{pin}, Write: true})
	s.has(bob, "db@2", "web@1")
	bob = s.commit(bob, "bob", newKey("mail"), rewrap("db", 1))
	s.has(bob, "db@2", "mail@1", "web@1")

	again, report, err := s.open(l.Pin())
	s.ok(err)
	s.has(again, "db@2", "mail@1", "web@1")
	if again.At() != bob.At() || report.Before != l.At() || again.Head().Checkpoint().Number != 4 {
		t.Fatalf("opened at %v, from %v", again.At(), report.Before)
	}
	e, err := again.Entry(s.Context(), "db")
	s.ok(err)
	v, err := again.Version(s.Context(), e, 1)
	s.ok(err)
	if v.Revision != 2 || v.Changed != 4 {
		t.Fatalf("version 1 is %+v", v)
	}
	_, err = again.Entry(s.Context(), "dc")
	s.refused(err, blob.ErrNotFound)
}

// What a person tells beside a pin does not stand for accepting a recovery after the pin.
func TestARecoveryBeforeACheckpointThatWasToldIsReported(t *testing.T) {
	s := newStory(t)
	l := s.commit(s.found("alice", "bob", "vault"), "alice", newKey("db"))
	pin := l.Pin()
	l = s.propose(l, "vault", Proposal{List: listOf(from("alice"), "carol", "bob", "vault")})
	told := l.At()
	_, report, err := Open(s.Context(), s.store, Trust{Pins: []Pin{pin}, Checkpoint: &told})
	s.ok(err)
	if len(report.Recoveries) != 1 || report.Before != pin.At {
		t.Fatalf("%+v", report)
	}
	_, report, err = Open(s.Context(), s.store, Trust{Checkpoint: &told})
	s.ok(err)
	if len(report.Recoveries) != 0 {
		t.Fatalf("%+v without a pin", report)
	}
}
