package s3

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/s3/s3test"
)

func TestParse(t *testing.T) {
	for url, want := range map[string]Location{
		"s3://bucket":                    {Bucket: "bucket"},
		"s3://bucket/":                   {Bucket: "bucket"},
		"s3://my.bucket-1/a/b_c/D.e":     {Bucket: "my.bucket-1", Prefix: "a/b_c/D.e"},
		"s3://bucket/a/":                 {Bucket: "bucket", Prefix: "a"},
		"s3://bucket/a?path-style":       {Bucket: "bucket", Prefix: "a", PathStyle: true},
		"s3://bucket?path-style=true":    {Bucket: "bucket", PathStyle: true},
		"s3://bucket/a?path-style=false": {Bucket: "bucket", Prefix: "a"},
		"s3://b1c":                       {Bucket: "b1c"},
	} {
		got, err := Parse(url)
		if got != want || err != nil {
			t.Errorf("%s: %+v, %v", url, got, err)
		}
		if again, err := Parse(got.String()); err != nil || again.Bucket != want.Bucket || again.Prefix != want.Prefix {
			t.Errorf("%s: %+v, %v", got, again, err)
		}
	}
	for _, url := range []string{
		"", "bucket", "s3:/bucket", "S3://bucket", "s3://", "s3:///a", "s3://bu", "s3://Bucket", "s3://-bucket", "s3://bucket-", "s3://buc..ket", "s3://" + strings.Repeat("b", 64),
		"s3://bucket//", "s3://bucket//a", "s3://bucket/a//b", "s3://bucket/..", "s3://bucket/a/../b", "s3://bucket/./a", "s3://bucket/ä", "s3://bucket/a b", "s3://bucket/a%20b",
		"s3://bucket/a\x00", "s3://bucket/a#b", "s3://user@bucket/a", "s3://bucket:80/a", "s3://bucket/" + strings.Repeat("a", 513),
		"s3://bucket?", "s3://bucket?region=x", "s3://bucket?path-style=1", "s3://bucket?path-style&path-style", "s3://bucket?path-style&x=y", "s3://bucket?%zz",
	} {
		if got, err := Parse(url); !errors.Is(err, ErrURL) {
			t.Errorf("%q: %+v, %v", url, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, url := range []string{"s3://bucket/a/b?path-style", "s3://b.c/..", "s3:///", "s3://bucket?path-style=%00"} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		l, err := Parse(url)
		if err != nil {
			return
		}
		if again, err := Parse(l.String()); err != nil || again.Bucket != l.Bucket || again.Prefix != l.Prefix {
			t.Errorf("%q: %+v, %v", url, again, err)
		}
	})
}

// What is wrong with the way to a bucket is one clear error each.
func TestErrorsOfTheWayToABucket(t *testing.T) {
	good := newBucket(t, Options{})
	for _, test := range []struct {
		name string
		vars map[string]string
		url  string
		want error
	}{
		{"another access key", map[string]string{"AWS_ACCESS_KEY_ID": "nobody"}, "", ErrCredentials},
		{"another secret", map[string]string{"AWS_SECRET_ACCESS_KEY": "wrong"}, "", ErrCredentials},
		{"no such bucket", nil, "s3://no-such-bucket?path-style", ErrNoBucket},
		{"no credentials", map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "", ErrNoCredentials},
		{"no such host", map[string]string{"AWS_ENDPOINT_URL": "http://no-such-host.invalid"}, "", blob.ErrUnavailable},
		{"nobody there", map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "", blob.ErrUnavailable},
		{"no such profile", map[string]string{"AWS_PROFILE": "nobody"}, "", ErrSettings},
		{"no such bundle", map[string]string{"AWS_CA_BUNDLE": "/no/such/file"}, "", ErrSettings},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.vars {
				t.Setenv(name, value)
			}
			place := good.place
			if test.url != "" {
				var err error
				if place, err = Parse(test.url); err != nil {
					t.Fatal(err)
				}
			}
			s, err := Open(t.Context(), place, Options{})
			if err == nil {
				defer s.Close()
				_, err = s.Get(t.Context(), path(1))
			}
			if !errors.Is(err, test.want) || errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity) {
				t.Error(err)
			}
			if err != nil && strings.Contains(err.Error(), "RequestID") {
				t.Errorf("too much is told: %v", err)
			}
		})
	}
}

// A clock that is an hour off is found out by the real service, and told as what it is.
func TestAClockThatIsOff(t *testing.T) {
	s, proxy := behind(t, Options{})
	proxy.Serve = func(w http.ResponseWriter, r *http.Request) bool {
		late, err := http.NewRequestWithContext(r.Context(), r.Method, server.URL+r.URL.RequestURI(), nil)
		if err != nil {
			t.Error(err)
		}
		empty := sha256.Sum256(nil)
		late.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(empty[:]))
		key := aws.Credentials{AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey}
		if err := v4.NewSigner().SignHTTP(r.Context(), key, late, hex.EncodeToString(empty[:]), "s3", "us-east-1", time.Now().Add(-time.Hour)); err != nil {
			t.Error(err)
		}
		answer, err := http.DefaultClient.Do(late)
		if err != nil {
			t.Error(err)
			return false
		}
		defer answer.Body.Close()
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
		return true
	}
	if _, err := s.Get(t.Context(), path(1)); !errors.Is(err, ErrClock) {
		t.Error(err)
	}
	proxy.Serve = func(w http.ResponseWriter, _ *http.Request) bool { // as Amazon S3 says of another region
		w.WriteHeader(http.StatusMovedPermanently)
		_, _ = io.WriteString(w, "<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>")
		return true
	}
	if _, err := s.Get(t.Context(), path(1)); !errors.Is(err, ErrRegion) {
		t.Error(err)
	}
}

// policies returns the policies that docs/s3.md shows, by whose they are.
func policies(t *testing.T, bucket, prefix string) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/s3.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		who := regexp.MustCompile(`\["([A-Z]+)"\]`).FindStringSubmatch(m[1])[1]
		all[who] = strings.NewReplacer("BUCKET", bucket, "PREFIX", prefix).Replace(m[1])
	}
	return all
}

// The policies of the documentation allow what they are for, and what they do not allow is told by its name.
func TestPolicies(t *testing.T) {
	owner := newBucket(t, Options{}) // of the root user, so that there is something
	if err := owner.Put(t.Context(), path(1), []byte("one")); err != nil {
		t.Fatal(err)
	}
	all := policies(t, owner.place.Bucket, owner.place.Prefix)
	as := func(user string) *Store {
		t.Setenv("AWS_ACCESS_KEY_ID", user)
		t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-"+user)
		return open(t, owner.place, Options{})
	}
	denied := func(what string, err error, actions ...string) {
		t.Helper()
		var denied *Denied
		if !errors.Is(err, ErrDenied) || !errors.As(err, &denied) || fmt.Sprint(denied.Actions) != fmt.Sprint(actions) {
			t.Errorf("%s: %v, %+v", what, err, denied)
		}
	}
	var stores = map[string]*Store{}
	for _, user := range []string{"OWNER", "READER"} {
		if err := server.AddUser(t.Context(), strings.ToLower(user), "secret-of-"+strings.ToLower(user)); err != nil {
			t.Fatal(err)
		}
		stores[user] = as(strings.ToLower(user))
	}
	list := func(s *Store) (err error) {
		for _, err = range s.List(t.Context(), "") {
		}
		return err
	}

	// Without any policy.
	_, err := stores["READER"].Get(t.Context(), path(1))
	denied("get", err, getObject, listBucket)
	denied("list", list(stores["READER"]), listBucket)

	set := func(user string) {
		t.Helper()
		if err := server.SetPolicy(t.Context(), owner.place.Bucket, strings.Replace(all[user], `"`+user+`"`, `"`+strings.ToLower(user)+`"`, -1)); err != nil {
			t.Fatal(err)
		}
	}
	set("READER")
	reader := stores["READER"]
	if got, err := reader.Get(t.Context(), path(1)); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := reader.Get(t.Context(), path(2)); !errors.Is(err, blob.ErrNotFound) {
		t.Error(err)
	}
	if err := list(reader); err != nil {
		t.Error(err)
	}
	denied("put", reader.Put(t.Context(), path(2), []byte("two")), putObject)
	denied("delete", reader.Delete(t.Context(), path(1)), deleteObject)
	denied("try", reader.TryWrite(t.Context()), putObject)

	set("OWNER")
	if err := stores["OWNER"].TryWrite(t.Context()); err != nil {
		t.Error(err)
	}
	if err := errors.Join(stores["OWNER"].Put(t.Context(), path(2), []byte("two")), stores["OWNER"].Purge(t.Context(), path(2))); err != nil {
		t.Error(err)
	}

	// Who may not delete leaves what was tried.
	all["OWNER"] = strings.Replace(all["OWNER"], `, "s3:DeleteObject"`, "", 1)
	set("OWNER")
	err = stores["OWNER"].TryWrite(t.Context())
	denied("try", err, deleteObject)
	if d := (*Denied)(nil); errors.As(err, &d) && !d.Deletes() {
		t.Error(err)
	}
	if look, err := owner.Checkup(t.Context()); err != nil || len(look.Tried)+len(look.Stray) != 0 || look.Objects != 1 { // too new to be told
		t.Errorf("%+v, %v", look, err)
	}
}

// Destroying leaves nothing in a bucket that keeps versions, or says that it does.
func TestVersionsAreDeleted(t *testing.T) {
	s := newBucket(t, Options{})
	client, err := server.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), path(1), []byte("before")); err != nil {
		t.Fatal(err)
	}
	_, err = client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: s.bucket(), VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		t.Fatal(err)
	}
	count := func() int {
		t.Helper()
		all, err := s.versions(t.Context(), s.key(path(1)))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	for range 3 { // what somebody else has replaced, and what was deleted
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: s.bucket(), Key: s.key(path(1)), Body: strings.NewReader("again")})
		if err := errors.Join(err, s.Delete(t.Context(), path(1))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: s.bucket(), Key: s.key(path(1)), Body: strings.NewReader("at last")}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n < 6 {
		t.Fatalf("the bucket keeps %d versions", n)
	}
	if err := s.Put(t.Context(), path(1), []byte("late")); !errors.Is(err, blob.ErrExists) {
		t.Error(err)
	}
	if err := s.Purge(t.Context(), path(1)); err != nil || count() != 0 {
		t.Errorf("%v, %d versions are left", err, count())
	}
	if _, err := s.Get(t.Context(), path(1)); !errors.Is(err, blob.ErrNotFound) {
		t.Error(err)
	}

	// Who may not is told, and can do it later.
	if err := s.Put(t.Context(), path(1), []byte("kept")); err != nil {
		t.Fatal(err)
	}
	user := "purger"
	if err := server.AddUser(t.Context(), user, "secret-of-purger"); err != nil {
		t.Fatal(err)
	}
	policy := strings.ReplaceAll(policies(t, s.place.Bucket, s.place.Prefix)["OWNER"], `"OWNER"`, `"purger"`)
	if err := server.SetPolicy(t.Context(), s.place.Bucket, policy); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", user)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-purger")
	may := open(t, s.place, Options{})
	err = may.Purge(t.Context(), path(1))
	if d := (*Denied)(nil); !errors.Is(err, ErrVersionsKept) || !errors.As(err, &d) {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), path(1)); err != nil {
		t.Error(err)
	}
	if err := s.Purge(t.Context(), path(1)); err != nil || count() != 0 {
		t.Errorf("%v, %d versions", err, count())
	}
}

// The certificate of an authority of one's own.
func TestHTTPS(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}}
	for name, block := range files {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tls, err := s3test.New(t.Context(), s3test.Options{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")})
	if err != nil {
		t.Fatal(err)
	}
	defer tls.Close()
	for name, value := range tls.Environment() {
		t.Setenv(name, value)
	}
	if err := os.Mkdir(filepath.Join(tls.Data(), "over-tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	place := Location{Bucket: "over-tls", PathStyle: true}
	if err := open(t, place, Options{}).Put(t.Context(), path(1), []byte("one")); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	t.Setenv("AWS_CA_BUNDLE", filepath.Join(dir, "cert.pem"))
	s := open(t, place, Options{})
	if err := errors.Join(s.Put(t.Context(), path(1), []byte("one")), s.TryWrite(t.Context())); err != nil {
		t.Error(err)
	}
}

// The places that people have credentials in. Those that are services are answered by the test, in the form
// that their documentation gives.
func TestCredentials(t *testing.T) {
	s := newBucket(t, Options{})
	if err := s.Put(t.Context(), path(1), []byte("one")); err != nil {
		t.Fatal(err)
	}
	id, secret := server.AccessKey, server.SecretKey
	end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	answers := map[string]string{
		"/container":        fmt.Sprintf(`{"AccessKeyId":%q,"SecretAccessKey":%q,"Token":"","Expiration":%q}`, id, secret, end),
		"/latest/api/token": "token",
		"/latest/meta-data/iam/security-credentials/":     "role",
		"/latest/meta-data/iam/security-credentials/role": fmt.Sprintf(`{"Code":"Success","AccessKeyId":%q,"SecretAccessKey":%q,"Token":"","Expiration":%q}`, id, secret, end),
		"/":                       fmt.Sprintf(`<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken></SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, id, secret, end),
		"/federation/credentials": fmt.Sprintf(`{"roleCredentials":{"accessKeyId":%q,"secretAccessKey":%q,"sessionToken":"","expiration":%d}}`, id, secret, time.Now().Add(time.Hour).UnixMilli()),
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
		_, _ = io.WriteString(w, answer)
	}))
	defer service.Close()
	dir := t.TempDir()
	file := func(name, content string) string {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		return at
	}
	session := fmt.Sprintf("%x", sha1.Sum([]byte("work"))) // the name of its file
	process := file("process.json", fmt.Sprintf(`{"Version":1,"AccessKeyId":%q,"SecretAccessKey":%q}`, id, secret))
	for name, vars := range map[string]map[string]string{
		"a profile with keys": {"AWS_PROFILE": "keys", "AWS_SHARED_CREDENTIALS_FILE": file("credentials", fmt.Sprintf("[keys]\naws_access_key_id = %s\naws_secret_access_key = %s\n", id, secret))},
		"a profile with a program, endpoint and region": {"AWS_PROFILE": "program", "AWS_ENDPOINT_URL": "", "AWS_REGION": "",
			"AWS_CONFIG_FILE": file("config", "[profile program]\ncredential_process = cat "+process+"\nregion = us-east-1\nendpoint_url = "+server.URL+"\n")},
		"a container":    {"AWS_CONTAINER_CREDENTIALS_FULL_URI": service.URL + "/container"},
		"an instance":    {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": service.URL},
		"a web identity": {"AWS_WEB_IDENTITY_TOKEN_FILE": file("token", "a token"), "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/keys", "AWS_ENDPOINT_URL_STS": service.URL},
		"a session of single sign-on": {"AWS_PROFILE": "sso", "HOME": dir, "AWS_ENDPOINT_URL_SSO": service.URL,
			"AWS_CONFIG_FILE": file("sso", "[profile sso]\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = keys\n[sso-session work]\nsso_region = us-east-1\nsso_start_url = https://sso.invalid/start\n")},
	} {
		t.Run(name, func(t *testing.T) {
			file(".aws/sso/cache/"+session+".json", fmt.Sprintf(`{"accessToken":"token","expiresAt":%q,"region":"us-east-1","startUrl":"https://sso.invalid/start"}`, end))
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
			for name, value := range vars {
				t.Setenv(name, value)
			}
			if got, err := open(t, s.place, Options{}).Get(t.Context(), path(1)); err != nil || string(got) != "one" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	t.Run("a session that has ended", func(t *testing.T) {
		file(".aws/sso/cache/"+session+".json", fmt.Sprintf(`{"accessToken":"token","expiresAt":%q}`, time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)))
		for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "sso", "HOME": dir, "AWS_CONFIG_FILE": filepath.Join(dir, "sso")} {
			t.Setenv(name, value)
		}
		if _, err := open(t, s.place, Options{}).Get(t.Context(), path(1)); !errors.Is(err, ErrNoCredentials) {
			t.Error(err)
		}
	})
}

// Blocks of packs and objects of the state come from the cache, and what is wrong there does no harm.
func TestCache(t *testing.T) {
	keep := t.TempDir()
	proxy := s3test.NewProxy(t, server.URL)
	first := newBucket(t, Options{Cache: keep})
	again := func() *Store {
		s := open(t, first.place, Options{Cache: keep})
		s.client = withEndpoint(s.client, proxy.URL)
		return s
	}
	data := []byte("a list of members")
	members := blob.MembersPath(sha256.Sum256(data))
	pack := blob.PackPath(blob.PackID{1})
	state := map[string][]byte{members: data, pack: []byte("a pack"), blob.SlotPath(1): []byte("a slot"), path(1): []byte("a blob"), blob.MembersPath([32]byte{1}): []byte("not what its name says")}
	for at, data := range state {
		if err := first.Put(t.Context(), at, data); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := first.GetRange(t.Context(), pack, 0, 6); err != nil {
		t.Fatal(err)
	}
	reads := func(s *Store, at string) int {
		t.Helper()
		before := proxy.Requests()
		var got []byte
		var err error
		if at == pack {
			got, err = s.GetRange(t.Context(), at, 0, len(state[at]))
		} else {
			got, err = s.Get(t.Context(), at)
		}
		if err != nil || string(got) != string(state[at]) {
			t.Errorf("%s: %q, %v", at, got, err)
		}
		return proxy.Requests() - before
	}
	s := again()
	for at, want := range map[string]int{members: 0, pack: 0, blob.SlotPath(1): 1, path(1): 1, blob.MembersPath([32]byte{1}): 1} {
		if got := reads(s, at); got != want {
			t.Errorf("%s: %d requests, want %d", at, got, want)
		}
	}
	files, err := filepath.Glob(filepath.Join(keep, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, damage := range []func(string) error{
		func(file string) error { return os.WriteFile(file, []byte("short"), 0o600) },
		func(file string) error { return os.WriteFile(file, make([]byte, 1000), 0o600) },
		os.Remove,
		func(file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
		func(file string) error { return errors.Join(os.Remove(file), os.Symlink("/dev/zero", file)) },
	} {
		for _, file := range files {
			if err := damage(file); err != nil {
				t.Fatal(err)
			}
		}
		s := again()
		if reads(s, members) != 1 || reads(s, pack) != 1 {
			t.Error("what is damaged is used")
		}
		for _, file := range files {
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
		}
		s = again()
		reads(s, members)
		reads(s, pack)
	}
	// What was found to be wrong is read again.
	s.Forget()
	if reads(s, pack) != 1 || reads(s, pack) != 0 {
		t.Error("it is not read again")
	}
	if reads(again(), pack) != 0 {
		t.Error("it is not in the cache again")
	}

	// It is bounded.
	c := &cache{dir: t.TempDir()}
	for i := range 10 {
		c.put(fmt.Sprint(i), make([]byte, 1000))
		when := time.Now().Add(time.Duration(i-20) * time.Hour)
		if err := os.Chtimes(c.file(fmt.Sprint(i)), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := c.get("3"); !ok { // used now
		t.Error("it is not there")
	}
	c.tidy(5 * 1032)
	left := ""
	for i := range 10 {
		if _, ok := c.get(fmt.Sprint(i)); ok {
			left += fmt.Sprint(i)
		}
	}
	if left != "36789" {
		t.Errorf("%s are left", left)
	}
}
