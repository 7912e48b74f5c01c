package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token"
	"github.com/miekg/pkcs11"
)

// issuer is a certification authority, run with openssl.
type issuer struct{ dir string }

func newIssuer(t *testing.T) issuer {
	t.Helper()
	i := issuer{t.TempDir()}
	runIn(t, i.dir, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Some CA", "-days", "30")
	return i
}

// issue certifies a public key with the given lines of an extension section.
func (i issuer) issue(t *testing.T, name string, public any, extensions string) *x509.Certificate {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, i.dir, "public.pem", "PUBLIC KEY", der)
	if err := os.WriteFile(filepath.Join(i.dir, "extensions"), []byte(extensions), 0o600); err != nil {
		t.Fatal(err)
	}
	runIn(t, i.dir, "openssl", "x509", "-new", "-subj", "/CN="+name, "-CA", "ca.pem", "-CAkey", "ca.key", "-force_pubkey", "public.pem",
		"-extfile", "extensions", "-days", "30", "-out", "issued.pem")
	data, err := os.ReadFile(filepath.Join(i.dir, "issued.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func runIn(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// nssVerifies reports whether NSS finds a good signature in a blob with its certificate.
func nssVerifies(t *testing.T, ca issuer, der []byte) bool {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "blob.cms"), der, 0o600); err != nil {
		t.Fatal(err)
	}
	runIn(t, dir, "certutil", "-N", "-d", "sql:.", "--empty-password")
	runIn(t, dir, "certutil", "-A", "-d", "sql:.", "-n", "ca", "-t", "CT,CT,CT", "-i", filepath.Join(ca.dir, "ca.pem"))
	return strings.Contains(runIn(t, dir, "cmsutil", "-D", "-d", "sql:.", "-n", "-h", "1", "-i", "blob.cms"), "signer0.status=GoodSignature")
}

// pairOn makes a pair without a certificate, as a card has it before its owner goes to
// the certification authority.
func (s *site) pairOn(t *testing.T, label string, kind token.KeyType) *token.KeyPair {
	t.Helper()
	pair, err := s.tok.GenerateKeyPair(context.Background(), label, kind)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// store puts a certificate beside a pair on the token, as other tools do.
func (s *site) store(t *testing.T, pair *token.KeyPair, c *x509.Certificate) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cert.der")
	if err := os.WriteFile(path, c.Raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("pkcs11-tool", "--module", env.Module(), "--token-label", s.soft.Label, "--login", "--pin", "env:TEST_PIN",
		"--write-object", path, "--type", "cert", "--id", hex.EncodeToString(pair.ID()))
	cmd.Env = append(os.Environ(), "TEST_PIN="+s.soft.PIN)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// emptySite is a token without a pair.
func emptySite(t *testing.T, label string) *site {
	t.Helper()
	siteNumber++
	made, err := env.InitToken(label)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{soft: made}
	if s.tok, err = openToken(made.Label, made.PIN); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.tok.Close() })
	return s
}

// Adopted pairs have certificates of others, whose subjectKeyIdentifier is their issuer's
// choice. Other programs find signers and holders by it.
func TestOthersVerifyAndOpenBlobsOfAdoptedPairs(t *testing.T) {
	ctx := context.Background()
	ca := newIssuer(t)
	const rsaUsage, ecUsage, hash = "keyUsage=digitalSignature,keyEncipherment\n", "keyUsage=digitalSignature,keyAgreement\n", "subjectKeyIdentifier=hash\n"
	for _, test := range []struct {
		name     string
		kind     token.KeyType
		exchange string // extensions of the key exchange certificate
		signing  string // those of the one that signs, if another does
		finds    bool   // other programs find the signer by its certificate
	}{
		{"rsa issued", token.RSA2048, rsaUsage + hash, "", true},
		{"ec issued", token.P256, ecUsage + hash, "", true},
		{"identifier of 8 bytes", token.P256, ecUsage + "subjectKeyIdentifier=0102030405060708\n", "", true},
		{"signs with another", token.RSA2048, "keyUsage=keyEncipherment\n" + hash, "keyUsage=digitalSignature\n" + hash, true},
		{"no identifier", token.RSA2048, rsaUsage + "subjectKeyIdentifier=none\n", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := emptySite(t, "adopted "+test.name)
			s.pair = s.pairOn(t, "card", test.kind)
			s.cert = ca.issue(t, test.name, s.pair.Public(), test.exchange)
			s.store(t, s.pair, s.cert)
			signer, by := s.cert, s.pair
			if test.signing != "" {
				by = s.pairOn(t, "signs", token.P256)
				signer = ca.issue(t, test.name+" signs", by.Public(), test.signing)
				s.store(t, by, signer)
				if err := s.pair.SignWith(by); err != nil {
					t.Fatal(err)
				}
			}
			k, store, at := s.found(t)
			if got := k.Self(); !got.Certificate.Equal(s.cert) || test.signing != "" && !got.Signing.Equal(signer) {
				t.Fatalf("the list of members has other certificates: %v", got)
			}
			name := must(blob.Identifier(signer))
			dir := t.TempDir()
			signerPEM, holderPEM := writePEM(t, dir, "signer.pem", "CERTIFICATE", signer.Raw), writePEM(t, dir, "holder.pem", "CERTIFICATE", s.cert.Raw)

			// An authority whose certificate is issued too, with its key in a file.
			vault := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
			vaultCert := ca.issue(t, "vault", vault.Public(), ecUsage+hash)
			vaultKey, vaultPEM := writePEM(t, dir, "vault.key", "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(vault))), writePEM(t, dir, "vault.pem", "CERTIFICATE", vaultCert.Raw)
			add(t, k, blob.Member{Role: blob.BackupAuthority, Label: "vault", Certificate: vaultCert})

			if _, err := k.Create(ctx, "payroll", keyspec.AES256, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := k.CreateFromPassword(ctx, "password", hsmkeys.NewKey{Algorithm: keyspec.AES256}, blob.PBKDF2, []byte(goodPassword)); err != nil {
				t.Fatal(err)
			}
			refs := []hsmkeys.Ref{{Name: "payroll"}}
			for r := range k.Prove(ctx, refs, time.Time{}) {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
			}
			value, err := k.Reveal(ctx, refs[0])
			if err != nil {
				t.Fatal(err)
			}
			objects := []string{blob.SlotPath(1), blob.SlotPath(2), pathOf(t, store, "payroll", 1, 1), pathOf(t, store, "password", 1, 1), proofOf(t, store, must(blob.PublicKeyID(by.Public())))}
			for _, path := range objects {
				if _, err := store.Get(ctx, path); err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(at, path)
				verify := exec.Command("openssl", "cms", "-verify", "-inform", "DER", "-in", file, "-certfile", signerPEM, "-CAfile", filepath.Join(ca.dir, "ca.pem"), "-purpose", "any", "-binary", "-out", filepath.Join(dir, "inner"))
				if out, err := verify.CombinedOutput(); (err == nil) != test.finds {
					t.Errorf("openssl, %s: %v\n%s", path, err, out)
				}
				gnutls := exec.Command("certtool", "--p7-verify", "--inder", "--load-certificate", signerPEM, "--infile", file)
				if out, err := gnutls.CombinedOutput(); err != nil {
					t.Errorf("certtool, %s: %v\n%s", path, err, out)
				}
			}
			path := filepath.Join(at, pathOf(t, store, "payroll", 1, 1))
			out, errs, status := recoverWithOpenSSL(t, nil, path, signerPEM, vaultKey, vaultPEM)
			if status != 0 || out != hex.EncodeToString(value) {
				t.Errorf("the authority's key: status %d, %s", status, errs)
			}
			if _, errs, status := recoverWithOpenSSL(t, nil, path, signerPEM, vaultKey); status != 4 || !strings.Contains(errs, "HOLDER-CERT") {
				t.Errorf("without its certificate: status %d, %s", status, errs)
			}
			pin := filepath.Join(dir, "pin")
			if err := os.WriteFile(pin, []byte(s.soft.PIN), 0o600); err != nil {
				t.Fatal(err)
			}
			uri := "pkcs11:serial=" + s.soft.Serial + ";id=" + percent(s.id()) + ";type=private?pin-source=file:" + pin
			out, errs, status = recoverWithOpenSSL(t, append(env.Environ(), "PKCS11_MODULE_PATH="+env.Module()), path, signerPEM, uri, holderPEM)
			if status != 0 || out != hex.EncodeToString(value) {
				t.Errorf("the pair's own key: status %d, %s", status, errs)
			}
			_, other := inFile(t, dir, "stranger", must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
			if _, errs, status := recoverWithOpenSSL(t, nil, path, writePEM(t, dir, "stranger.pem", "CERTIFICATE", other.Certificate.Raw), vaultKey, vaultPEM); status != 3 {
				t.Errorf("another signer: status %d, %s", status, errs)
			}

			// What is shown goes by the hash of the key.
			e, err := k.Show(ctx, refs[0])
			if err != nil || e.Signer.SubjectKeyID != hex.EncodeToString(must(blob.PublicKeyID(by.Public()))) || e.Signer.Role != "owner" || len(e.Holders) != 2 ||
				e.Holders[0].Label == "(unknown)" || e.Holders[1].Label == "(unknown)" {
				t.Errorf("%+v, %v", e, err)
			}
			b := must(blob.Parse(must(store.Get(ctx, pathOf(t, store, "payroll", 1, 1)))))
			if !bytes.Equal(b.SignerIdentifier(), name) {
				t.Errorf("signer is named %x, not %x", b.SignerIdentifier(), name)
			}
			exported, err := k.ExportCMS(ctx, refs[0])
			if err != nil || !bytes.Contains(exported, signer.Raw) {
				t.Errorf("exported: %v", err)
			}
			if good := nssVerifies(t, ca, exported); good != test.finds {
				t.Errorf("cmsutil finds a good signature: %v", good)
			}
			for who, c := range map[string]*x509.Certificate{"the certificate": signer, "another one of the same key": certify(t, by, nil)} {
				offline, err := hsmkeys.OpenWithCertificate(ctx, hsmkeys.Options{Store: store, Voucher: c})
				if err != nil {
					t.Fatalf("offline with %s: %v", who, err)
				}
				if e, err := offline.Show(ctx, refs[0]); err != nil || e.Signer.Role != "owner" {
					t.Errorf("offline with %s: %+v, %v", who, e, err)
				}
			}
			if again, err := s.open(store); err != nil {
				t.Error(err)
			} else if c := coverage(t, again); c.Lost != 0 || c.Holders[0].Proven != 1 {
				t.Errorf("coverage: %+v", c)
			}
		})
	}
}

// A recovery from and to pairs with issued certificates, by an authority that has one.
func TestARecoveryOfAdoptedPairs(t *testing.T) {
	ctx := context.Background()
	ca := newIssuer(t)
	const extensions = "keyUsage=digitalSignature,keyEncipherment\nsubjectKeyIdentifier=hash\n"
	adopted := func(label string) *site {
		s := emptySite(t, label)
		s.pair = s.pairOn(t, "card", token.RSA2048)
		s.cert = ca.issue(t, label, s.pair.Public(), extensions)
		s.store(t, s.pair, s.cert)
		return s
	}
	office, vault, spare := adopted("adopted office"), adopted("adopted vault"), adopted("adopted spare")
	k, store, at := office.found(t)
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	if _, err := k.Create(ctx, "payroll", keyspec.AES256, 0); err != nil {
		t.Fatal(err)
	}
	value, err := k.Reveal(ctx, hsmkeys.Ref{Name: "payroll"})
	if err != nil {
		t.Fatal(err)
	}
	if err := office.tok.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := vault.join(t, store, office).BeginRecovery(ctx, office.cert, spare.member(blob.Owner, "spare"), "a fire")
	if err != nil {
		t.Fatal(err)
	}
	for one := range r.Keys(ctx, []hsmkeys.Ref{{Name: "payroll"}}) {
		if one.Err != nil || !one.Done {
			t.Fatal(one)
		}
	}
	found := spare.join(t, store, vault)
	if got, err := found.Reveal(ctx, hsmkeys.Ref{Name: "payroll"}); err != nil || !bytes.Equal(got, value) {
		t.Fatalf("after the recovery: %v", err)
	}
	for one := range found.Rewrap(ctx, []hsmkeys.Ref{{Name: "payroll"}}, "") {
		if one.Err != nil || !one.Done {
			t.Fatal(one)
		}
	}
	for name, err := range found.Verify(ctx) {
		if err != nil {
			t.Errorf("%v: %v", name, err)
		}
	}
	if e, err := found.Show(ctx, hsmkeys.Ref{Name: "payroll"}); err != nil || e.Revision != 2 || e.Signer.Label != "vault" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := found.Rotate(ctx, "payroll", ""); err != nil {
		t.Fatal(err)
	}
	for version, by := range map[int]struct {
		revision int
		signer   *site
	}{1: {2, vault}, 2: {1, spare}} {
		runIn(t, t.TempDir(), "openssl", "cms", "-verify", "-inform", "DER", "-in", filepath.Join(at, pathOf(t, store, "payroll", version, by.revision)),
			"-certfile", writePEM(t, t.TempDir(), "signer.pem", "CERTIFICATE", by.signer.cert.Raw), "-CAfile", filepath.Join(ca.dir, "ca.pem"), "-purpose", "any", "-binary", "-out", "inner")
	}
}

func TestNewMembersWithIdentifiersThatAreRefused(t *testing.T) {
	office := newSite(t, "identifiers")
	k, store, _ := office.found(t)
	ca := newIssuer(t)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	// openssl leaves an empty extension out, so it is made here.
	empty := func() *x509.Certificate {
		return certify(t, key, func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageKeyAgreement
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 14}, Value: []byte{4, 0}}}
		})
	}
	member := func(extension string) blob.Member {
		m := blob.Member{Role: blob.BackupAuthority, Label: "vault"}
		if extension == "" {
			m.Certificate = empty()
		} else {
			m.Certificate = ca.issue(t, "vault", key.Public(), extension)
		}
		return m
	}
	ours := "subjectKeyIdentifier=" + hex.EncodeToString(office.id()) + "\n"
	for name, test := range map[string]struct {
		extension string
		want      error
	}{
		"empty":             {"", hsmkeys.ErrCertificate},
		"10 KB":             {"2.5.29.14=DER:04822710" + strings.Repeat("ab", 10000) + "\n", hsmkeys.ErrCertificate},
		"that of the owner": {ours, blob.ErrExists},
	} {
		if err := k.AddMember(context.Background(), member(test.extension)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nor in a list that another program has signed.
	marshal := func(members ...blob.Member) error {
		l := listOf(t, store, newest(t, store))
		l.Members = append(l.Members, members...)
		_, err := blob.MarshalMembers(l)
		return err
	}
	for name, extension := range map[string]string{"that of the owner": ours, "empty": ""} {
		if marshal(member(extension)) == nil {
			t.Errorf("%s: there is a list with it", name)
		}
	}
	// Nor that of a key whose certificate has another.
	other := blob.Member{Role: blob.BackupAuthority, Label: "attic",
		Certificate: ca.issue(t, "attic", must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).Public(), "subjectKeyIdentifier=0102030405\n")}
	its := must(blob.PublicKeyID(other.Certificate.PublicKey))
	late := member("subjectKeyIdentifier=" + hex.EncodeToString(its) + "\n")
	for _, both := range [][]blob.Member{{other, late}, {late, other}} {
		if marshal(both...) == nil {
			t.Error("there is a list in which a certificate's identifier is that of another member's key")
		}
	}
	add(t, k, other)
	for range 2 { // also when it has left
		if err := k.AddMember(context.Background(), late); !errors.Is(err, blob.ErrExists) {
			t.Errorf("that of the key of another member: %v", err)
		}
		if len(k.Members()) > 1 {
			remove(t, k, blob.BackupAuthority, "attic")
		}
	}
	// One that a former member had names nobody else, in a list that is read either.
	add(t, k, member("subjectKeyIdentifier=hash\n"))
	former := must(blob.Identifier(k.Members()[1].Certificate))
	remove(t, k, blob.BackupAuthority, "vault")
	key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	again := member("subjectKeyIdentifier=" + hex.EncodeToString(former) + "\n")
	if err := k.AddMember(context.Background(), again); !errors.Is(err, blob.ErrExists) {
		t.Errorf("that of a former member: %v", err)
	}
	forgeList(t, store, office.signer(), func(l *blob.MemberList) { l.Members = append(l.Members, again) })
	if _, err := office.open(store); !errors.Is(err, blob.ErrIntegrity) || !strings.Contains(err.Error(), "named another key before") {
		t.Errorf("a list that gives another key the identifier of a former member: %v", err)
	}
}

// setFalse takes an ability from a private key, as other programs leave it out when they
// import a key.
func (s *site) setFalse(t *testing.T, label string, attributes ...uint) {
	t.Helper()
	p := pkcs11.New(env.Module()) // which is initialised, and logged in
	defer p.Destroy()
	slots := must(p.GetSlotList(true))
	for _, slot := range slots {
		if info, err := p.GetTokenInfo(slot); err != nil || info.SerialNumber != s.soft.Serial {
			continue
		}
		session := must(p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION))
		if err := p.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}); err != nil {
			t.Fatal(err)
		}
		found, _, err := p.FindObjects(session, 1)
		if err != nil || len(found) != 1 {
			t.Fatalf("%v, %v", found, err)
		}
		for _, a := range attributes {
			if err := p.SetAttributeValue(session, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(a, false)}); err != nil {
				t.Fatal(err)
			}
		}
		_ = p.CloseSession(session)
		return
	}
	t.Fatal("no such token")
}

// A pair that opens nothing is refused before anything is founded or joined: what would be
// wrapped to it would be lost.
func TestAPairThatOpensNothingIsRefused(t *testing.T) {
	ctx := context.Background()
	office := newSite(t, "opens")
	k, store, _ := office.found(t)
	for _, test := range []struct {
		name  string
		kind  token.KeyType
		takes []uint
		says  string
	}{
		{"rsa", token.RSA2048, []uint{pkcs11.CKA_UNWRAP, pkcs11.CKA_DECRYPT}, "CKA_UNWRAP and CKA_DECRYPT are false"},
		{"ec", token.P256, []uint{pkcs11.CKA_DERIVE}, "CKA_DERIVE is false"},
	} {
		s := emptySite(t, "opens nothing "+test.name)
		s.pairOn(t, "card", test.kind)
		s.setFalse(t, "card", test.takes...)
		var err error
		if s.pair, err = s.tok.KeyPair(ctx, token.PairName{Label: "card"}); err != nil {
			t.Fatal(err)
		}
		empty, _ := newStore(t)
		_, err = hsmkeys.Init(ctx, hsmkeys.Options{Store: empty, Pair: s.pair}, "card")
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
		if _, err := empty.Get(ctx, blob.SlotPath(1)); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: something was founded: %v", test.name, err)
		}
		if c, err := s.pair.Certificate(ctx); err != nil || c != nil {
			t.Errorf("%s: it was certified: %v, %v", test.name, c, err)
		}
		// A member by somebody's mistake does not join.
		key := s.pair.Public()
		template := office.cert
		c := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: template.SerialNumber, NotBefore: template.NotBefore, NotAfter: template.NotAfter}, template, key, office.pair))))
		add(t, k, blob.Member{Role: blob.BackupAuthority, Label: test.name, Certificate: c})
		if _, err := hsmkeys.Join(ctx, hsmkeys.Options{Store: store, Pair: s.pair, Voucher: office.cert}); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s joins: %v", test.name, err)
		}
	}
}

func TestCertificatesThatForbidWrapping(t *testing.T) {
	office := newSite(t, "forbids")
	k, _, _ := office.found(t)
	ca := newIssuer(t)
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	for name, c := range map[string]*x509.Certificate{
		"signing alone": ca.issue(t, "vault", key.Public(), "keyUsage=digitalSignature\n"),
		"no usage at all": certify(t, key, func(c *x509.Certificate) {
			c.KeyUsage = 0
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{3, 1, 0}}}
		}),
	} {
		m := blob.Member{Role: blob.BackupAuthority, Label: "vault", Certificate: c}
		if err := k.AddMember(context.Background(), m); !errors.Is(err, hsmkeys.ErrCertificate) || !strings.Contains(err.Error(), "keyEncipherment") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
