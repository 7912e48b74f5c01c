package hsmkeys_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"iter"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

// The benchmarks set our operations beside the token's own: the bare loop of the
// private-key operation that each needs, through miekg/pkcs11, with as many
// sessions, in turns within one run. "ratio" is the median of ours over theirs.

const (
	benchRounds  = 10 // A B A B …
	benchOps     = 200
	benchWorkers = 6 // more than cores, so that a disk that syncs does not idle the token
)

// rate runs f in so many workers and gives operations a second.
func rate(b *testing.B, workers int, f func(worker, i int) error) float64 {
	var next atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for w := range workers {
		all.Go(func() {
			for i := next.Add(1); i <= benchOps; i = next.Add(1) {
				if err := f(w, int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return benchOps / time.Since(began).Seconds()
}

// besideMany is beside for an operation over many keys, which sees to its workers
// itself: prepare gives one that works on benchOps keys.
func besideMany(b *testing.B, name string, prepare func() iter.Seq[hsmkeys.Result], bare func(worker, i int) error) {
	b.Helper()
	for b.Loop() {
		var a, c, ratios []float64
		for range benchRounds {
			ours := prepare()
			theirs := rate(b, benchWorkers, bare)
			began, done := time.Now(), 0
			for r := range ours {
				if r.Err != nil || !r.Done {
					b.Fatalf("%+v", r)
				}
				done++
			}
			own := float64(done) / time.Since(began).Seconds()
			a, c, ratios = append(a, own), append(c, theirs), append(ratios, own/theirs)
		}
		b.ReportMetric(median(a), name+"/s")
		b.ReportMetric(median(c), "bare/s")
		b.ReportMetric(median(ratios), "ratio")
	}
}

// beside runs ours and the bare loop in turns.
func beside(b *testing.B, workers int, name string, ours, bare func(worker, i int) error) {
	for b.Loop() {
		var a, c, ratios []float64
		for range benchRounds {
			theirs, own := rate(b, workers, bare), rate(b, workers, ours)
			a, c, ratios = append(a, own), append(c, theirs), append(ratios, own/theirs)
		}
		b.ReportMetric(median(a), name+"/s")
		b.ReportMetric(median(c), "bare/s")
		b.ReportMetric(median(ratios), "ratio")
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// bare is the token's own interface, with a session for each worker.
type bare struct {
	ctx      *pkcs11.Ctx
	sessions []pkcs11.SessionHandle
	private  pkcs11.ObjectHandle
}

func newBare(b *testing.B, pair *token.KeyPair) *bare {
	b.Helper()
	r := &bare{ctx: pkcs11.New(env.Module())}
	for range benchWorkers {
		s, err := r.ctx.OpenSession(tok.Info().Slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			b.Fatal(err)
		}
		r.sessions = append(r.sessions, s)
	}
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, pair.ID())}
	if err := r.ctx.FindObjectsInit(r.sessions[0], template); err != nil {
		b.Fatal(err)
	}
	found, _, err := r.ctx.FindObjects(r.sessions[0], 1)
	if err != nil || len(found) != 1 {
		b.Fatal(found, err)
	}
	if err := r.ctx.FindObjectsFinal(r.sessions[0]); err != nil {
		b.Fatal(err)
	}
	r.private = found[0]
	b.Cleanup(func() {
		for _, s := range r.sessions {
			r.ctx.CloseSession(s)
		}
	})
	return r
}

func (r *bare) sign(worker, _ int) error {
	s := r.sessions[worker]
	digest := sha256.Sum256([]byte("hsmkeys"))
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, 32))}
	if err := r.ctx.SignInit(s, mechanism, r.private); err != nil {
		return err
	}
	_, err := r.ctx.Sign(s, digest[:])
	return err
}

func (r *bare) unwrap(wrapped []byte) func(worker, _ int) error {
	attribute := pkcs11.NewAttribute
	template := []*pkcs11.Attribute{ // what a key needs to be of use and safe, by whomever it is unwrapped
		attribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		attribute(pkcs11.CKA_TOKEN, false), attribute(pkcs11.CKA_PRIVATE, true), attribute(pkcs11.CKA_DERIVE, false),
		attribute(pkcs11.CKA_SENSITIVE, true), attribute(pkcs11.CKA_EXTRACTABLE, false),
		attribute(pkcs11.CKA_WRAP, true), attribute(pkcs11.CKA_UNWRAP, true),
		attribute(pkcs11.CKA_ENCRYPT, false), attribute(pkcs11.CKA_DECRYPT, false),
		attribute(pkcs11.CKA_SIGN, false), attribute(pkcs11.CKA_VERIFY, false),
	}
	return func(worker, _ int) error {
		s := r.sessions[worker]
		mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, pkcs11.CKZ_DATA_SPECIFIED, nil))}
		key, err := r.ctx.UnwrapKey(s, mechanism, r.private, wrapped, template)
		if err != nil {
			return err
		}
		return r.ctx.DestroyObject(s, key)
	}
}

// benchKeyring is a keyring under a pair of the default size.
func benchKeyring(b *testing.B) (*hsmkeys.Keyring, *token.KeyPair) {
	b.Helper()
	ctx := context.Background()
	p, err := tok.KeyPair(ctx, token.PairName{Label: "bench"})
	if err != nil {
		if p, err = tok.GenerateKeyPair(ctx, "bench", 3072); err != nil {
			b.Fatal(err)
		}
	}
	store, err := blob.CreateDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	k, err := hsmkeys.Found(ctx, tok, p, store, nil, "bench")
	if err != nil {
		b.Fatal(err)
	}
	return k, p
}

// BenchmarkCreate makes, wraps, signs and durably stores session keys, beside
// bare C_Sign.
func BenchmarkCreate(b *testing.B) {
	for _, workers := range []int{1, benchWorkers} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			k, p := benchKeyring(b)
			var n atomic.Int64
			beside(b, workers, "create", func(_, _ int) error {
				_, err := k.Create(context.Background(), fmt.Sprintf("k%d", n.Add(1)), blob.AES256, 0)
				return err
			}, newBare(b, p).sign)
		})
	}
}

// BenchmarkOpen verifies and unwraps session keys, beside bare C_UnwrapKey.
func BenchmarkOpen(b *testing.B) {
	for _, workers := range []int{1, benchWorkers} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			k, p := benchKeyring(b)
			create(b, k, "payroll")
			transit, err := tok.Generate(context.Background(), token.Spec{Use: token.WrapKeys, Size: 32})
			if err != nil {
				b.Fatal(err)
			}
			defer transit.Close()
			wrapped, err := transit.Wrap(context.Background(), p.Public().(*rsa.PublicKey), crypto.SHA1)
			if err != nil {
				b.Fatal(err)
			}
			beside(b, workers, "open", func(_, _ int) error {
				key, err := k.Open(context.Background(), hsmkeys.Ref{Name: "payroll"})
				if err != nil {
					return err
				}
				return key.Close()
			}, newBare(b, p).unwrap(wrapped.Key))
		})
	}
}

// softMember is a member whose key is in memory: to wrap to it takes no token.
func softMember(b *testing.B, role blob.Role, label string) blob.Member {
	b.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		b.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	return blob.Member{Role: role, Label: label, Certificate: c}
}

// unwrapAndSign is the bare loop of what rewrap and recover need the private key for.
func (r *bare) unwrapAndSign(b *testing.B, p *token.KeyPair) func(worker, i int) error {
	b.Helper()
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, p.Public().(*rsa.PublicKey), make([]byte, 32), nil)
	if err != nil {
		b.Fatal(err)
	}
	unwrap := r.unwrap(wrapped)
	return func(worker, i int) error {
		if err := unwrap(worker, i); err != nil {
			return err
		}
		return r.sign(worker, i)
	}
}

// BenchmarkRewrap rewraps keys to a list of two members, beside bare C_UnwrapKey
// and C_Sign.
func BenchmarkRewrap(b *testing.B) {
	k, p := benchKeyring(b)
	createMany(b, k, benchOps)
	authority := softMember(b, blob.BackupAuthority, "vault")
	named := false
	besideMany(b, "rewrap", func() iter.Seq[hsmkeys.Result] {
		var err error
		if named {
			k, err = k.RemoveMember(context.Background(), blob.BackupAuthority, "vault", func(err error) { b.Error(err) })
		} else {
			k, err = k.AddMember(context.Background(), authority)
		}
		if err != nil {
			b.Fatal(err)
		}
		named = !named
		return k.Rewrap(context.Background(), versions(b, k))
	}, newBare(b, p).unwrapAndSign(b, p))
}

// BenchmarkRecover recovers keys to a new owner, beside bare C_UnwrapKey and C_Sign.
// The authority and the owner are two pairs of one token.
func BenchmarkRecover(b *testing.B) {
	ctx := context.Background()
	_, authority := benchKeyring(b)
	c, err := authority.Certificate(ctx)
	if err != nil {
		b.Fatal(err)
	}
	to := softMember(b, blob.Owner, "spare")
	besideMany(b, "recover", func() iter.Seq[hsmkeys.Result] {
		k, store, _ := found(b)
		k = add(b, k, blob.Member{Role: blob.BackupAuthority, Label: "vault", Certificate: c})
		createMany(b, k, benchOps)
		owner, err := k.Certificate()
		if err != nil {
			b.Fatal(err)
		}
		if k, err = hsmkeys.Join(ctx, tok, authority, store, nil, owner); err != nil {
			b.Fatal(err)
		}
		r, err := k.BeginRecovery(ctx, owner, to, "a benchmark", func(err error) { b.Error(err) })
		if err != nil {
			b.Fatal(err)
		}
		return r.Keys(ctx, versions(b, r.Keyring))
	}, newBare(b, authority).unwrapAndSign(b, authority))
}
