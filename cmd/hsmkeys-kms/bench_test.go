package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/cmd/internal/metrics"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// An emptyService answers at once, as the other half of what an Encrypt or Decrypt is measured beside.
type emptyService struct {
	kmsapi.UnimplementedKeyManagementServiceServer
}

func (emptyService) Encrypt(context.Context, *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	return &kmsapi.EncryptResponse{Ciphertext: make([]byte, 101)}, nil
}

// BenchmarkPlugin has 1 and 16 callers encrypt and decrypt 32 bytes, in turns with an empty gRPC call and a
// bare C_WrapKey or C_UnwrapKey. "ratio" is the median of ours over theirs.
func BenchmarkPlugin(b *testing.B) {
	env := softhsm.NewT(b)
	if err := env.Use(); err != nil {
		b.Fatal(err)
	}
	soft, err := env.InitToken("bench")
	if err != nil {
		b.Fatal(err)
	}
	t, err := token.Open(b.Context(), token.Config{Module: env.Module(), Token: token.Selector{Serial: soft.Serial}, MakePairs: true,
		PIN: func(context.Context, token.Info) ([]byte, error) { return []byte(soft.PIN), nil }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { t.Close() })
	pair, err := t.GenerateKeyPair(b.Context(), "bench", token.RSA3072)
	if err != nil {
		b.Fatal(err)
	}
	store, err := dir.Create(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	k, err := hsmkeys.Init(b.Context(), hsmkeys.Options{Store: store, Pair: pair}, "bench")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := k.Create(b.Context(), "k8s", keyspec.AES256, keyspec.WrapKeys); err != nil {
		b.Fatal(err)
	}
	p := newPlugin(k, "k8s", metrics.New("bench"), nil)
	b.Cleanup(p.close)
	ours, empty := dialBench(b, p), dialBench(b, emptyService{})
	raw := newRawWrap(b, env.Module(), t.Info().Slot, 16)
	sealed, err := ours.Encrypt(b.Context(), &kmsapi.EncryptRequest{Plaintext: make([]byte, 32)})
	if err != nil {
		b.Fatal(err)
	}
	emptyCall := func() error {
		_, err := empty.Encrypt(b.Context(), &kmsapi.EncryptRequest{Plaintext: make([]byte, 32)})
		return err
	}
	for _, callers := range []int{1, 16} {
		benchInTurns(b, fmt.Sprintf("Encrypt/callers=%d", callers), callers, func(int) error {
			_, err := ours.Encrypt(b.Context(), &kmsapi.EncryptRequest{Plaintext: make([]byte, 32)})
			return err
		}, func(caller int) error { return errors.Join(emptyCall(), raw.wrap(caller)) })
		benchInTurns(b, fmt.Sprintf("Decrypt/callers=%d", callers), callers, func(int) error {
			_, err := ours.Decrypt(b.Context(), &kmsapi.DecryptRequest{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyId})
			return err
		}, func(caller int) error { return errors.Join(emptyCall(), raw.unwrap(caller)) })
	}
}

func dialBench(b *testing.B, service kmsapi.KeyManagementServiceServer) kmsapi.KeyManagementServiceClient {
	b.Helper()
	path := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	s := grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(s, service)
	go func() { _ = s.Serve(l) }()
	b.Cleanup(s.Stop)
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return kmsapi.NewKeyManagementServiceClient(conn)
}

func benchInTurns(b *testing.B, name string, callers int, ours, bare func(caller int) error) {
	b.Run(name, func(b *testing.B) {
		var o, t, ratios []float64
		for range 10 {
			x, y := benchRate(b, callers, ours), benchRate(b, callers, bare)
			o, t, ratios = append(o, x), append(t, y), append(ratios, x/y)
		}
		median := func(all []float64) float64 { slices.Sort(all); return all[len(all)/2] }
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(median(o), "ops/s")
		b.ReportMetric(median(t), "bare/s")
		b.ReportMetric(median(ratios), "ratio")
	})
}

func benchRate(b *testing.B, callers int, f func(caller int) error) float64 {
	const operations = 2000
	var next atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for c := range callers {
		all.Go(func() {
			for next.Add(1) <= operations {
				if err := f(c); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return operations / time.Since(began).Seconds()
}

// A rawWrap wraps and unwraps a data key with the token's own interface, with a session for each caller.
type rawWrap struct {
	ctx      *pkcs11.Ctx
	sessions []pkcs11.SessionHandle
	keys     []pkcs11.ObjectHandle
	data     []pkcs11.ObjectHandle
	wrapped  [][]byte
}

func newRawWrap(b *testing.B, module string, slot uint, n int) *rawWrap {
	b.Helper()
	r, attribute := &rawWrap{ctx: pkcs11.New(module)}, pkcs11.NewAttribute
	for range n {
		s, err := r.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			b.Fatal(err)
		}
		key, err := r.ctx.GenerateKey(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
			attribute(pkcs11.CKA_TOKEN, false), attribute(pkcs11.CKA_VALUE_LEN, 32), attribute(pkcs11.CKA_WRAP, true), attribute(pkcs11.CKA_UNWRAP, true)})
		if err != nil {
			b.Fatal(err)
		}
		data, err := r.ctx.CreateObject(s, append(dataTemplate(), attribute(pkcs11.CKA_VALUE, make([]byte, 32))))
		if err != nil {
			b.Fatal(err)
		}
		wrapped, err := r.ctx.WrapKey(s, aesKeyWrap, key, data)
		if err != nil {
			b.Fatal(err)
		}
		r.wrapped = append(r.wrapped, wrapped)
		r.sessions, r.keys, r.data = append(r.sessions, s), append(r.keys, key), append(r.data, data)
	}
	return r
}

func dataTemplate() []*pkcs11.Attribute {
	attribute := pkcs11.NewAttribute
	return []*pkcs11.Attribute{attribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), attribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		attribute(pkcs11.CKA_TOKEN, false), attribute(pkcs11.CKA_SENSITIVE, false), attribute(pkcs11.CKA_EXTRACTABLE, true)}
}

var aesKeyWrap = []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP, nil)}

func (r *rawWrap) wrap(caller int) error {
	_, err := r.ctx.WrapKey(r.sessions[caller], aesKeyWrap, r.keys[caller], r.data[caller])
	return err
}

func (r *rawWrap) unwrap(caller int) error {
	s := r.sessions[caller]
	key, err := r.ctx.UnwrapKey(s, aesKeyWrap, r.keys[caller], r.wrapped[caller], dataTemplate())
	if err != nil {
		return err
	}
	return r.ctx.DestroyObject(s, key)
}
