package hsmkeys

import (
	"context"
	"errors"

	"filippo.io/age"
	"github.com/hsmkeys/hsmkeys/blob"
)

// A fileUse records that a file is decrypted: once when its file key is released or why it is not, and
// again if the file turns out to be damaged behind its header.
type fileUse struct {
	ctx      context.Context // with what is known of the key
	recorder recorder
	recorded Outcome // of the last event; "" for none
}

func newFileUse(ctx context.Context, r recorder) *fileUse {
	return &fileUse{ctx: WithUse(ctx, Use{Operation: OpDecrypt}.with(r.about)), recorder: r}
}

// opened records that a file key was opened, or failed to, and returns it. If that fails it overwrites
// the file key.
func (u *fileUse) opened(fileKey []byte, err error) ([]byte, error) {
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, err // the file is for others
	}
	if err = u.recorder.used(u.ctx, err); err != nil {
		u.recorded = OutcomeFailed
		clear(fileKey)
		return nil, err
	}
	u.recorded = OutcomeDone
	return fileKey, nil
}

// end records that decrypting the file has failed, unless that is recorded, and returns err. Once the
// file key is released only damage is recorded, and not that the disk is full.
func (u *fileUse) end(err error) error {
	if err == nil || u.recorded == OutcomeFailed || u.recorded == OutcomeDone && !errors.Is(err, blob.ErrIntegrity) {
		return err
	}
	u.recorded = OutcomeFailed
	if errors.Is(err, blob.ErrIntegrity) { // it quotes the file, which may be plaintext by mistake
		return u.recorder.usedAs(u.ctx, err, errNotIntact)
	}
	return u.recorder.used(u.ctx, err)
}
