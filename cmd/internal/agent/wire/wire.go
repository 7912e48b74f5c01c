// Package wire is the protocol between the agent and its clients: the messages that agent.proto
// defines, and how secrets, errors and the words of package keyspec are put into them.
//
// scripts/generate.sh generates the code of the messages.
package wire

import (
	"storj.io/drpc/drpcmanager"
	"storj.io/drpc/drpcwire"
)

// MaxMessage is the maximal size of a message, in bytes. The largest that a client has to send is
// what an HMAC is computed over.
const MaxMessage = 64 << 10

// Limits returns the options of a connection, which bound what the other end can make this one
// allocate.
func Limits() drpcmanager.Options {
	return drpcmanager.Options{Reader: drpcwire.ReaderOptions{MaximumBufferSize: MaxMessage}}
}
