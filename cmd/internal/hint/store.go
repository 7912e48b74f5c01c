package hint

import (
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/s3"
)

// store returns hints for errors of package blob, its stores and the file system.
func store(err error) string {
	switch {
	case errors.Is(err, blob.ErrOccupied):
		return "hsmkeys has not made it: look at it, and take it away"
	case errors.Is(err, blob.ErrNotExclusive):
		return "keep the store on another file system, such as ext4, XFS, Btrfs or NFS, or with a service that knows the header If-None-Match; copies of it may lie anywhere"
	case errors.Is(err, s3.ErrDenied), errors.Is(err, s3.ErrVersionsKept):
		return grant(err)
	case errors.Is(err, s3.ErrNoCredentials):
		return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile; where it has a session that has ended, aws sso login begins another"
	case errors.Is(err, s3.ErrCredentials):
		return "are these the credentials for this service? AWS_ENDPOINT_URL names another one than Amazon's; a session may have ended"
	case errors.Is(err, s3.ErrNoBucket):
		return "make the bucket first; is AWS_ENDPOINT_URL the service that has it? Some services want s3://BUCKET/PREFIX?path-style"
	case errors.Is(err, s3.ErrRegion):
		return "set AWS_REGION to the region of the bucket; is AWS_ENDPOINT_URL right?"
	case errors.Is(err, s3.ErrNotS3):
		return "is AWS_ENDPOINT_URL right? It names the service alone, without the bucket"
	case errors.Is(err, s3.ErrClock):
		return "set the clock of this machine: timedatectl set-ntp true"
	case errors.Is(err, s3.ErrSettings):
		return "see AWS_ENDPOINT_URL (which begins with http:// or https://), AWS_REGION, AWS_PROFILE, AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE and AWS_CA_BUNDLE"
	case errors.Is(err, s3.ErrURL):
		return "the endpoint, the region and the credentials are named by AWS_ENDPOINT_URL, AWS_REGION and the other variables and files of AWS"
	case errors.As(err, new(*net.DNSError)):
		return "is AWS_ENDPOINT_URL right? Some services want s3://BUCKET/PREFIX?path-style, and then the bucket is no part of the name of the host"
	case errors.Is(err, syscall.ECONNREFUSED) && errors.Is(err, blob.ErrUnavailable):
		return "is AWS_ENDPOINT_URL right, and does the service run?"
	case errors.Is(err, blob.ErrUnavailable):
		return "try again later; is AWS_ENDPOINT_URL right?"
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full; what was stored before is not touched"
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "the directory or file cannot be written or read by this user"
	case errors.Is(err, blob.ErrName):
		return "names are segments of a-z 0-9 . _ - joined by /, at most 128 bytes, none starting with . or ending in .cms"
	}
	return ""
}

// grant returns a hint that names the IAM actions to grant.
func grant(err error) string {
	var denied *s3.Denied
	if !errors.As(err, &denied) {
		return ""
	}
	text := "grant " + strings.Join(denied.Actions, " and ") + " on " + denied.Resource
	if len(denied.Actions) > 1 {
		text = "grant " + denied.Actions[0] + " on " + denied.Resource + ", and " + denied.Actions[1] + " on the bucket, without which what is not there is denied as well"
	}
	return text
}
