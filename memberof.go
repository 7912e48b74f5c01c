package hsmkeys

import (
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// MemberOf returns the member to whom a pair belongs by the list in force, or the error with which
// [Join] would refuse the pair. It is for a keyring that was opened without a token.
func (k *Keyring) MemberOf(pair Pair) (blob.Member, error) {
	id, err := blob.PublicKeyID(pair.Public())
	if err != nil {
		return blob.Member{}, err
	}
	m, ok := k.members().Member(string(id))
	if !ok {
		return m, k.notNamed(id)
	}
	return m, nil
}

// notNamed returns the error for a pair that the list in force does not name.
func (k *Keyring) notNamed(pair []byte) error {
	all := k.members()
	inList := func(format string, args ...any) error {
		return fmt.Errorf("list of members %d: "+format+": %w", append(append([]any{all.List().Number}, args...), blob.ErrUntrusted)...)
	}
	if left := all.LeftAt(string(pair), ledger.KeyID); left > 0 {
		if r := all.ListNumber(left).Recovery; r != nil && string(r.From) == string(pair) {
			return withFacts(inList("a recovery has put %q in its place, by list %d (%s)", all.RecoveredTo(left).Label, left, r.Reason), &NotMember{Role: blob.Owner, Recovered: true})
		}
		was, _ := all.EverMember(string(pair))
		return withFacts(inList("this token's pair is no longer a member since list %d", left), &NotMember{Role: was.Role})
	}
	if m, ok := all.Signer(string(pair)); ok {
		return withFacts(inList("this token's pair is named as the signing key of %q", m.Label), ErrIsSigningKey)
	}
	return withFacts(inList("this token's pair is not named"), ErrNeverNamed)
}
