package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/secret"
)

// password gets the password of a key that comes from one.
func password(c *cli.Context) hsmkeys.PasswordFunc {
	return func(ctx context.Context, e hsmkeys.Entry) ([]byte, error) {
		return secret.Read(ctx, passwordOption, c.String(passwordOption), fmt.Sprintf("password of key %s", versionOf(e)), secret.Ask)
	}
}

// newPassword gets the password of a new key; on a terminal it is asked for twice.
func newPassword(c *cli.Context, name string) ([]byte, error) {
	secret, err := secret.Read(c.Context, passwordOption, c.String(passwordOption), fmt.Sprintf("new password of key %s", name), secret.AskNew)
	if err != nil {
		return nil, err
	}
	if err := hsmkeys.CheckPassword(secret); err != nil {
		clear(secret)
		return nil, failure.Secret(err)
	}
	return secret, nil
}

const passwordOption = "password-source"
