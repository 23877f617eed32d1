package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"github.com/containr/containr/pkg/registry/hosts"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containr/containr/internal/testkit/fakeregistry"
	"github.com/containr/containr/pkg/image"
)

// dockerLogin writes what docker login leaves, and makes it the configuration in
// force.
func dockerLogin(t *testing.T, content string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
}

func loginFor(host, user, password string) string {
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func TestChallengesAreAnswered(t *testing.T) {
	for name, o := range map[string]fakeregistry.Options{
		"anonymous token": {Token: true},
		"user's token":    {Token: true, Username: "u", Password: "secret"},
		"basic":           {Basic: true, Username: "u", Password: "secret"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, o)
			dockerLogin(t, loginFor(s.Host(), "u", "secret"))
			s.mustPull(t, s.request(t))
			if n := len(s.Requests("/token")); o.Token && n != 1 {
				t.Errorf("%d requests for a token", n)
			}
			refused := 0
			for _, r := range s.Requests("/v2/") {
				if !r.Authorized {
					refused++
				}
			}
			if refused != 1 {
				t.Errorf("%d requests without authorization, want the first one only", refused)
			}
			again := newScene(t, o) // without docker login
			r := again.request(t)
			r.Credential = &Credential{Username: "u", Password: "secret"}
			again.mustPull(t, r)
		})
	}
}

func TestCredentialHelper(t *testing.T) {
	s := newScene(t, fakeregistry.Options{Basic: true, Username: "u", Password: "from helper"})
	dir := t.TempDir()
	script := "#!/bin/sh\nread host\necho \"{\\\"ServerURL\\\":\\\"$host\\\",\\\"Username\\\":\\\"u\\\",\\\"Secret\\\":\\\"from helper\\\"}\"\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	dockerLogin(t, fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, s.Host()))
	s.mustPull(t, s.request(t))
	again := newScene(t, fakeregistry.Options{Basic: true, Username: "u", Password: "p"})
	dockerLogin(t, `{"credsStore":"missing-program"}`)
	if _, err := Pull(t.Context(), again.request(t)); !errors.Is(err, ErrCredentials) {
		t.Errorf("missing helper: %v", err)
	}
}

func TestWrongCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		options fakeregistry.Options
		login   string // user:password
		text    string
	}{
		"no login":       {fakeregistry.Options{Basic: true, Username: "u", Password: "p"}, "", "access denied: the registry wants a user name and password; there are none for it"},
		"wrong password": {fakeregistry.Options{Basic: true, Username: "u", Password: "p"}, "wrong-secret", "access denied: 401 Unauthorized: UNAUTHORIZED authentication required"},
		"wrong token":    {fakeregistry.Options{Token: true, Username: "u", Password: "p"}, "wrong-secret", "access denied: token service: 401 Unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, c.options)
			if c.login != "" {
				dockerLogin(t, loginFor(s.Host(), "u", c.login))
			}
			_, err := Pull(t.Context(), s.request(t))
			want := fmt.Sprintf("pull %s/library/app:1: registry %[1]s: manifest library/app:1: %s", s.Host(), c.text)
			if !errors.Is(err, ErrUnauthorized) || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
			s.expectEmpty(t)
		})
	}
}

func TestBrokenLoginFileIsNamed(t *testing.T) {
	s := newScene(t, fakeregistry.Options{Basic: true, Username: "u", Password: "p"})
	dockerLogin(t, "{ secret")
	_, err := Pull(t.Context(), s.request(t))
	if !errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), "config.json") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestBusyTokenServiceIsAskedAgain(t *testing.T) {
	s := newScene(t, fakeregistry.Options{Token: true})
	s.Fail(fakeregistry.Fault{Path: "/token", Times: 1, Status: http.StatusTooManyRequests})
	s.mustPull(t, s.request(t))
}

func TestCredentialIsNotPrinted(t *testing.T) {
	c := Credential{Username: "u", Password: "secret", IdentityToken: "secret"}
	r := PullRequest{Access: Access{Credential: &c}}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%+v", &c), fmt.Sprintf("%+v", r)} {
		if strings.Contains(text, "secret") {
			t.Errorf("printed %s", text)
		}
	}
}

// other is a server that blobs are redirected to. It counts what it must not see.
func other(t *testing.T, answer http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var authorized atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "" {
			authorized.Add(1)
		}
		answer(w, req)
	}))
	t.Cleanup(server.Close)
	return server, &authorized
}

func TestRedirectsLeaveCredentialsBehind(t *testing.T) {
	for name, o := range map[string]fakeregistry.Options{
		"token": {Token: true, Username: "u", Password: "p"}, "basic": {Basic: true, Username: "u", Password: "p"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, o)
			blobs := map[string][]byte{}
			for _, b := range s.image.Blobs() {
				blobs[b.Digest.String()] = b.Data
			}
			cdn, authorized := other(t, func(w http.ResponseWriter, req *http.Request) {
				w.Write(blobs[req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]])
			})
			s.Fail(fakeregistry.Fault{Path: "/blobs/", Redirect: cdn.URL + "%s"})
			dockerLogin(t, loginFor(s.Host(), "u", "p"))
			s.mustPull(t, s.request(t))
			if n := authorized.Load(); n > 0 {
				t.Errorf("%d requests took credentials to another host", n)
			}
		})
	}
}

// A host that a registry redirects to cannot ask for the registry's password.
func TestChallengeAfterRedirectIsNotAnswered(t *testing.T) {
	s := newScene(t, fakeregistry.Options{Token: true, Username: "u", Password: "p"})
	var asked atomic.Int32
	thief, authorized := other(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/steal" {
			asked.Add(1)
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/steal",service="x"`, req.Host))
		w.WriteHeader(http.StatusUnauthorized)
	})
	s.Fail(fakeregistry.Fault{Path: "/blobs/", Redirect: thief.URL + "%s?signature=secret"})
	dockerLogin(t, loginFor(s.Host(), "u", "p"))
	_, err := Pull(t.Context(), s.request(t))
	if !errors.Is(err, ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	if authorized.Load()+asked.Load() > 0 {
		t.Error("the other host got or was asked for credentials")
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the signature of the URL: %v", err)
	}
}

func TestRedirectToWeakerProtocolIsRefused(t *testing.T) {
	s := newScene(t, fakeregistry.Options{TLS: true})
	plain, _ := other(t, func(w http.ResponseWriter, req *http.Request) {})
	s.Fail(fakeregistry.Fault{Path: "/blobs/", Redirect: plain.URL + "%s"})
	r := s.request(t)
	r.TLS = clientTLS(s)
	_, err := Pull(t.Context(), r)
	want := fmt.Sprintf("pull %s/library/app:1: registry %[1]s: blob %s: bad redirect: from https to http", s.Host(), s.image.Config.Digest)
	if !errors.Is(err, ErrRedirect) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// What a server says must not drive the terminal.
func TestServerTextIsMadePrintable(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	evil, _ := other(t, func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"\u001b[2J%s\u0007"}]}`, strings.Repeat("x", 1000))
	})
	s.Fail(fakeregistry.Fault{Path: "/manifests/", Redirect: evil.URL})
	_, err := Pull(t.Context(), s.request(t))
	if !errors.Is(err, ErrUnauthorized) || strings.ContainsAny(err.Error(), "\x1b\x07") || len(err.Error()) > 600 {
		t.Errorf("got %q", err)
	}
	s.expectEmpty(t)
}

func TestDockerHubIsReachedByItsOtherName(t *testing.T) {
	ref, err := image.ParseReference("debian")
	if err != nil {
		t.Fatal(err)
	}
	clients, err := (&Access{}).pullClients(ref, 1)
	if err != nil || len(clients) != 1 || clients[0].registry != "registry-1.docker.io" || clients[0].repository != "library/debian" {
		t.Errorf("clients %v, %v", clients, err)
	}
}

// A registry that speaks HTTPS does not get the password sent to its token service without.
func TestTokenServiceWithoutTLSGetsNothing(t *testing.T) {
	plain, authorized := other(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, `{"token":"x"}`) })
	registry := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+plain.URL+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(registry.Close)
	host := strings.TrimPrefix(registry.URL, "https://")
	a := Access{TLS: registry.Client().Transport.(*http.Transport).TLSClientConfig, Retry: quick, Credential: &Credential{Username: "u", Password: "p"}}
	_, err := Login(t.Context(), a, host)
	if err == nil {
		t.Error("the login succeeded")
	}
	if n := authorized.Load(); n > 0 {
		t.Errorf("%d requests took the password in plain", n)
	}
}

// The credential that a caller gives is for the registry of the name: a mirror of it that asks gets none.
func TestGivenCredentialIsNotForMirrors(t *testing.T) {
	s := newScene(t, fakeregistry.Options{Basic: true, Username: "u", Password: "p"})
	mirror, authorized := other(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	file := filepath.Join(t.TempDir(), "registries.toml")
	text := fmt.Sprintf("[[registry]]\nprefix = %q\n[[registry.mirror]]\nlocation = %q\n", s.Host(), strings.TrimPrefix(mirror.URL, "http://"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.request(t)
	var err error
	if r.Hosts, err = hosts.Load(hosts.Options{Own: []string{file}}); err != nil {
		t.Fatal(err)
	}
	r.Credential = &Credential{Username: "u", Password: "p"}
	s.mustPull(t, r)
	if n := authorized.Load(); n > 0 {
		t.Errorf("%d requests brought the mirror the registry's password", n)
	}
}
