package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
)

// password gets the password of a key that comes from one.
func password(c *cli.Context) hsmkeys.PasswordFunc {
	return func(ctx context.Context, e hsmkeys.Entry) ([]byte, error) {
		return readSecret(ctx, passwordOption, c.String(passwordOption), fmt.Sprintf("password of key %s", versionOf(e)), askSecret)
	}
}

// newPassword gets the password of a new key; on a terminal it is asked for twice.
func newPassword(c *cli.Context, name string) ([]byte, error) {
	secret, err := readSecret(c.Context, passwordOption, c.String(passwordOption), fmt.Sprintf("new password of key %s", name), askNewSecret)
	if err != nil {
		return nil, err
	}
	if err := hsmkeys.CheckPassword(secret); err != nil {
		clear(secret)
		return nil, &secretError{err}
	}
	return secret, nil
}

const passwordOption = "password-source"
