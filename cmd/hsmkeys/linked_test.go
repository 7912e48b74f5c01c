package main

import (
	"os/exec"
	"strings"
	"testing"
)

// What turns Markdown into roff is for the program that writes the manual pages, built with the tag
// manual. In hsmkeys it would take a quarter of the time to start.
func TestWhatTakesLongToStartIsNotLinked(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-tags", "urfave_cli_no_docs", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Since config v1.33.12 the AWS SDK has tables for its services of single sign-on, which are made at each start.
	for _, part := range []string{"md2man", "blackfriday", "cli/v2/altsrc", "/internal/manual", "google.golang.org/grpc", "/service/sso/schemas", "/service/sts/schemas", "/service/signin/schemas"} {
		if strings.Contains(string(out), part) {
			t.Errorf("%s is linked into hsmkeys", part)
		}
	}
}
