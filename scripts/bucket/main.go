// Bucket runs a command with a temporary S3 service. The AWS variables in its environment configure the service,
// HSMKEYS_STORE is the URL of a store in a bucket, and BUCKET_DIR the directory where the service stores the objects
// of that store.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/hsmkeys/hsmkeys/blob/store/s3"
	"github.com/hsmkeys/hsmkeys/blob/store/s3/s3test"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: bucket COMMAND [ARGUMENT…]")
		os.Exit(2)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bucket:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server, err := s3test.New(ctx, s3test.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	const bucket, prefix = "demo-bucket", "keyring"
	if err := os.Mkdir(filepath.Join(server.Data(), bucket), 0o700); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), "HSMKEYS_STORE="+s3.Scheme+bucket+"/"+prefix, "BUCKET_DIR="+filepath.Join(server.Data(), bucket, prefix))
	for name, value := range server.Environment() {
		command.Env = append(command.Env, name+"="+value)
	}
	return command.Run()
}
