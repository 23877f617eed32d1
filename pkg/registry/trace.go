package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Exchange is one request over the network, why it was made, and what came of it. Secrets
// are not in it.
type Exchange struct {
	Why    string // may be empty
	Method string // empty: nothing had to be asked, and Why says so
	URL    string // values in the query of a redirect or an upload are left out: they are a password
	Header http.Header
	Form   url.Values // of a token request that is a POST, without secrets
	// Authorization in Header holds the scheme alone. User is who asked, if by name and
	// password.
	User string

	Rehearsed  bool // it was not sent
	Redirected bool // an answer before it sent us there
	Token      bool // it asked for a token
	Status     int  // zero if there was no answer
	Challenge  string
	Limits     string // what the registry says of how much it lets through, in its own words
	Took       time.Duration
	Err        error
}

// whyKey is where a context holds the reason of the requests that are made with it.
type whyKey struct{}

// because returns a context for requests with a reason.
func because(ctx context.Context, why string) context.Context {
	return context.WithValue(ctx, whyKey{}, why)
}

// rehearsalKey marks the contexts of requests that are told and not sent.
type rehearsalKey struct{}

// errRehearsed is the answer to a request that was not sent.
var errRehearsed = errors.New("rehearsed only")

// tracer tells of each request that goes through a transport.
type tracer struct {
	next http.RoundTripper
	tell func(Exchange)
}

// traced returns the transport, traced if there is somebody to tell.
func traced(next http.RoundTripper, tell func(Exchange)) http.RoundTripper {
	if tell == nil {
		return next
	}
	return &tracer{next: next, tell: tell}
}

// RoundTrip sends one request, or rehearses it.
func (t *tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	e := Exchange{Method: req.Method, URL: harmlessURL(req), Header: harmlessHeader(req.Header), Redirected: req.Response != nil}
	e.Why, _ = req.Context().Value(whyKey{}).(string)
	e.User, _, _ = req.BasicAuth()
	// Nothing else has a service and is not below the registry's root.
	e.Token = req.URL.Query().Has("service") || req.Method == http.MethodPost && req.Header.Get("Content-Type") == formType
	if e.Token {
		e.Form = harmlessForm(req)
	}
	if req.Context().Value(rehearsalKey{}) != nil {
		e.Rehearsed = true
		t.tell(e)
		return nil, errRehearsed
	}
	begun := time.Now()
	resp, err := t.next.RoundTrip(req)
	e.Took, e.Err = time.Since(begun), err
	if resp != nil {
		e.Status, e.Challenge = resp.StatusCode, resp.Header.Get("WWW-Authenticate")
		e.Limits = rateLimits(resp.Header)
	}
	t.tell(e)
	return resp, err
}

// formType is the media type of a form.
const formType = "application/x-www-form-urlencoded"

// harmlessURL returns the URL of a request. One that a redirect or an upload made has a
// signature in its query that opens what it leads to.
func harmlessURL(req *http.Request) string {
	u := *req.URL
	u.User = nil
	if req.Response != nil || req.Method == http.MethodPut || req.Method == http.MethodPatch {
		var kept []string
		for key, values := range u.Query() {
			if key == "digest" {
				kept = append(kept, "digest="+values[0])
			} else {
				kept = append(kept, key+"=...")
			}
		}
		u.RawQuery = strings.Join(kept, "&")
	}
	return u.String()
}

// harmlessHeader returns headers without what proves who we are.
func harmlessHeader(h http.Header) http.Header {
	h = h.Clone()
	if value := h.Get("Authorization"); value != "" {
		scheme, _, _ := strings.Cut(value, " ")
		h.Set("Authorization", scheme)
	}
	for _, key := range []string{"Cookie", "Proxy-Authorization"} {
		if h.Get(key) != "" {
			h.Set(key, "...")
		}
	}
	return h
}

// harmlessForm returns what a form holds, without secrets.
func harmlessForm(req *http.Request) url.Values {
	if req.GetBody == nil {
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil
	}
	defer body.Close()
	data, err := readDocument(body, maxTokenSize)
	if err != nil {
		return nil
	}
	form, err := url.ParseQuery(string(data))
	if err != nil {
		return nil
	}
	for _, secret := range []string{"password", "refresh_token"} {
		if form.Has(secret) {
			form.Set(secret, "...")
		}
	}
	return form
}
