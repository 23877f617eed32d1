package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/containr/containr/pkg/image"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Fault says what is wrong with a registry or its answer. Use errors.Is with the
// values below.
type Fault string

// Error returns the fault in words.
func (f Fault) Error() string { return string(f) }

// What callers branch on.
const (
	// ErrUnreachable: no connection, or it broke each time.
	ErrUnreachable Fault = "registry cannot be reached"
	// ErrPlainHTTP: the server speaks no TLS, and PlainHTTP was not asked for.
	ErrPlainHTTP Fault = "registry speaks plain HTTP"
	// ErrUnauthorized: the registry wants other credentials, or hides that there
	// is no such repository.
	ErrUnauthorized Fault = "access denied"
	// ErrCredentials: what docker login left cannot be read.
	ErrCredentials Fault = "cannot read credentials"
	// ErrNotFound: there is no such repository, tag, manifest or blob.
	ErrNotFound Fault = "not found"
	// ErrBusy: the registry asked to come back later, each time.
	ErrBusy Fault = "registry is busy"
	// ErrFailed: the registry answered with another status that is no success.
	ErrFailed Fault = "registry failed"
	// ErrLength: the registry announced another length than the manifest promises.
	ErrLength Fault = "wrong length announced"
	// ErrTooLong: the content goes on after its promised length, or beyond a limit.
	ErrTooLong Fault = "content is too long"
	// ErrTruncated: the content ends before its promised length, each time.
	ErrTruncated Fault = "content is truncated"
	// ErrDigest: the content has another digest.
	ErrDigest Fault = "content has the wrong digest"
	// ErrOffline: no registry may be asked.
	ErrOffline Fault = "not asked, as we are offline"
	// ErrUpload: the registry does not take what it is sent.
	ErrUpload Fault = "upload refused"
	// ErrRedirect: the registry redirects in circles, or from HTTPS to HTTP.
	ErrRedirect Fault = "bad redirect"
)

// Error is a failed exchange with a registry.
type Error struct {
	Registry string // host[:port]
	What     string // that was asked for: "manifest library/debian:12", "blob sha256:..."
	Fault    Fault
	Detail   string // what was expected and what came; may be empty
	Err      error  // the cause, if there is one

	status int           // of the answer, zero if there was none
	retry  bool          // another attempt may succeed
	after  time.Duration // but not before
}

// Error names registry and object, the fault and its details.
func (e *Error) Error() string {
	text := fmt.Sprintf("registry %s: %s: %s", e.Registry, e.What, string(e.Fault))
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap makes both the fault and the cause known to errors.Is.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Fault}
	}
	return []error{e.Fault, e.Err}
}

// Is makes an object that a registry does not have an image.ErrNotFound, and
// content that is not what was promised an image.ErrCorrupt.
func (e *Error) Is(target error) bool {
	switch e.Fault {
	case ErrNotFound:
		return target == image.ErrNotFound
	case ErrLength, ErrTooLong, ErrTruncated, ErrDigest:
		return target == image.ErrCorrupt
	}
	return false
}

// isTransient reports whether a fault may be gone the next time, so that what was
// fetched already is worth keeping.
func (f Fault) isTransient() bool {
	switch f {
	case ErrUnreachable, ErrBusy, ErrFailed, ErrTruncated:
		return true
	}
	return false
}

// statusError describes an answer that is no success. It reads a part of the body
// and does not close it.
func statusError(resp *http.Response) *Error {
	e := &Error{Fault: ErrFailed, Detail: resp.Status, status: resp.StatusCode}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Fault = ErrUnauthorized
	case http.StatusNotFound:
		e.Fault = ErrNotFound
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		e.Fault = ErrBusy
	}
	if message := errorMessage(resp.Body); message != "" {
		e.Detail = resp.Status + ": " + message
	}
	if limits := rateLimits(resp.Header); limits != "" {
		e.Detail += " (" + limits + ")"
	}
	return e
}

// rateLimits returns what a registry says about how much it lets through, in its own words.
func rateLimits(h http.Header) string {
	var said []string
	for _, key := range []string{
		"Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset", "Docker-Ratelimit-Source",
		"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset", "Retry-After",
	} {
		if value := h.Get(key); value != "" {
			said = append(said, strings.ToLower(key)+": "+printable(value))
		}
	}
	return strings.Join(said, ", ")
}

// maxErrorBody bounds what is read of an error's body, in bytes.
const maxErrorBody = 64 << 10

// errorMessage reads the messages of the distribution specification's error
// format ("Error Codes"), made fit for a terminal.
func errorMessage(body io.Reader) string {
	data, err := io.ReadAll(io.LimitReader(body, maxErrorBody))
	if err != nil {
		return ""
	}
	var document struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(data, &document) != nil {
		return ""
	}
	var messages []string
	for _, e := range document.Errors {
		messages = append(messages, strings.TrimSpace(e.Code+" "+e.Message))
	}
	return printable(strings.Join(messages, "; "))
}

// printable removes control characters, which could drive a terminal, from what
// a server says, and cuts it to a sensible length.
func printable(s string) string {
	const longest = 300
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return s
}

// transportError describes a request that got no answer. URLs are left out of the
// text, as those of redirects and tokens carry secrets in their query.
func transportError(err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	if errors.Is(err, ErrOffline) {
		return &Error{Fault: ErrOffline}
	}
	var refused *errcode.ErrorResponse // of the token service
	if errors.As(err, &refused) {
		return tokenError(refused)
	}
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return &Error{Fault: ErrUnauthorized, Detail: "the registry wants a user name and password; there are none for it"}
	}
	var inURL *url.Error
	if !errors.As(err, &inURL) {
		return &Error{Fault: ErrFailed, Err: err} // of authentication
	}
	for errors.As(err, &inURL) {
		err = inURL.Err
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return &Error{Fault: ErrPlainHTTP, Detail: "it must be allowed explicitly"}
	}
	return &Error{Fault: ErrUnreachable, Err: err, retry: retryTransport(err)}
}

// tokenError describes a refusal of the service that hands out tokens.
func tokenError(refused *errcode.ErrorResponse) *Error {
	e := &Error{Fault: ErrFailed, Detail: "token service: " + strconv.Itoa(refused.StatusCode) + " " + http.StatusText(refused.StatusCode)}
	switch refused.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusBadRequest:
		e.Fault = ErrUnauthorized
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		e.Fault = ErrBusy
	}
	e.retry = retryStatus(refused.StatusCode)
	return e
}

// retryAfter returns how long an answer asks to wait (RFC 9110 section 10.2.3),
// zero if it does not.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, int(longestPause/time.Second)+1)) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(date.Sub(now), 0)
	}
	return 0
}
