package server_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/token"
)

// BenchmarkClients has 1 and 16 clients use the pair and a session key through the agent, in turns with
// the bare calls of PKCS #11 in as many sessions of the same process. "ratio" is the median of ours over
// theirs.
func BenchmarkClients(b *testing.B) {
	own, a := newAgent(b)
	wrapped, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, own.public.(*rsa.PublicKey), make([]byte, 32), nil)
	if err != nil {
		b.Fatal(err)
	}
	key := keyspec.WrappedKey{Key: keyspec.Key{Algorithm: keyspec.AES256, Purpose: keyspec.WrapKeys, Size: 32}, Wrapped: &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: wrapped}}
	for _, clients := range []int{1, 16} {
		var pairs []*agent.Pair
		for range clients {
			c, err := agent.Dial(b.Context(), a.path)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { c.Close() })
			pair, err := c.FindPair(b.Context(), token.PairName{Label: "pair"}, token.PairName{})
			if err != nil {
				b.Fatal(err)
			}
			pairs = append(pairs, pair)
		}
		raw := newBareSessions(b, a.info.Module, a.info.Slot, own.id, clients)
		name := map[int]string{1: "clients=1", 16: "clients=16"}[clients]
		digest := sha256.Sum256([]byte("hsmkeys"))
		inTurns(b, "Sign/"+name, clients, func(client int) error {
			signer, _ := pairs[client].Signer()
			_, err := signer.Sign(nil, digest[:], &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256})
			return err
		}, func(client int) error { return raw.sign(client, digest[:]) })
		inTurns(b, "Unwrap/"+name, clients, func(client int) error {
			k, err := pairs[client].Unwrap(b.Context(), key)
			if err != nil {
				return err
			}
			return k.Close()
		}, func(client int) error { return raw.unwrap(client, wrapped) })
	}
}

// inTurns reports operations a second of ours and of the bare calls, and the median of their ratio.
func inTurns(b *testing.B, name string, workers int, ours, bare func(worker int) error) {
	b.Run(name, func(b *testing.B) {
		var o, t, ratios []float64
		for range 10 {
			x, y := rate(b, workers, ours), rate(b, workers, bare)
			o, t, ratios = append(o, x), append(t, y), append(ratios, x/y)
		}
		median := func(all []float64) float64 { slices.Sort(all); return all[len(all)/2] }
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(median(o), "ops/s")
		b.ReportMetric(median(t), "bare/s")
		b.ReportMetric(median(ratios), "ratio")
	})
}

func rate(b *testing.B, workers int, f func(worker int) error) float64 {
	const operations = 200
	var next atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for w := range workers {
		all.Go(func() {
			for next.Add(1) <= operations {
				if err := f(w); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return operations / time.Since(began).Seconds()
}

// bareSessions are sessions of the token's own interface.
type bareSessions struct {
	ctx      *pkcs11.Ctx
	sessions []pkcs11.SessionHandle
	private  pkcs11.ObjectHandle
}

func newBareSessions(b *testing.B, module string, slot uint, id []byte, n int) *bareSessions {
	b.Helper()
	r := &bareSessions{ctx: pkcs11.New(module)} // initialised and logged in to by the agent
	for range n {
		s, err := r.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			b.Fatal(err)
		}
		r.sessions = append(r.sessions, s)
	}
	if err := r.ctx.FindObjectsInit(r.sessions[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, id)}); err != nil {
		b.Fatal(err)
	}
	found, _, err := r.ctx.FindObjects(r.sessions[0], 1)
	if err != nil || len(found) != 1 {
		b.Fatal(found, err)
	}
	r.private = found[0]
	if err := r.ctx.FindObjectsFinal(r.sessions[0]); err != nil {
		b.Fatal(err)
	}
	return r
}

func (r *bareSessions) sign(session int, digest []byte) error {
	s := r.sessions[session]
	how := pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, 32))
	if err := r.ctx.SignInit(s, []*pkcs11.Mechanism{how}, r.private); err != nil {
		return err
	}
	_, err := r.ctx.Sign(s, digest)
	return err
}

func (r *bareSessions) unwrap(session int, wrapped []byte) error {
	s, attribute := r.sessions[session], pkcs11.NewAttribute
	how := pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, pkcs11.CKZ_DATA_SPECIFIED, nil))
	key, err := r.ctx.UnwrapKey(s, []*pkcs11.Mechanism{how}, r.private, wrapped, []*pkcs11.Attribute{
		attribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		attribute(pkcs11.CKA_TOKEN, false), attribute(pkcs11.CKA_PRIVATE, true), attribute(pkcs11.CKA_SENSITIVE, true), attribute(pkcs11.CKA_EXTRACTABLE, false),
		attribute(pkcs11.CKA_WRAP, true), attribute(pkcs11.CKA_UNWRAP, true), attribute(pkcs11.CKA_ENCRYPT, false), attribute(pkcs11.CKA_DECRYPT, false),
	})
	if err != nil {
		return err
	}
	return r.ctx.DestroyObject(s, key)
}
