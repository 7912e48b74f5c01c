package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/miekg/pkcs11"
)

const (
	application = "hsmkeys" // CKA_APPLICATION of records
	maxRecord   = 1024      // bytes
	maxRecords  = 1024
)

// errGone is for a record that another process has deleted since it was found.
var errGone = errors.New("a record was deleted while it was read")

// errOtherObject is for a new object that is not read back as it was made.
var errOtherObject = errors.New("the token made an object that differs from what was asked for")

// Records returns the records on the token: small private data objects (CKO_DATA) that AddRecord made. On SoftHSM, one that is made or deleted at this moment
// may be missed: a program that replaces a record should keep the previous one as well.
//
// Only objects that are CKA_PRIVATE count: nobody without the PIN can make, change or see one,
// while anybody can write a public data object with the same application and label to most tokens.
func (t *Token) Records(ctx context.Context) ([]keyspec.Record, error) {
	all, err := t.records(ctx)
	for try := 1; try < attachTries && errors.Is(err, errGone); try++ {
		time.Sleep(attachPause)
		all, err = t.records(ctx)
	}
	return all, t.fail("read records", nil, err)
}

func (t *Token) records(ctx context.Context) ([]keyspec.Record, error) {
	found, err := t.findObjects(ctx, recordSearch())
	if err != nil {
		return nil, err
	}
	if len(found) > maxRecords {
		// Not an errors.ErrUnsupported: a caller would take the token for one without records.
		return nil, t.fail("read records", nil, fmt.Errorf("%d of them, at most %d are expected", len(found), maxRecords))
	}
	var all []keyspec.Record
	err = t.with(ctx, func(s pkcs11.SessionHandle) error {
		for _, handle := range found {
			a, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{
				attr(pkcs11.CKA_PRIVATE, nil), attr(pkcs11.CKA_LABEL, nil), attr(pkcs11.CKA_VALUE, nil),
			})
			// SoftHSM returns these for an object that is written or deleted meanwhile.
			if is(err, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID) {
				return fmt.Errorf("%w: %w", errGone, err)
			}
			if err != nil {
				return err
			}
			if !isTrue(a[0]) {
				continue
			}
			if len(a[2].Value) > maxRecord {
				return fmt.Errorf("record %q has %d bytes, at most %d are expected", a[1].Value, len(a[2].Value), maxRecord)
			}
			all = append(all, keyspec.Record{Label: string(a[1].Value), Value: a[2].Value, Object: uint(handle)})
		}
		return nil
	})
	return all, err
}

// AddRecord makes a record of at most 1024 bytes, and reads it back. The error is an
// [errors.ErrUnsupported] if the token keeps no private data objects, so that the caller can keep
// the value elsewhere.
func (t *Token) AddRecord(ctx context.Context, label string, value []byte) error {
	op := fmt.Sprintf("make the record %q", label)
	if len(value) == 0 || len(value) > maxRecord {
		return t.fail(op, errors.ErrUnsupported, fmt.Errorf("%d bytes, not 1 to %d", len(value), maxRecord))
	}
	err := t.addRecord(ctx, label, value)
	// SoftHSM returns these errors, or shows the new record without its value, while another
	// process writes to the token.
	for try := 1; try < attachTries && (errors.Is(err, errOtherObject) || is(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_TEMPLATE_INCONSISTENT)); try++ {
		time.Sleep(attachPause)
		err = t.addRecord(ctx, label, value)
	}
	if refusesRecords(err) {
		return t.fail(op, errors.ErrUnsupported, err)
	}
	return t.fail(op, nil, err)
}

func (t *Token) addRecord(ctx context.Context, label string, value []byte) error {
	return t.with(ctx, func(s pkcs11.SessionHandle) error {
		handle, err := t.ctx.CreateObject(s, record(label, value))
		if err != nil {
			return err
		}
		return t.checkOrDestroy(s, handle, func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
			return t.checkRecord(s, handle, value)
		})
	})
}

// checkRecord reads back a new record: its value, and the attributes by which [Token.Records]
// finds it.
func (t *Token) checkRecord(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle, value []byte) error {
	a, err := t.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{
		attr(pkcs11.CKA_VALUE, nil), attr(pkcs11.CKA_TOKEN, nil), attr(pkcs11.CKA_PRIVATE, nil), attr(pkcs11.CKA_APPLICATION, nil),
	})
	if err != nil {
		return err
	}
	if !bytes.Equal(a[0].Value, value) || !isTrue(a[1]) || !isTrue(a[2]) || string(a[3].Value) != application {
		return t.fail("read the record back", errors.ErrUnsupported, errOtherObject)
	}
	return nil
}

// refusesRecords reports whether err says that the token never keeps such objects. Other errors
// may be temporary.
func refusesRecords(err error) bool {
	return is(err, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_TEMPLATE_INCONSISTENT,
		pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
		pkcs11.CKR_SESSION_READ_ONLY, pkcs11.CKR_DEVICE_MEMORY)
}

// DeleteRecord deletes a record with the label and the value of r: the one with its handle, if that is
// still such a record. It is no error if there is none.
func (t *Token) DeleteRecord(ctx context.Context, r keyspec.Record) error {
	err := t.deleteRecord(ctx, r)
	// SoftHSM returns CKR_FUNCTION_FAILED where another process deletes the record at the same time,
	// and for a moment both may still see it.
	for try := 1; try < attachTries && (errors.Is(err, errGone) || is(err, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_OBJECT_HANDLE_INVALID)); try++ {
		time.Sleep(attachPause)
		err = t.deleteRecord(ctx, r)
	}
	return t.fail(fmt.Sprintf("delete the record %q", r.Label), nil, err)
}

func (t *Token) deleteRecord(ctx context.Context, r keyspec.Record) error {
	all, err := t.records(ctx)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(other keyspec.Record) bool { return other.Label != r.Label || !bytes.Equal(other.Value, r.Value) })
	if len(all) == 0 {
		return nil
	}
	object := all[0].Object
	if slices.ContainsFunc(all, func(other keyspec.Record) bool { return other.Object == r.Object }) {
		object = r.Object // which after another login may be anything, such as a pair
	}
	return t.with(ctx, func(s pkcs11.SessionHandle) error { return t.destroyQuietly(s, pkcs11.ObjectHandle(object)) })
}
