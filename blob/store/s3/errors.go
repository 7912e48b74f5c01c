package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Errors of a bucket and of the way to it, which [errors.Is] finds in what a [Store] returns.
var (
	// ErrSettings means that the settings in the environment or in the files of AWS cannot be used.
	ErrSettings = errors.New("the AWS settings cannot be used")

	// ErrNoCredentials means that there are no credentials, or that those that there are do not
	// lead to a key: an expired session, a role that cannot be assumed.
	ErrNoCredentials = errors.New("no credentials for the bucket")

	// ErrCredentials means that the service does not know the access key, or that the secret does
	// not belong to it.
	ErrCredentials = errors.New("the service does not accept the credentials")

	// ErrDenied means that the credentials do not allow a request; see [Denied].
	ErrDenied = errors.New("access denied")

	// ErrNoBucket means that there is no such bucket at this service.
	ErrNoBucket = errors.New("no such bucket")

	// ErrRegion means that the bucket is in another region than the settings say.
	ErrRegion = errors.New("the bucket is in another region")

	// ErrClock means that the clocks of this machine and of the service are too far apart.
	ErrClock = errors.New("the clock of this machine is off")

	// ErrVersionsKept means that an object was not deleted, because versions of it would be left
	// in a bucket that keeps them.
	ErrVersionsKept = errors.New("the bucket keeps versions of it")
)

// Denied are the facts of an [ErrDenied], for [errors.As].
type Denied struct {
	Actions  []string // of a policy, such as s3:GetObject, one of which is missing
	Resource string   // on which, as a policy names it
	err      error
}

// Deletes reports whether it was a request to delete something.
func (e *Denied) Deletes() bool { return slices.Contains(e.Actions, deleteObject) }

func (e *Denied) Error() string { return e.err.Error() }
func (e *Denied) Unwrap() error { return e.err }

// codes are the codes of Amazon S3's "List of error codes" that have an error here.
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
	"NoSuchKey":                          blob.ErrNotFound,
	"NotFound":                           blob.ErrNotFound,
	"PreconditionFailed":                 blob.ErrExists,
	"ExistingObjectIsDirectory":          blob.ErrOccupied, // of services on a file system; also while somebody deletes
}

// classify gives an error of the SDK its place among ours. The actions are what a policy has to
// allow for the request.
func (s *Store) classify(err error, actions ...string) error {
	if err == nil {
		return nil
	}
	code, status := codeOf(err)
	kind := codes[code]
	if kind == nil {
		switch status { // of answers without a body, or of proxies in between
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
		return cause(err)
	case kind == blob.ErrNotFound, kind == blob.ErrExists:
		return kind
	case kind == ErrDenied:
		return &Denied{actions, s.resource(actions), fmt.Errorf("%w (%s)", ErrDenied, told(err, code, status))}
	case kind != nil:
		return &answer{fmt.Sprintf("%v (%s)", kind, told(err, code, status)), []error{kind, err}}
	case status == http.StatusOK:
		return &answer{"the answer cannot be read", []error{err}}
	case status != 0:
		return &answer{"the service says " + told(err, code, status), []error{err}}
	}
	return cause(err)
}

// An answer is an error that the service has told, in few words.
type answer struct {
	text string
	is   []error
}

func (e *answer) Error() string   { return e.text }
func (e *answer) Unwrap() []error { return e.is }

// codeOf returns the code and the HTTP status of an answer; "" and 0 where there was none.
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

// maxTold is how much of a message of the service is shown, in bytes.
const maxTold = 200

// told returns what the service has said.
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

// cause returns an error without the SDK's account of the operation around it, and of the request.
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

// resource returns what in a policy the actions are on: the bucket for lists, and the objects for
// everything else.
func (s *Store) resource(actions []string) string {
	const arn = "arn:aws:s3:::"
	for _, action := range actions {
		if action != listBucket && action != listVersions {
			return arn + s.place.Bucket + "/" + s.place.prefix() + "*"
		}
	}
	return arn + s.place.Bucket
}

// The actions of policies, as the Service Authorization Reference for Amazon S3 names them.
const (
	getObject     = "s3:GetObject"
	putObject     = "s3:PutObject"
	deleteObject  = "s3:DeleteObject"
	deleteVersion = "s3:DeleteObjectVersion"
	listBucket    = "s3:ListBucket"
	listVersions  = "s3:ListBucketVersions"
)
