package session

import (
	"context"
	"fmt"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/secret"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

// password returns a function that reads the password of a key that is derived from one.
func password(s *settings.Settings) hsmkeys.PasswordFunc {
	return func(ctx context.Context, e hsmkeys.Entry) ([]byte, error) {
		return s.ReadPassword(ctx, fmt.Sprintf("password of key %s@%d", e.Name, e.Version), secret.Ask)
	}
}

// NewPassword reads the password of a new key; at a terminal it is asked for twice. The caller must
// clear it.
func NewPassword(ctx context.Context, s *settings.Settings, name string) ([]byte, error) {
	password, err := s.ReadPassword(ctx, fmt.Sprintf("new password of key %s", name), secret.AskNew)
	if err != nil {
		return nil, err
	}
	if err := hsmkeys.CheckPassword(password); err != nil {
		clear(password)
		return nil, failure.Secret(err)
	}
	return password, nil
}
