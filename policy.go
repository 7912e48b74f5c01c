package hsmkeys

import (
	"context"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Policy returns what the list of members in force demands of those that follow it.
func (k *Keyring) Policy() blob.Policy { return k.members().List().Policy }

// SetPolicy records the next list of members, with a policy for those that follow it. The policy in force
// holds for this change too.
func (k *Keyring) SetPolicy(ctx context.Context, p blob.Policy) error {
	return k.recorder.changing(ctx, Use{Operation: OpSetPolicy}, "", func(ctx context.Context, _ *intent) error {
		return k.changeMembers(ctx, "change the policy", func(l *blob.MemberList, _ *ledger.Members) error {
			if l.Policy == p {
				return fmt.Errorf("it is in force already: %w", blob.ErrExists)
			}
			l.Policy = p
			return nil
		})
	})
}
