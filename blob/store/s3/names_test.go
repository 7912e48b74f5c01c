package s3

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Names go up to the next slash, as in a directory.
func TestNames(t *testing.T) {
	s := newBucket(t, Options{})
	for _, name := range []string{"pay", "payroll", "payroll/eu", "payroll/us/west", "site/a", "x"} {
		if err := s.Put(t.Context(), blob.KeyPath(name, 1, 1, [32]byte{1}), []byte("a blob")); err != nil {
			t.Fatal(err)
		}
	}
	// What others have put there is no key.
	client, err := server.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"keys/UPPER/1.1.cms", "keys/stray", "keys/empty/readme", "readme", "keys/payroll/notes.txt"} {
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: s.bucket(), Key: s.key(key), Body: strings.NewReader("x")}); err != nil {
			t.Fatal(err)
		}
	}
	for prefix, want := range map[string][]string{
		"": {"pay", "payroll", "payroll/", "site/", "x"}, "pay": {"pay", "payroll", "payroll/"}, "payroll": {"payroll", "payroll/"},
		"payroll/": {"payroll/eu", "payroll/us/"}, "payroll/us/": {"payroll/us/west"}, "none": nil, "../": nil, "PAY": nil,
	} {
		if got := slices.Sorted(s.Names(t.Context(), prefix)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}
	for name := range s.Names(t.Context(), "") {
		if name == "payroll" {
			break // who has seen enough is not called again
		}
	}
	look, err := s.Checkup(t.Context())
	if err != nil || look.Objects != 6 || len(look.Stray) != 5 || len(look.Tried) != 0 {
		t.Errorf("%+v, %v", look, err)
	}
	if err := errors.Join(s.TryWrite(t.Context()), s.Close()); err != nil {
		t.Error(err)
	}
}
