package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/scripts/bench/storegen"
)

// The costs and savings of a keyring's signed state are measured with RSA-3072 signatures,
// the default.

// stateOwner makes a pair, and puts it on the token under the label of a part.
func (b *bench) stateOwner(label string) (*rsa.PrivateKey, error) {
	owner, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return nil, err
	}
	return owner, b.importPair(owner, label)
}

// importPair puts a pair on the token, under a label, and its certificate into a file.
func (b *bench) importPair(key crypto.Signer, label string) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, label+".key")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return err
	}
	if err := b.writeCertificate(key, label); err != nil {
		return err
	}
	_, err = b.output(nil, "hsmkeys", "token", "import-pair", "--label", label, file)
	return err
}

func (b *bench) writeCertificate(key crypto.Signer, label string) error {
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: storegen.Certificate(key, label).Raw})
	return os.WriteFile(b.certificate(label), data, 0o600)
}

func (b *bench) certificate(label string) string { return filepath.Join(b.dir, label+".pem") }

// store makes a store whose owner's pair is on the token under a label, and joins the keyring
// in it with the token.
func (b *bench) store(label, name string, o storegen.Options) (env []string, dir string, err error) {
	dir = filepath.Join(b.dir, name)
	log.Printf("making a store of %s keys", number(o.Keys))
	if err := b.make(storeOrder{dir, filepath.Join(b.dir, label+".key"), o}); err != nil {
		return nil, "", err
	}
	env = []string{"HSMKEYS_TOKEN=pkcs11:token=bench;object=" + label, "HSMKEYS_STORE=" + dir}
	_, err = b.output(env, "hsmkeys", "join", "--yes", "--vouched-by", b.certificate(label))
	return env, dir, err
}

// amongMany measures the commands that should cost the same among a million keys, and those
// that read all of them.
func (b *bench) amongMany() error {
	owner, err := b.stateOwner("many")
	if err != nil {
		return err
	}
	var envs [][]string
	for _, keys := range []int{100, b.largest} {
		env, dir, err := b.store("many", fmt.Sprintf("many-%d", keys), storegen.Options{Owner: owner, Keys: keys, Versions: 1, Members: 2, Blobs: 100})
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		envs = append(envs, env)
	}
	rows := [][]string{{"command", "until it prints", "until the end", "peak memory", "to reach"}}
	for _, c := range []struct{ command, reach string }{{"list", "≤ 5 s, ≤ 256 MiB"}, {"drill", "≤ 20 s, ≤ 256 MiB"}} {
		u, err := b.watch(envs[1], "hsmkeys", c.command)
		if err != nil {
			return err
		}
		rows = append(rows, []string{"`" + c.command + "`", fmt.Sprintf("%.2f s", u.first), fmt.Sprintf("%.1f s", u.seconds), mib(u.peak), c.reach})
	}
	b.heading("The state of %s keys", number(b.largest))
	b.table(rows)
	n := 0
	rows = [][]string{{"one process, in turns", "100 keys", number(b.largest) + " keys", "ratio of times", "to reach"}}
	for _, c := range []struct {
		title string
		args  func() []string
	}{
		{"`reveal NAME`", func() []string { return []string{"reveal", storegen.Name(7)} }},
		{"`create NAME`", func() []string { n++; return []string{"create", fmt.Sprintf("new-%d", n)} }},
	} {
		row, err := b.smallAndLarge(envs, c.args)
		if err != nil {
			return err
		}
		rows = append(rows, append([]string{c.title}, append(row, "≤ 1.2")...))
	}
	fmt.Fprintln(&b.out)
	b.table(rows)
	return nil
}

// smallAndLarge runs a command alternately on two stores.
func (b *bench) smallAndLarge(envs [][]string, args func() []string) ([]string, error) {
	seconds := make([][]float64, len(envs))
	for range 2 * b.rounds {
		for i, env := range envs {
			u, err := b.watch(env, append([]string{"hsmkeys"}, args()...)...)
			if err != nil {
				return nil, err
			}
			seconds[i] = append(seconds[i], u.seconds)
		}
	}
	log.Printf("%s: %s, %s, ratio %.2f", args()[0], ms(seconds[0]), ms(seconds[1]), ratio(seconds[1], seconds[0]))
	return []string{ms(seconds[0]), ms(seconds[1]), fmt.Sprintf("%.2f", ratio(seconds[1], seconds[0]))}, nil
}

func ms(seconds []float64) string { return fmt.Sprintf("%.1f ms", median(seconds)*1000) }

// manyVersions verifies one key with enough versions to reveal quadratic behaviour.
func (b *bench) manyVersions() error {
	owner, err := b.stateOwner("versions")
	if err != nil {
		return err
	}
	var envs [][]string
	for _, versions := range []int{1000, 10_000} {
		env, dir, err := b.store("versions", fmt.Sprintf("versions-of-one-%d", versions), storegen.Options{Owner: owner, Keys: 1, Versions: versions, Members: 2, Blobs: 1})
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		envs = append(envs, env)
	}
	rounds := b.rounds
	b.rounds = (rounds + 5) / 6
	row, err := b.smallAndLarge(envs, func() []string { return []string{"verify"} })
	b.rounds = rounds
	if err != nil {
		return err
	}
	b.heading("A key of many versions")
	b.table([][]string{{"one key, in turns", "1,000 versions", "10,000 versions", "ratio of times", "to reach"}, append(append([]string{"`verify`"}, row...), "≤ 12")})
	return nil
}

// A counting store counts the bytes that the state takes.
type counting struct {
	blob.Store
	bytes atomic.Int64
}

func (c *counting) Put(ctx context.Context, path string, data []byte) error {
	err := c.Store.Put(ctx, path, data)
	if err == nil && !strings.HasPrefix(path, blob.KeysPrefix) {
		c.bytes.Add(int64(len(data)))
	}
	return err
}

// stateSize measures the size of the state of a million keys, made at once and with one
// checkpoint for each. The latter is the mean over a few keys, made one by one at each
// doubling of the number of keys: making all of them would take a million signatures.
func (b *bench) stateSize() error {
	owner, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return err
	}
	ctx := context.Background()
	found := func() (*counting, *storegen.Generator, error) {
		c := &counting{Store: &mem.Store{}}
		g, err := storegen.Init(ctx, c, storegen.Options{Owner: owner, Versions: 1, Members: 2})
		return c, g, err
	}
	c, g, err := found()
	if err != nil {
		return err
	}
	if err := g.Add(ctx, b.largest); err != nil {
		return err
	}
	bulk := float64(c.bytes.Load()) / float64(b.largest)
	if c, g, err = found(); err != nil {
		return err
	}
	const some = 50
	sum, at, before := 0.0, 0, 0.0
	for size := some; ; size = min(2*size, b.largest) {
		if err := g.Add(ctx, size-some-g.Ledger.Len()); err != nil {
			return err
		}
		was := c.bytes.Load()
		for range some {
			if err := g.Add(ctx, 1); err != nil {
				return err
			}
		}
		one := float64(c.bytes.Load()-was) / some
		if at == 0 {
			before = one
		}
		sum += float64(size-at) * (before + one) / 2
		if at, before = size, one; size == b.largest {
			break
		}
	}
	b.heading("The size of the state of %s keys", number(b.largest))
	b.table([][]string{
		{"size of the state", "bytes a key", "to reach"},
		{"in bulk", fmt.Sprintf("%.0f B", bulk), "≤ 120 B"},
		{"one by one", fmt.Sprintf("%.0f B", sum/float64(b.largest)), "≤ 6 KB"},
	})
	return nil
}
