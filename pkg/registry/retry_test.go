package registry

import (
	"crypto/tls"
	"net/http"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit/fakeregistry"
	"net"
	"syscall"
)

func clientTLS(s *scene) *tls.Config { return &tls.Config{RootCAs: s.Certificates()} }

func TestRetryAfter(t *testing.T) {
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "nonsense": 0, "-5": 0, "7": 7 * time.Second, "99999999999": 61 * time.Second,
		"Mon, 01 Jan 2024 00:00:30 GMT": 30 * time.Second, "Sun, 31 Dec 2023 00:00:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	c := client{retry: Retry{}.orDefault()}
	for failures, least := range map[int]time.Duration{1: 500 * time.Millisecond, 2: time.Second, 4: 4 * time.Second, 20: longestPause, 1000: longestPause} {
		if got := c.backoff(failures); got < least || got > least*5/4 {
			t.Errorf("after %d failures: %v, want %v or up to a quarter more", failures, got, least)
		}
	}
}

// A registry that breaks connections for ever is given up, one that makes
// progress in between is not.
func TestAttemptsCountWithoutProgressOnly(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	path := s.image.Layers[1].Digest.String()
	s.Fail(fakeregistry.Fault{Path: path, BreakAfter: 1})
	if _, err := Pull(t.Context(), s.request(t)); err == nil {
		t.Error("pulled a byte at a time")
	}
	if n := len(s.Requests(path)); n != quick.Attempts {
		t.Errorf("%d requests, want %d", n, quick.Attempts)
	}
}

func TestMisplacedRangeIsRefused(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	path := s.image.Layers[1].Digest.String()
	s.Fail(fakeregistry.Fault{Path: path, Times: 1, BreakAfter: 1000})
	s.Fail(fakeregistry.Fault{Path: path, Redirect: s.URL() + "/misplaced"})
	s.Fail(fakeregistry.Fault{Path: "/misplaced", Status: http.StatusPartialContent, Header: map[string]string{"Content-Range": "bytes 0-9/10"}})
	_, err := Pull(t.Context(), s.request(t))
	want := "pull " + s.Host() + "/library/app:1: registry " + s.Host() + ": blob " + path + `: registry failed: asked for bytes from 1000 on, got Content-Range "bytes 0-9/10"`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// A machine without a network, and a name that does not exist, are not tried again; a name server that is busy is.
func TestNamesThatCannotBeAskedFor(t *testing.T) {
	offline := &net.DNSError{Err: "dial udp 192.0.2.1:53: connect: " + syscall.ENETUNREACH.Error(), Name: "registry.example", IsTemporary: true}
	unknown := &net.DNSError{Err: "no such host", Name: "registry.example", IsNotFound: true}
	busy := &net.DNSError{Err: "server misbehaving", Name: "registry.example", IsTemporary: true}
	for err, want := range map[*net.DNSError]bool{offline: false, unknown: false, busy: true} {
		if got := retryTransport(&net.OpError{Op: "dial", Net: "tcp", Err: err}); got != want {
			t.Errorf("%v: tried again: %v, want %v", err, got, want)
		}
	}
}
