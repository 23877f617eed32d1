package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/fakeregistry"
)

// A registry of a private network may have its token service on another host of it.
func TestTokenServiceMayBeANeighbour(t *testing.T) {
	s := newScene(t, fakeregistry.Options{Token: true, Username: "u", Password: "secret", TokenHost: "localhost"})
	r := s.request(t)
	r.Credential = &Credential{Username: "u", Password: "secret"}
	var asked []string
	r.Concurrency = 1
	r.Trace = func(e Exchange) {
		if e.Token {
			asked = append(asked, e.URL)
		}
	}
	s.mustPull(t, r)
	if len(asked) != 1 || !strings.HasPrefix(asked[0], "http://localhost:") || strings.Contains(asked[0], realmPath) {
		t.Errorf("asked for tokens at %v", asked)
	}
	got, err := Login(t.Context(), Access{Retry: quick, Credential: r.Credential}, s.Host())
	if err != nil || !got.Checked {
		t.Errorf("login: %v", err)
	}
	if n := len(s.Requests(realmPath)); n > 0 {
		t.Errorf("the registry was asked %d times for what only stands for its realm", n)
	}
}

// Where clouds keep their secrets nobody is asked for a token, whoever says so.
func TestTokenServiceIsNoWayIntoTheNetwork(t *testing.T) {
	for _, realm := range []string{"http://169.254.169.254/latest", "http://10.1.2.3/token", "http://100.100.100.200/", "http://[fe80::1]/token", "file:///etc/passwd"} {
		s := newScene(t, fakeregistry.Options{})
		s.Fail(fakeregistry.Fault{Path: "/v2/", Status: http.StatusUnauthorized, Header: map[string]string{"WWW-Authenticate": fmt.Sprintf(`Bearer realm=%q,service="x"`, realm)}})
		r := s.request(t)
		r.Credential = &Credential{Username: "u", Password: "secret"}
		r.Trace = func(e Exchange) {
			if !strings.Contains(e.URL, s.Host()) {
				t.Errorf("%s: asked %s", realm, e.URL)
			}
		}
		_, err := Pull(t.Context(), r)
		if e := new(Error); !errors.As(err, &e) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", realm, err)
		}
	}
}

func TestNeighbours(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{"127.0.0.1", "localhost"}: true, {"10.0.0.1", "192.168.7.7"}: true, {"10.0.0.1", "fd00::1"}: true,
		{"10.0.0.1", "127.0.0.1"}: false, {"127.0.0.1", "10.0.0.1"}: false, {"8.8.8.8", "10.0.0.1"}: false, {"10.0.0.1", "8.8.8.8"}: false,
		{"10.0.0.1", "169.254.169.254"}: false, {"169.254.1.1", "169.254.169.254"}: false, {"10.0.0.1", "100.100.100.200"}: false, {"::1", "127.0.0.1"}: true,
	} {
		if got := neighbours(t.Context(), pair[0], pair[1]); got != want {
			t.Errorf("%v: %v", pair, got)
		}
	}
}
