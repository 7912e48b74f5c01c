package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Errors returned by a [Store], in addition to those of package blob. Test for them with [errors.Is].
var (
	// ErrSettings means that the AWS configuration in the environment or in files is invalid.
	ErrSettings = errors.New("the AWS settings cannot be used")

	// ErrNoCredentials means that no access key could be obtained: none is configured, a session
	// has expired, or a role cannot be assumed.
	ErrNoCredentials = errors.New("no credentials for the bucket")

	// ErrCredentials means that the service rejected the access key, its secret or its session token.
	ErrCredentials = errors.New("the service does not accept the credentials")

	// ErrDenied means that the credentials do not permit the request. The error is a [*Denied].
	ErrDenied = errors.New("access denied")

	// ErrNoBucket means that the bucket does not exist.
	ErrNoBucket = errors.New("no such bucket")

	// ErrRegion means that the bucket is not in the configured region.
	ErrRegion = errors.New("the bucket is in another region")

	// ErrNotS3 means that what answers at the endpoint is not an S3 service.
	ErrNotS3 = errors.New("the endpoint does not answer like an S3 service")

	// ErrClock means that this machine's clock differs too much from the service's.
	ErrClock = errors.New("the clock of this machine is off")

	// ErrVersionsKept means that an object was not purged because its versions in the bucket
	// cannot be deleted.
	ErrVersionsKept = errors.New("the bucket keeps versions of it")
)

// Denied describes an [ErrDenied].
type Denied struct {
	Actions  []string // IAM actions, such as s3:GetObject, of which at least one is not granted
	Resource string   // ARN of the resource for which to grant them
	err      error
}

// Deletes reports whether the denied request was to delete an object.
func (e *Denied) Deletes() bool { return slices.Contains(e.Actions, deleteObject) }

func (e *Denied) Error() string { return e.err.Error() }
func (e *Denied) Unwrap() error { return e.err }

// codes maps error codes (Amazon S3 API Reference, "Error responses") to errors.
var codes = map[string]error{
	"AccessDenied":                       ErrDenied,
	"AllAccessDisabled":                  ErrDenied,
	"AccountProblem":                     ErrDenied,
	"InvalidAccessKeyId":                 ErrCredentials,
	"XAdminUserNotFound":                 ErrCredentials, // of versitygw
	"SignatureDoesNotMatch":              ErrCredentials,
	"InvalidSecurity":                    ErrCredentials,
	"InvalidToken":                       ErrCredentials,
	"ExpiredToken":                       ErrCredentials,
	"TokenRefreshRequired":               ErrCredentials,
	"NoSuchBucket":                       ErrNoBucket,
	"PermanentRedirect":                  ErrRegion,
	"IllegalLocationConstraintException": ErrRegion,
	"AuthorizationHeaderMalformed":       ErrRegion,
	"RequestTimeTooSkewed":               ErrClock,
	"RequestExpired":                     ErrClock,
	"NoSuchVersion":                      blob.ErrNotFound,
	"NoSuchKey":                          blob.ErrNotFound,
	"PreconditionFailed":                 blob.ErrExists,
	"ExistingObjectIsDirectory":          blob.ErrOccupied, // of services on a file system; also while somebody deletes
}

// classify translates an error of the SDK into one of this package or of package blob. The actions are the IAM
// actions that the request needs.
func (s *Store) classify(err error, actions ...string) error {
	if err == nil {
		return nil
	}
	code, status := codeOf(err)
	kind := codes[code]
	if kind == nil {
		switch status { // responses without a code, such as to HEAD, or from a proxy
		case http.StatusForbidden:
			kind = ErrDenied
		case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
			kind = ErrRegion
		case http.StatusPreconditionFailed:
			kind = blob.ErrExists
		}
	}
	switch {
	case errors.Is(err, errTooMuch):
		return errTooMuch
	case errors.Is(err, ErrNoCredentials):
		var none *answer
		if errors.As(err, &none) {
			return none
		}
		return cause(err)
	case kind == blob.ErrNotFound, kind == blob.ErrExists:
		return kind
	case kind == ErrDenied:
		return &Denied{actions, s.resource(actions), fmt.Errorf("%w (%s)", ErrDenied, told(err, code, status))}
	case kind != nil:
		return &answer{fmt.Sprintf("%v (%s)", kind, told(err, code, status)), []error{kind, err}}
	case status == http.StatusOK:
		return &answer{"the answer cannot be read", []error{err}}
	case status == http.StatusNotFound && code != "" && code != "NotFound":
		return &answer{"the service says " + told(err, code, status), []error{err}}
	case status == http.StatusNotFound:
		return &answer{fmt.Sprintf("%v (HTTP 404 without an error of S3)", ErrNotS3), []error{ErrNotS3, err}}
	case status != 0:
		return &answer{"the service says " + told(err, code, status), []error{err}}
	}
	if operation := (*smithy.OperationError)(nil); errors.As(err, &operation) && !errors.As(err, new(*url.Error)) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrSettings, operation.Err) // the request was never sent
	}
	return cause(err)
}

// An answer is an error response, with a short text.
type answer struct {
	text string
	is   []error
}

func (e *answer) Error() string   { return e.text }
func (e *answer) Unwrap() []error { return e.is }

// codeOf returns the error code and the HTTP status of a response, or "" and 0 if there was none.
func codeOf(err error) (code string, status int) {
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	return code, status
}

var validCode = regexp.MustCompile(`^[A-Za-z0-9.]{1,60}$`)

// printable replaces control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '�'
		}
		return r
	}, s)
}

// maxTold is the maximum length of a message of the service in an error, in bytes.
const maxTold = 200

// told formats the code, status and message of an error response.
func told(err error, code string, status int) string {
	var api smithy.APIError
	message := ""
	if errors.As(err, &api) {
		message = api.ErrorMessage()
	}
	if len(message) > maxTold {
		message = message[:maxTold] + "…"
	}
	switch {
	case code == "":
		code = http.StatusText(status)
	case !validCode.MatchString(code):
		code = fmt.Sprintf("%.60q", code)
	}
	if message == "" || message == code {
		return fmt.Sprintf("%s, HTTP %d", code, status)
	}
	return fmt.Sprintf("%s, HTTP %d: %q", code, status, message)
}

// cause strips the SDK's wrapping, which names the operation and the full URL, from an error.
func cause(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		if at, parsed := url.Parse(request.URL); parsed == nil {
			return fmt.Errorf("%s://%s: %w", at.Scheme, at.Host, request.Err)
		}
	}
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		return operation.Err
	}
	return err
}

// resource returns the ARN for a policy with the actions: the bucket if all are about lists, otherwise the objects.
func (s *Store) resource(actions []string) string {
	const arn = "arn:aws:s3:::"
	for _, action := range actions {
		if action != listBucket && action != listVersions {
			return arn + s.place.Bucket + "/" + s.place.prefix() + "*"
		}
	}
	return arn + s.place.Bucket
}

// IAM actions (Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3").
const (
	getObject     = "s3:GetObject"
	putObject     = "s3:PutObject"
	deleteObject  = "s3:DeleteObject"
	deleteVersion = "s3:DeleteObjectVersion"
	listBucket    = "s3:ListBucket"
	listVersions  = "s3:ListBucketVersions"
)
