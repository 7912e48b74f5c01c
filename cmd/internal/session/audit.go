package session

import (
	"context"
	"fmt"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

// AuditLog returns where uses and changes are recorded, as the settings say, or nil. It is opened once
// for the settings, before a token is touched: a use that cannot be recorded must not happen.
func AuditLog(s *settings.Settings) (*audit.Log, error) {
	if s.Audit == "" || s.AuditLog != nil {
		return s.AuditLog, nil
	}
	log, err := audit.Open(s.Audit)
	if err != nil {
		return nil, &hsmkeys.Unrecorded{Err: err}
	}
	if log.Torn() {
		message.Warn(fmt.Errorf("the last line of %s is not complete: the machine or a program stopped while it was written, or the disk was full", s.Audit))
	}
	s.AuditLog = log
	return log, nil
}

// Record returns the function that records in [AuditLog], or nil.
func Record(s *settings.Settings) (hsmkeys.RecordFunc, error) {
	log, err := AuditLog(s)
	if log == nil {
		return nil, err
	}
	return log.Record, nil
}

// Changing calls do, which changes something on a token, and records it.
func Changing(ctx context.Context, s *settings.Settings, u hsmkeys.Use, do func(context.Context) error) error {
	record, err := Record(s)
	if err != nil {
		return err
	}
	return hsmkeys.RecordChange(ctx, record, u, "", do)
}

// loginFailed records that a login has failed, and returns why.
func loginFailed(ctx context.Context, s *settings.Settings, err error) error {
	record, opened := Record(s)
	if opened != nil {
		return opened
	}
	return hsmkeys.RecordUse(hsmkeys.WithUse(ctx, hsmkeys.Use{Operation: audit.OpLogin}), record, err)
}

// ReopenAudit opens the file of the records of use anew, if there is one, after it was renamed. It warns
// if that fails: the former one goes on.
func ReopenAudit(s *settings.Settings) {
	if s.AuditLog == nil {
		return
	}
	if err := s.AuditLog.Reopen(); err != nil {
		message.Warn(err)
	}
}
