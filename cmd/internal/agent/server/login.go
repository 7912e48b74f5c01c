package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/token"
)

// A login is the token while the agent is logged in, and the reason while it is not.
type login struct {
	open func(context.Context, PINFunc) (*token.Token, error)

	mu    sync.RWMutex // read-locked by every call; locked to log in and out
	token *token.Token // nil while the agent is locked

	shown  sync.Mutex // guards info to endUse, which are read also while others wait for mu
	info   token.Info // of the token, also while the agent is locked
	reason string     // why it is locked; "" if it is not
	inUse  context.Context
	endUse context.CancelCauseFunc // ends inUse when the agent is to be locked

	named named        // the keyring for other users
	found sync.Map     // *wire.PairReply by request
	kept  atomic.Int32 // how many of these there were
	pairs sync.Map     // *token.KeyPair by pairKey

	calls    sync.Mutex
	under    int       // calls under way
	lastUse  time.Time // when the last call ended
	away     error     // why the token did not answer at the last call; nil if it did
	awaySeen time.Time
}

// newLogin returns a login that is locked.
func newLogin(open func(context.Context, PINFunc) (*token.Token, error), info token.Info, reason string) *login {
	l := &login{open: open, info: info, reason: reason, named: named{turn: make(chan struct{}, 1)}}
	l.inUse, l.endUse = context.WithCancelCause(context.Background())
	return l
}

// awayFor is how long the agent answers with the same reason before it tries the token again.
const awayFor = time.Second

// with calls f with the token. The error is an [wire.ErrLocked] while the agent is locked.
func (l *login) with(f func(*token.Token) error) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.token == nil {
		return l.locked()
	}
	if err := l.begin(); err != nil {
		return err
	}
	err := f(l.token)
	l.end(err)
	return err
}

// check asks the token whether it is there. That is no use of the token.
func (l *login) check(ctx context.Context) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.token == nil {
		return nil
	}
	return l.token.Check(ctx)
}

// begin counts a call. It returns the error of the last one if the token has just been found to be away:
// a client that asks for many keys would otherwise wait for each.
func (l *login) begin() error {
	l.calls.Lock()
	defer l.calls.Unlock()
	if l.away != nil && time.Since(l.awaySeen) < awayFor {
		return l.away
	}
	l.under++
	return nil
}

func (l *login) end(err error) {
	l.calls.Lock()
	defer l.calls.Unlock()
	l.under--
	if err == nil { // what was refused is no use
		l.lastUse = time.Now()
	}
	if !errors.Is(err, token.ErrLost) || errors.Is(err, token.ErrKeyLost) {
		l.away = nil
	} else {
		l.away, l.awaySeen = err, time.Now()
	}
}

// idle returns for how long the token has not been used.
func (l *login) idle() time.Duration {
	l.calls.Lock()
	defer l.calls.Unlock()
	if l.under > 0 || l.lastUse.IsZero() {
		return 0
	}
	return time.Since(l.lastUse)
}

// locked returns the error of a call while the agent is locked.
func (l *login) locked() error {
	info, reason := l.state()
	return &token.Error{Op: "use the token through the agent", Token: info.Label, Kind: wire.ErrLocked, Err: errors.New(reason)}
}

// untilLock returns a context that is done when ctx is, or when the agent is to be locked: for what does
// more than calls to the token, and would keep the lock waiting.
func (l *login) untilLock(ctx context.Context) (context.Context, context.CancelFunc) {
	l.shown.Lock()
	inUse := l.inUse
	l.shown.Unlock()
	ctx, stop := context.WithCancelCause(ctx)
	forget := context.AfterFunc(inUse, func() { stop(context.Cause(inUse)) })
	return ctx, func() {
		forget()
		stop(nil)
	}
}

// state returns the token's Info, and why the agent is locked, or "".
func (l *login) state() (token.Info, string) {
	l.shown.Lock()
	defer l.shown.Unlock()
	return l.info, l.reason
}

// sessions returns how many sessions are open on the token.
func (l *login) sessions() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.token == nil {
		return 0
	}
	return l.token.Sessions()
}

// unlock logs in, unless the agent is logged in already.
func (l *login) unlock(ctx context.Context, pin PINFunc) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token != nil {
		return nil
	}
	t, err := l.open(ctx, pin)
	if err != nil {
		return err
	}
	l.token = t
	l.shown.Lock()
	l.info, l.reason = t.Info(), ""
	l.inUse, l.endUse = context.WithCancelCause(context.Background())
	l.shown.Unlock()
	l.calls.Lock()
	l.lastUse, l.away = time.Now(), nil
	l.calls.Unlock()
	return nil
}

// lock destroys all session keys and logs out, if the token has not been used for a time. It waits for
// the calls under way. If it is to be locked at once, those that wait for more than the token are ended.
func (l *login) lock(reason string, unused time.Duration, destroy func()) error {
	if unused == 0 {
		l.shown.Lock()
		l.endUse(fmt.Errorf("%w: %s", wire.ErrLocked, reason))
		l.shown.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == nil || l.idle() < unused {
		return nil
	}
	destroy()
	l.forget()
	err := errors.Join(l.named.close(), l.token.Close())
	l.token = nil
	l.shown.Lock()
	l.reason = reason
	l.shown.Unlock()
	return err
}

// pairKey names a pair that signs with another, or with itself.
func pairKey(ref *wire.Pair) string {
	return hex.EncodeToString(ref.GetKeyId()) + "/" + hex.EncodeToString(ref.GetSigningKeyId())
}

// keep remembers a pair that was found for a request.
func (l *login) keep(request string, reply *wire.PairReply, pair *token.KeyPair) {
	l.found.Store(request, reply)
	l.pairs.Store(pairKey(reply.GetPair()), pair)
	if l.kept.Add(1)%maxFound == 0 {
		l.found.Clear()
	}
}

// maxFound is how many requests are remembered: a client may send any.
const maxFound = 64

// pair returns a pair that a client has found. If the agent was locked since, it is searched for again:
// a client that runs for months goes on after that.
func (l *login) pair(ctx context.Context, t *token.Token, ref *wire.Pair) (*token.KeyPair, error) {
	if pair, ok := l.pairs.Load(pairKey(ref)); ok {
		return pair.(*token.KeyPair), nil
	}
	pair, err := pairWith(ctx, t, ref.GetKeyId())
	if err != nil {
		return nil, err
	}
	if len(ref.GetSigningKeyId()) > 0 {
		signing, err := pairWith(ctx, t, ref.GetSigningKeyId())
		if err == nil {
			err = pair.SignWith(signing)
		}
		if err != nil {
			return nil, err
		}
	}
	l.pairs.Store(pairKey(ref), pair)
	return pair, nil
}

// forget forgets all pairs.
func (l *login) forget() {
	l.found.Clear()
	l.pairs.Clear()
}
