package hsmkeys_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"iter"
	"math/big"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	dirstore "github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/scripts/bench/storegen"
	"github.com/hsmkeys/hsmkeys/token"
)

// The benchmarks set our operations beside the token's own: the bare loop of the
// private-key operation that each needs, through miekg/pkcs11, with as many
// sessions, in turns within one run. "ratio" is the median of ours over theirs.
//
// The token is a SoftHSM token, or with HSMKEYS_BENCH_TOKEN=1 the one that HSMKEYS_MODULE,
// HSMKEYS_TOKEN and MATRIX_PIN name, as scripts/tokens/*.sh set them. HSMKEYS_BENCH_OPS is
// the number of operations in a round, for slow ones.

const benchRounds = 10 // A B A B …

var benchOps = func() int64 {
	if n, err := strconv.ParseInt(os.Getenv("HSMKEYS_BENCH_OPS"), 10, 64); err == nil {
		return n
	}
	return 200
}()

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
	return float64(benchOps) / time.Since(began).Seconds()
}

// beside runs ours and the bare loop in turns, each in so many workers.
func beside(b *testing.B, workers int, name string, ours, bare func(worker, i int) error) {
	b.Helper()
	inTurns(b, name, func() float64 { return rate(b, workers, ours) }, func() float64 { return rate(b, workers, bare) })
}

// inTurns reports the medians of two rates, and of their ratio.
func inTurns(b *testing.B, name string, ours, theirs func() float64) {
	b.Helper()
	for b.Loop() {
		var a, c, ratios []float64
		for range benchRounds {
			there, own := theirs(), ours()
			a, c, ratios = append(a, own), append(c, there), append(ratios, own/there)
		}
		b.ReportMetric(median(a), name+"/s")
		b.ReportMetric(median(c), "bare/s")
		b.ReportMetric(median(ratios), "ratio")
	}
}

// besideMany is beside for an operation over many keys, which sees to its workers
// itself: prepare gives one that works on benchOps keys.
func besideMany(b *testing.B, name string, prepare func() iter.Seq[hsmkeys.Result], bare func(worker, i int) error) {
	b.Helper()
	var ours iter.Seq[hsmkeys.Result]
	inTurns(b, name, func() float64 {
		began, done := time.Now(), 0
		for r := range ours {
			if r.Err != nil || !r.Done {
				b.Fatalf("%+v", r)
			}
			done++
		}
		return float64(done) / time.Since(began).Seconds()
	}, func() float64 {
		ours = prepare()
		return rate(b, 2, bare)
	})
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// benchToken is the token of the benchmarks, and its PIN.
func benchToken(b *testing.B) (*token.Token, string, string) {
	b.Helper()
	if os.Getenv("HSMKEYS_BENCH_TOKEN") == "" {
		return tok, env.Module(), pin
	}
	module, pin := os.Getenv("HSMKEYS_MODULE"), os.Getenv("MATRIX_PIN")
	t, err := token.Open(context.Background(), token.Config{
		Module: module, Token: token.Selector{Label: os.Getenv("HSMKEYS_TOKEN")},
		PIN: func(context.Context, token.Info) ([]byte, error) { return []byte(pin), nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { t.Close() })
	return t, module, pin
}

// bare is the token's own interface, with a session for each worker.
type bare struct {
	ctx      *pkcs11.Ctx
	sessions []pkcs11.SessionHandle
	private  pkcs11.ObjectHandle
	decrypts bool // it does not unwrap
	hash     crypto.Hash
}

func newBare(b *testing.B, pair *token.KeyPair) *bare {
	b.Helper()
	t, module, pin := benchToken(b)
	r := &bare{ctx: pkcs11.New(module), hash: crypto.SHA1}
	if where, err := pair.Residence(context.Background()); err != nil {
		b.Fatal(err)
	} else if where == keyspec.InMemory {
		r.decrypts, r.hash = true, crypto.SHA256
	}
	if takes, err := pair.TakesOAEP(context.Background(), crypto.SHA256); err == nil && !takes {
		r.hash = crypto.SHA1
	}
	own := r.ctx.Initialize() == nil // p11-kit takes each user of it for an application of its own
	for range 2 {
		s, err := r.ctx.OpenSession(t.Info().Slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			b.Fatal(err)
		}
		r.sessions = append(r.sessions, s)
	}
	if own {
		if err := r.ctx.Login(r.sessions[0], pkcs11.CKU_USER, pin); err != nil {
			b.Fatal(err)
		}
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
		if own {
			r.ctx.Finalize()
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

// unwrap opens a session key that is wrapped to the pair.
func (r *bare) unwrap(b *testing.B, p *token.KeyPair) func(worker, _ int) error {
	b.Helper()
	wrapped, err := rsa.EncryptOAEP(r.hash.New(), rand.Reader, p.Public().(*rsa.PublicKey), make([]byte, 32), nil)
	if err != nil {
		b.Fatal(err)
	}
	digest, mgf := uint(pkcs11.CKM_SHA_1), uint(pkcs11.CKG_MGF1_SHA1)
	if r.hash == crypto.SHA256 {
		digest, mgf = pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256
	}
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
		mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(digest, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil))}
		if r.decrypts {
			if err := r.ctx.DecryptInit(s, mechanism, r.private); err != nil {
				return err
			}
			_, err := r.ctx.Decrypt(s, wrapped)
			return err
		}
		key, err := r.ctx.UnwrapKey(s, mechanism, r.private, wrapped, template)
		if err != nil {
			return err
		}
		return r.ctx.DestroyObject(s, key)
	}
}

// benchKeyring is a keyring under a pair of the default size, or of 2048 bits on a token
// that makes no larger ones, with a backup authority.
func benchKeyring(b *testing.B) (*hsmkeys.Keyring, *token.KeyPair) {
	b.Helper()
	ctx := context.Background()
	t, _, _ := benchToken(b)
	p, err := t.KeyPair(ctx, token.PairName{Label: "bench"})
	for _, kind := range []token.KeyType{token.RSA3072, token.RSA2048} {
		if err != nil {
			p, err = t.GenerateKeyPair(ctx, "bench", kind)
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	store, err := dirstore.Create(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	k, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: p}, "bench")
	if err != nil {
		b.Fatal(err)
	}
	add(b, k, softMember(b, blob.BackupAuthority, "vault"))
	return k, p
}

// BenchmarkCreate makes, wraps to owner and authority, reads back, signs and durably stores
// session keys, beside bare C_UnwrapKey and C_Sign; and without reading back, beside bare
// C_Sign.
func BenchmarkCreate(b *testing.B) {
	readBack(b, func(b *testing.B, all bool) {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
				k, p := benchKeyring(b)
				k.Options().NoReadBack = !all
				bare := newBare(b, p)
				loop := bare.sign
				if all {
					loop = bare.unwrapAndSign(b, p, 1)
				}
				var n atomic.Int64
				beside(b, workers, "create", func(_, _ int) error {
					_, err := k.Create(context.Background(), fmt.Sprintf("k%d", n.Add(1)), keyspec.AES256, 0)
					return err
				}, loop)
			})
		}
	})
}

// readBack runs a benchmark with --read-back all and none.
func readBack(b *testing.B, run func(b *testing.B, all bool)) {
	b.Run("read-back=all", func(b *testing.B) { run(b, true) })
	b.Run("read-back=none", func(b *testing.B) { run(b, false) })
}

// BenchmarkOpen verifies and unwraps session keys, beside bare C_UnwrapKey. A key that is
// opened again is not verified again.
func BenchmarkOpen(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for name, keys := range map[string]int{"another": int(benchOps), "again": 1} {
			b.Run(fmt.Sprintf("%s/workers=%d", name, workers), func(b *testing.B) {
				k, p := benchKeyring(b)
				createMany(b, k, keys)
				refs := versions(b, k)
				bare := newBare(b, p)
				var reader *hsmkeys.Keyring
				inTurns(b, "open", func() float64 {
					return rate(b, workers, func(_, i int) error {
						key, err := reader.Open(context.Background(), refs[i%keys])
						if err != nil {
							return err
						}
						return key.Close()
					})
				}, func() float64 {
					reader = k.Fresh() // which has opened nothing yet
					return rate(b, workers, bare.unwrap(b, p))
				})
			})
		}
	}
}

// BenchmarkVerify verifies 10,000 blobs without a token, beside bare RSA signatures on
// every processor.
func BenchmarkVerify(b *testing.B) {
	const keys = 10_000
	signer, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	if err := storegen.Make(dir, storegen.Options{Owner: signer, Keys: keys, Versions: 1, Members: 2}); err != nil {
		b.Fatal(err)
	}
	store, err := dirstore.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	k, err := hsmkeys.OpenWithCertificate(context.Background(), hsmkeys.Options{Store: store, Voucher: storegen.Certificate(signer, "owner")})
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("hsmkeys"))
	signature, err := rsa.SignPSS(rand.Reader, signer, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: 32})
	if err != nil {
		b.Fatal(err)
	}
	inTurns(b, "verify", func() float64 {
		began, n := time.Now(), 0
		for name, err := range k.Verify(context.Background()) {
			if n++; err != nil {
				b.Fatal(name, err)
			}
		}
		return float64(n) / time.Since(began).Seconds()
	}, func() float64 {
		began := time.Now()
		var all sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			all.Go(func() {
				for range keys / runtime.GOMAXPROCS(0) {
					if err := rsa.VerifyPSS(&signer.PublicKey, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: 32}); err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
		return keys / time.Since(began).Seconds()
	})
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

// unwrapAndSign is the bare loop of what create, rewrap and recover need the private key
// for: so many keys are unwrapped for one signature.
func (r *bare) unwrapAndSign(b *testing.B, p *token.KeyPair, unwraps int) func(worker, i int) error {
	b.Helper()
	unwrap := r.unwrap(b, p)
	return func(worker, i int) error {
		for range unwraps {
			if err := unwrap(worker, i); err != nil {
				return err
			}
		}
		return r.sign(worker, i)
	}
}

// rewraps is how many keys are unwrapped for each that is wrapped again.
func rewraps(readBack bool) int {
	if readBack {
		return 2
	}
	return 1
}

// BenchmarkRewrap rewraps keys to a list of two or three members, in turns, beside bare
// C_UnwrapKey, twice where the result is read back, and C_Sign.
func BenchmarkRewrap(b *testing.B) {
	readBack(b, func(b *testing.B, all bool) {
		k, p := benchKeyring(b)
		createMany(b, k, int(benchOps))
		k.Options().NoReadBack = !all
		authority := softMember(b, blob.BackupAuthority, "second")
		named := false
		besideMany(b, "rewrap", func() iter.Seq[hsmkeys.Result] {
			var err error
			if named {
				err = k.RemoveMember(context.Background(), blob.BackupAuthority, "second", func(err error) { b.Error(err) })
			} else {
				err = k.AddMember(context.Background(), authority)
			}
			if err != nil {
				b.Fatal(err)
			}
			named = !named
			return k.Rewrap(context.Background(), versions(b, k), "")
		}, newBare(b, p).unwrapAndSign(b, p, rewraps(all)))
	})
}

// BenchmarkRecover recovers keys to a new owner, beside the same.
// The authority and the owner are two pairs of one token.
func BenchmarkRecover(b *testing.B) {
	ctx := context.Background()
	readBack(b, func(b *testing.B, all bool) {
		_, authority := benchKeyring(b)
		c, err := authority.Certificate(ctx)
		if err != nil {
			b.Fatal(err)
		}
		to := softMember(b, blob.Owner, "spare")
		besideMany(b, "recover", func() iter.Seq[hsmkeys.Result] {
			k, store, _ := found(b)
			add(b, k, blob.Member{Role: blob.BackupAuthority, Label: "vault", Certificate: c})
			createMany(b, k, int(benchOps))
			owner, err := k.Certificate()
			if err != nil {
				b.Fatal(err)
			}
			if k, err = hsmkeys.Join(ctx, hsmkeys.Options{Store: store, Pair: authority, Voucher: owner}); err != nil {
				b.Fatal(err)
			}
			k.Options().NoReadBack = !all
			r, err := k.BeginRecovery(ctx, owner, to, "a benchmark")
			if err != nil {
				b.Fatal(err)
			}
			return r.Keys(ctx, versions(b, r.Keyring))
		}, newBare(b, authority).unwrapAndSign(b, authority, rewraps(all)))
	})
}
