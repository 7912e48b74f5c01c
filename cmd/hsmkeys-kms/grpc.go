package main

import (
	"context"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/token"
)

// maxRequest is the maximal size of a request, in bytes: a ciphertext, a key id and annotations have at
// most some kilobytes.
const maxRequest = 64 << 10

// endWithin is how long calls under way may take to end after SIGTERM.
const endWithin = 1500 * time.Millisecond

// serveGRPC serves calls until ctx is done. Then it takes no more, and lets those under way end.
func serveGRPC(ctx context.Context, l net.Listener, p *plugin) error {
	s := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest), grpc.MaxConcurrentStreams(256), grpc.ConnectionTimeout(10*time.Second))
	kmsapi.RegisterKeyManagementServiceServer(s, p)
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		hard := time.AfterFunc(endWithin, s.Stop)
		defer hard.Stop()
		s.GracefulStop()
	})
	err := s.Serve(l)
	if ctx.Err() != nil {
		<-stopped
		return nil
	}
	return err
}

// toStatus returns an error with its gRPC code.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codeOf(err), err.Error())
}

func codeOf(err error) codes.Code {
	var notActive *hsmkeys.NotActive
	var expired *hsmkeys.Expired
	var none *hsmkeys.NoCurrentVersion
	switch {
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, errPlaintext), errors.Is(err, errCiphertext), errors.Is(err, errKeyID):
		return codes.InvalidArgument
	case errors.Is(err, errOtherKey):
		return codes.PermissionDenied
	case errors.Is(err, token.ErrWrapped):
		return codes.InvalidArgument
	case errors.Is(err, blob.ErrIntegrity):
		return codes.DataLoss
	case errors.Is(err, blob.ErrNotFound):
		return codes.NotFound
	case errors.As(err, &notActive), errors.As(err, &expired), errors.As(err, &none), errors.Is(err, hsmkeys.ErrPurpose), errors.Is(err, hsmkeys.ErrTooOld), errors.Is(err, hsmkeys.ErrStale):
		return codes.FailedPrecondition
	case errors.Is(err, token.ErrLost), errors.Is(err, blob.ErrUnavailable), errors.Is(err, agent.ErrLocked), errors.Is(err, agent.ErrNone), errors.As(err, new(*token.Error)):
		return codes.Unavailable
	}
	return codes.Internal
}
