package ledger

import (
	"slices"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/storetest"
)

// What others have stored is made durable before it is pinned, or the next thousand of
// slots begins; what this process has recorded is so already.
func TestWhatIsSynced(t *testing.T) {
	s := newStory(t)
	var synced []string
	l, err := Init(t.Context(), storetest.Fault(s.store, func(op, path string) error {
		if op == "sync" {
			synced = append(synced, path)
		}
		return nil
	}), blob.MemberList{KeyringID: keyringID, Members: members("alice", "bob")}, who("alice").signer(), s.tick(), s.nonce)
	s.ok(err)
	expect := func(want ...string) {
		t.Helper()
		if !slices.Equal(synced, want) {
			t.Errorf("synced %q, want %q", synced, want)
		}
		synced = nil
	}
	s.ok(l.Sync(t.Context()))
	expect()

	other := s.opened(Trust{Pins: []Pin{l.Pin()}, Write: true})
	note := Proposal{Notes: []Change{{Op: ReplacePin, Reason: "a test"}}}
	for other.At().Number < 998 {
		other = s.propose(other, "alice", note)
	}
	l, err = l.Refresh(t.Context(), true)
	s.ok(err)
	expect()
	s.ok(l.Sync(t.Context()))
	expect(blob.SlotPath(998))

	s.propose(other, "alice", note)
	l = s.propose(l, "bob", note) // which loses the race for 999
	if l.At().Number != 1000 {
		t.Errorf("checkpoint %v", l.At())
	}
	expect(blob.SlotPath(999))
	s.ok(l.Sync(t.Context()))
	expect()
}
