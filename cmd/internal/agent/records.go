package agent

import (
	"context"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
)

var _ keyspec.Records = (*Client)(nil)

// Records returns all records on the agent's token.
func (c *Client) Records(ctx context.Context) ([]keyspec.Record, error) {
	reply, err := call(ctx, c, func(n *conn) (*wire.RecordsReply, error) { return n.agent().Records(ctx, &wire.Empty{}) })
	var all []keyspec.Record
	for _, m := range reply.GetRecords() {
		all = append(all, m.Spec())
	}
	return all, err
}

// AddRecord makes a record.
func (c *Client) AddRecord(ctx context.Context, label string, value []byte) error {
	_, err := call(ctx, c, func(n *conn) (*wire.Empty, error) {
		return n.agent().AddRecord(ctx, &wire.RecordRequest{Record: wire.FromRecord(keyspec.Record{Label: label, Value: value})})
	})
	return err
}

// DeleteRecord deletes a record. It is no error if the record is gone already.
func (c *Client) DeleteRecord(ctx context.Context, r keyspec.Record) error {
	_, err := call(ctx, c, func(n *conn) (*wire.Empty, error) {
		return n.agent().DeleteRecord(ctx, &wire.RecordRequest{Record: wire.FromRecord(r)})
	})
	return err
}
