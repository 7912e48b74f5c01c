// Package hsmkeys stores session keys safely outside the hardware.
//
// A key exchange pair lives on a PKCS #11 token and never leaves it. A session
// key is made on the token, wrapped to the pair's public key and signed by the
// pair, both inside the token; what comes out is a key blob, and it may lie on
// storage that nobody needs to trust. Reading it back means: verify the
// signature, then unwrap in the token, then use the key. It is the procedure
// "Storing Session Keys" of Microsoft's CryptoAPI, done with PKCS #11 and CMS.
// Where the pair must not sign, another one on the token does, and the list of
// members knows both.
//
// The signature is essential. Wrapping needs only the public key, so without a signature somebody
// with access to the storage could put a session key of their own in the place of ours, and read
// everything that we encrypt from then on.
//
// [Init] makes a keyring, [Open] opens it with a key exchange [Pair], and
// [OpenWithCertificate] opens it for verification without one. A
// [Keyring] makes keys ([Keyring.Create]), opens them ([Keyring.Open]), and
// encrypts and decrypts files under them ([Keyring.Encrypt], [Keyring.Decrypt]).
// Its state says what may be done with each version of a key ([Keyring.Deactivate],
// [Keyring.Compromise], [Keyring.Destroy]).
// The files are age v1 files. [NewPairRecipient] and [PairIdentity] are for age files to
// the pair itself, which anybody can make.
//
// Errors keep what packages token, blob and ledger say. [errors.Is] tells them apart:
// [blob.ErrIntegrity] when a signature, a digest or a name did not hold, and its kinds such as
// [ledger.ErrRollback] and [ledger.ErrFork]; [blob.ErrNotFound], [blob.ErrExists],
// [blob.ErrName], and those of package token.
//
// Trust starts at the pin on the operator's own token: which checkpoint of the keyring was
// accepted last. A checkpoint signs for the whole keyring, see package ledger, so nothing
// that was accepted once can be put back, taken away or exchanged unnoticed.
//
// A Keyring is safe for concurrent use, by many goroutines and many processes.
package hsmkeys

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Keyring is the keys of a store and their members, opened by one of these members.
type Keyring struct {
	options Options
	store   blob.Store
	pair    Pair   // nil if the keyring was opened with a certificate
	pins    *Pins  // nil if nothing is pinned
	self    []byte // the key identifier of the pair, or of the certificate
	signer  []byte // the key identifier of the key that signs for the pair

	mu    sync.Mutex
	head  *ledger.Ledger // the newest that is known
	state State          // what opening has found
	kept  ledger.Point   // what this process has pinned last

	looked   atomic.Pointer[time.Time] // when the store was last checked for a newer head
	pinsRead atomic.Pointer[time.Time] // when the pins were last read; nil if they have to be

	formerNames renamedKeys
	recorder    recorder

	recording recording
	storing   storing
	blobs     blobCache
}

// ID returns the keyring's identifier, 16 random bytes. It is in every signature.
func (k *Keyring) ID() blob.ID { return k.view().ID() }

// view returns the keyring as of the newest head that is known.
func (k *Keyring) view() *ledger.Ledger {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.head
}

func (k *Keyring) members() *ledger.Members { return k.view().Members() }

// errNoToken is for a keyring that was opened with a certificate.
var errNoToken = errors.New("the keyring was opened without a token")
