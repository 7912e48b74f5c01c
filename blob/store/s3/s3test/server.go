// Package s3test runs versitygw, an S3 service that stores objects in a directory, and proxies that inject faults and
// delays, for tests.
package s3test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// A Server is a running versitygw on the loopback interface, with a temporary data directory.
type Server struct {
	URL                  string // of its endpoint
	AccessKey, SecretKey string // of the root user

	dir     string
	program string
	command *exec.Cmd
}

// Options configure a Server.
type Options struct {
	Versioning bool   // support versioning
	Users      bool   // support AddUser
	Cert, Key  string // files for TLS; "" for HTTP
}

// startTries limits the attempts to start a server: another process may take the free port first.
const startTries = 5

// New starts a server. The caller must close it.
func New(ctx context.Context, o Options) (*Server, error) {
	program, err := Program(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "versitygw-*")
	if err != nil {
		return nil, err
	}
	s := &Server{AccessKey: "root" + rand.Text()[:12], SecretKey: rand.Text(), dir: dir, program: program}
	for range startTries {
		if err = s.start(ctx, o); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(err, os.RemoveAll(dir))
}

// Program returns the path of versitygw, and builds it first if necessary.
func Program(ctx context.Context) (string, error) {
	root, err := os.Getwd()
	for err == nil {
		if _, found := os.Stat(filepath.Join(root, "go.mod")); found == nil {
			break
		}
		if root == filepath.Dir(root) {
			return "", errors.New("no go.mod above the working directory")
		}
		root = filepath.Dir(root)
	}
	install := exec.CommandContext(ctx, filepath.Join(root, "scripts", "install-versitygw.sh"))
	install.Stderr = os.Stderr
	out, err := install.Output()
	if err != nil {
		return "", fmt.Errorf("build versitygw: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (s *Server) start(ctx context.Context, o Options) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	global := []string{"-quiet", "-port", port}
	backend := []string{"posix"}
	scheme := "http://"
	if o.Cert != "" {
		scheme, global = "https://", append(global, "-cert", o.Cert, "-key", o.Key)
	}
	if o.Users {
		global = append(global, "-iam-dir", s.sub("users"))
	}
	if o.Versioning {
		backend = append(backend, "-versioning-dir", s.sub("versions"))
	}
	s.URL = scheme + port
	s.command = exec.Command(s.program, append(append(global, backend...), s.sub("data"))...)
	s.command.Env = append(s.command.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	s.command.SysProcAttr = dieTogether()
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s.command.Stdout, s.command.Stderr = log, log
	if err := s.command.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.command.Wait() }()
	for {
		select {
		case err := <-ended:
			said, _ := os.ReadFile(log.Name())
			return fmt.Errorf("versitygw ends: %w: %s", err, said)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.command.Process.Kill())
		case <-time.After(20 * time.Millisecond):
		}
		if c, err := net.Dial("tcp", port); err == nil {
			return c.Close()
		}
	}
}

func (s *Server) sub(name string) string {
	path := filepath.Join(s.dir, name)
	_ = os.MkdirAll(path, 0o700)
	return path
}

// freePort returns an unused address on the loopback interface.
func freePort(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Close stops the server and removes its data.
func (s *Server) Close() error {
	_ = s.command.Process.Kill()
	return os.RemoveAll(s.dir)
}

// Environment returns the environment variables for clients of the server.
func (s *Server) Environment() map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL": s.URL, "AWS_ACCESS_KEY_ID": s.AccessKey, "AWS_SECRET_ACCESS_KEY": s.SecretKey, "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	}
}

// Client returns an SDK client with the credentials of the root user.
func (s *Server) Client(ctx context.Context) (*s3.Client, error) {
	c, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, "")))
	if err != nil {
		return nil, err
	}
	return s3.NewFromConfig(c, func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = aws.String(s.URL), true }), nil
}

// MakeBucket creates a bucket and returns its name, which is random.
func (s *Server) MakeBucket(ctx context.Context) (string, error) {
	name := "b-" + strings.ToLower(rand.Text())
	c, err := s.Client(ctx)
	if err != nil {
		return "", err
	}
	_, err = c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(name)})
	return name, err
}

// AddUser adds a user without any rights but those of bucket policies.
func (s *Server) AddUser(ctx context.Context, accessKey, secretKey string) error {
	out, err := exec.CommandContext(ctx, s.program, "admin", "-access", s.AccessKey, "-secret", s.SecretKey, "-endpoint-url", s.URL,
		"create-user", "-access", accessKey, "-secret", secretKey, "-role", "user").CombinedOutput()
	if err != nil {
		return fmt.Errorf("add a user: %w: %s", err, out)
	}
	return nil
}

// SetPolicy sets the JSON policy of a bucket.
func (s *Server) SetPolicy(ctx context.Context, bucket, policy string) error {
	c, err := s.Client(ctx)
	if err != nil {
		return err
	}
	_, err = c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: aws.String(bucket), Policy: aws.String(policy)})
	return err
}

// Data returns the data directory. Each bucket is a directory in it, with one file per object.
func (s *Server) Data() string { return filepath.Join(s.dir, "data") }
