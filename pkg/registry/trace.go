package registry

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Exchange is one request over the network and what came of it. Secrets are not in it.
type Exchange struct {
	Method string
	URL    string      // the values of a redirect's query are left out: they are a password
	Header http.Header // Authorization holds the scheme alone
	Status int         // zero if there was no answer
	Took   time.Duration
	Err    error
}

// traced tells of each request that goes through a transport.
func traced(next http.RoundTripper, tell func(Exchange)) http.RoundTripper {
	if tell == nil {
		return next
	}
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		begun := time.Now()
		resp, err := next.RoundTrip(req)
		e := Exchange{Method: req.Method, URL: harmlessURL(req), Header: harmlessHeader(req.Header), Took: time.Since(begun), Err: err}
		if resp != nil {
			e.Status = resp.StatusCode
		}
		tell(e)
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// harmlessURL returns the URL of a request. One that a redirect or an upload made has a
// signature in its query that opens what it leads to.
func harmlessURL(req *http.Request) string {
	u := *req.URL
	u.User = nil
	if req.Response != nil || req.Method == http.MethodPut || req.Method == http.MethodPatch {
		q := u.Query()
		for key := range q {
			if key != "digest" {
				q.Set(key, "...")
			}
		}
		u.RawQuery, _ = url.QueryUnescape(q.Encode())
	}
	return u.String()
}

// harmlessHeader returns headers without what proves who we are.
func harmlessHeader(h http.Header) http.Header {
	h = h.Clone()
	for _, key := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
		if value := h.Get(key); value != "" {
			scheme, _, _ := strings.Cut(value, " ")
			if key != "Authorization" {
				scheme = "..."
			}
			h.Set(key, scheme)
		}
	}
	return h
}
