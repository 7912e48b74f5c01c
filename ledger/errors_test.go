package ledger

import "testing"

func TestErrorsSayWhatWasExpectedAndFound(t *testing.T) {
	at, other := Point{7, Digest{0xab}}, Point{7, Digest{0xcd}}
	ab, cd := at.String(), other.String()
	for want, err := range map[string]error{
		"checkpoint 7 was accepted, the store has none: " + ErrRollback.Error():                                           &Rollback{Accepted: at},
		"checkpoint 7 was accepted, the newest in the store is number 5, of 2026-11-26T12:00:00Z: " + ErrRollback.Error(): &Rollback{Accepted: at, Found: Signed{Point{5, Digest{}}, day}},
		"checkpoint " + ab + " was accepted, the store has " + cd + " in its place: " + ErrRollback.Error():               &Rollback{Accepted: at, Found: Signed{other, day}},
		"after checkpoint 7: " + ErrFork.Error():                                                                          &Fork{Common: at},
		"checkpoint " + ab + " was accepted, and the newest does not descend from it: " + ErrFork.Error():                 &Fork{Accepted: at},
		`checkpoint 7 puts "carol" in the place of "bob": ` + ErrUnaccepted.Error():                                       &Unaccepted{[]RecoveryEvent{{At: at, From: who("bob").Member, To: who("carol").Member}}},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}
