package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/image"
)

// refusal is an answer that is no success: a status, and the code and message of the
// specification's error format.
type refusal struct {
	status  int
	code    string
	message string
}

// Error is the message.
func (r *refusal) Error() string { return r.message }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

// Codes of the distribution specification ("Error Codes").
const (
	blobUnknown         = "BLOB_UNKNOWN"
	blobUploadInvalid   = "BLOB_UPLOAD_INVALID"
	blobUploadUnknown   = "BLOB_UPLOAD_UNKNOWN"
	digestInvalid       = "DIGEST_INVALID"
	manifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	manifestInvalid     = "MANIFEST_INVALID"
	manifestUnknown     = "MANIFEST_UNKNOWN"
	nameInvalid         = "NAME_INVALID"
	nameUnknown         = "NAME_UNKNOWN"
	sizeInvalid         = "SIZE_INVALID"
	unauthorized        = "UNAUTHORIZED"
	denied              = "DENIED"
	unsupported         = "UNSUPPORTED"
	tooManyRequests     = "TOOMANYREQUESTS"
	unknown             = "UNKNOWN" // of docker's registry: no fault of the client's
)

// refusalOf says what a client is told about an error. What is not meant for it, such as paths of
// this machine, is not in it.
func refusalOf(err error) *refusal {
	var r *refusal
	var wrong *image.VerifyError
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &wrong):
		return refuse(http.StatusBadRequest, digestInvalid, "%v", wrong)
	case errors.Is(err, image.ErrLimit):
		return refuse(http.StatusRequestEntityTooLarge, sizeInvalid, "%v", err)
	case errors.Is(err, image.ErrInvalid), errors.Is(err, image.ErrReference):
		return refuse(http.StatusBadRequest, manifestInvalid, "%v", err)
	case errors.Is(err, image.ErrNotFound):
		return refuse(http.StatusNotFound, blobUnknown, "it is not here any more")
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return refuse(http.StatusInsufficientStorage, denied, "the disk of the registry is full")
	}
	return refuse(http.StatusInternalServerError, unknown, "the registry failed; its log says why")
}

// answerError writes an error.
func answerError(w http.ResponseWriter, head bool, err error) {
	r := refusalOf(err)
	w.Header().Set("Content-Type", "application/json")
	if r.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "5")
	}
	w.WriteHeader(r.status)
	if head {
		return
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	// A client that is gone is not told.
	_ = json.NewEncoder(w).Encode(map[string][]entry{"errors": {{r.code, r.message}}})
}
