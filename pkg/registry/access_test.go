package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit/fakeregistry"
	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry/hosts"
)

// configured reads a registries.toml.
func configured(t *testing.T, text string) *hosts.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "registries.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := hosts.Load(hosts.Options{Own: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mirrored has a registry in front of that of the scene.
func (s *scene) mirrored(t *testing.T, mirror *fakeregistry.Registry) PullRequest {
	t.Helper()
	r := s.request(t)
	r.Hosts = configured(t, fmt.Sprintf("[[registry]]\nprefix = %q\n[[registry.mirror]]\nlocation = %q\n", s.Host(), mirror.Host()+"/hub"))
	return r
}

func TestMirrorServes(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	mirror := fakeregistry.New(t, fakeregistry.Options{})
	mirror.Push("hub/library/app", "1", s.image)
	img := s.mustPull(t, s.mirrored(t, mirror))
	if want := s.Host() + "/library/app:1"; img.Name != want {
		t.Errorf("called %s, want %s", img.Name, want)
	}
	if n := len(s.Requests("/v2/")); n > 0 {
		t.Errorf("the registry itself was asked %d times", n)
	}
}

// Whatever is wrong with a mirror, the registry itself serves.
func TestMirrorsFallThrough(t *testing.T) {
	layer := func(s *scene) string { return s.image.Layers[1].Digest.String() }
	for name, fault := range map[string]func(*scene) fakeregistry.Fault{
		"empty":        nil,
		"refuses":      func(*scene) fakeregistry.Fault { return fakeregistry.Fault{Path: "/v2/", Status: 403} },
		"broken":       func(*scene) fakeregistry.Fault { return fakeregistry.Fault{Path: "/v2/", Status: 500} },
		"no layer":     func(s *scene) fakeregistry.Fault { return fakeregistry.Fault{Path: layer(s), Status: 404} },
		"half a layer": func(s *scene) fakeregistry.Fault { return fakeregistry.Fault{Path: layer(s), BreakAfter: 100_000} },
		"wrong length": func(s *scene) fakeregistry.Fault { return fakeregistry.Fault{Path: layer(s), Body: []byte("no")} },
		"another manifest": func(*scene) fakeregistry.Fault {
			return fakeregistry.Fault{Path: "/manifests/", Body: []byte(`{"schemaVersion":2}`)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, fakeregistry.Options{})
			mirror := fakeregistry.New(t, fakeregistry.Options{})
			if fault != nil {
				mirror.Push("hub/library/app", "1", s.image)
				mirror.Fail(fault(s))
			}
			r := s.mirrored(t, mirror)
			r.Layer = readLayer
			s.mustPull(t, r)
		})
	}
}

// A mirror that sends other bytes of the right length is found out at the end of the blob,
// when all of it is asked of the registry.
func TestLyingMirrorIsFoundOut(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	mirror := fakeregistry.New(t, fakeregistry.Options{})
	mirror.Push("hub/library/app", "1", s.image)
	wrong := bytes.Clone(s.image.Layers[1].Data)
	wrong[len(wrong)-20] ^= 1
	mirror.Fail(fakeregistry.Fault{Path: s.image.Layers[1].Digest.String(), Body: wrong})
	s.mustPull(t, s.mirrored(t, mirror))
}

func TestErrorsTellOfMirrorsToo(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	mirror := fakeregistry.New(t, fakeregistry.Options{})
	r := s.mirrored(t, mirror)
	r.Ref.Path = "library/none"
	_, err := Pull(t.Context(), r)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "(its mirrors: registry "+mirror.Host()) {
		t.Errorf("got %v", err)
	}
}

// A push goes to the registry itself, never to a mirror of it.
func TestPushPassesMirrorsBy(t *testing.T) {
	d := newDelivery(t, fakeregistry.Options{})
	mirror := fakeregistry.New(t, fakeregistry.Options{})
	r := d.push(t)
	r.Hosts = configured(t, fmt.Sprintf("[[registry]]\nprefix = %q\n[[registry.mirror]]\nlocation = %q\n", d.to.Host(), mirror.Host()))
	d.mustPush(t, r)
	if n := len(mirror.Requests("/")); n > 0 {
		t.Errorf("the mirror was asked %d times", n)
	}
	if _, ok := d.to.Manifest("team/app", "2"); !ok {
		t.Error("it did not arrive")
	}
}

func TestBlockedRegistryIsNotAsked(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	r := s.request(t)
	r.Hosts = configured(t, fmt.Sprintf("[[registry]]\nprefix = %q\nblocked = true\n", s.Host()+"/library"))
	_, err := Pull(t.Context(), r)
	if blocked := new(hosts.BlockedError); !errors.As(err, &blocked) {
		t.Errorf("got %v", err)
	}
	if n := len(s.Requests("/")); n > 0 {
		t.Errorf("asked %d times", n)
	}
}

func TestOfflineAsksNobody(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	r := s.request(t)
	r.Offline = true
	_, err := Pull(t.Context(), r)
	want := fmt.Sprintf("pull %s/library/app:1: registry %[1]s: manifest library/app:1: not asked, as we are offline", s.Host())
	if !errors.Is(err, ErrOffline) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if n := len(s.Requests("/")); n > 0 {
		t.Errorf("asked %d times", n)
	}
}

// What was fetched before a process died, or was told to end, is not fetched again.
func TestPullGoesOnInAnotherProcess(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	layer := s.image.Layers[1]
	s.Fail(fakeregistry.Fault{Path: layer.Digest.String(), Times: 1, BreakAfter: 100_000})
	s.Fail(fakeregistry.Fault{Path: layer.Digest.String(), Times: 1, Stall: true})
	ctx, cancel := context.WithCancel(t.Context())
	r := s.request(t)
	r.Layer = func(ctx context.Context, l image.Layer, stream io.Reader) error {
		if l.Descriptor.Digest == layer.Digest { // the second request stalls at two thirds
			if _, err := io.CopyN(io.Discard, stream, 150_000); err != nil {
				return err
			}
			cancel()
		}
		return readLayer(ctx, l, stream)
	}
	if _, err := Pull(ctx, r); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	before := len(s.Requests(layer.Digest.String()))
	r.Layer = readLayer
	s.mustPull(t, r)
	requests := s.Requests(layer.Digest.String())[before:]
	if len(requests) != 1 || requests[0].Range == "" || requests[0].Range == "bytes=0-" {
		t.Errorf("fetched by %+v", requests)
	}
}

// What another process left may be damaged. Then all of the blob is fetched again.
func TestDamagedPartIsFetchedAgain(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	layer := s.image.Layers[1]
	part := bytes.Repeat([]byte("x"), 1000)
	path := filepath.Join(s.dir, "ingest", "sha256-"+layer.Digest.Encoded())
	if err := os.WriteFile(path, part, 0o644); err != nil {
		t.Fatal(err)
	}
	r := s.request(t)
	r.Layer = func(_ context.Context, _ image.Layer, stream io.Reader) error {
		_, err := io.Copy(io.Discard, stream)
		return err
	}
	s.mustPull(t, r)
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, dir: t.TempDir()}
}

// pair writes a client's certificate and key, and returns their files.
func (a *authority) pair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "me"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return a.file(t, "me.pem", "CERTIFICATE", der), a.file(t, "me.key", "EC PRIVATE KEY", encoded)
}

func (a *authority) file(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// demanding is a server that wants client certificates, and counts who shows one.
func demanding(t *testing.T, a *authority, want tls.ClientAuthType, handler http.Handler) (server *httptest.Server, shown *atomic.Int32) {
	t.Helper()
	shown = &atomic.Int32{}
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if len(req.TLS.PeerCertificates) > 0 {
			shown.Add(1)
		}
		handler.ServeHTTP(w, req)
	}))
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	server.TLS = &tls.Config{ClientAuth: want, ClientCAs: pool}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, shown
}

// The certificates of the configuration open a registry that wants them, and stay with
// it: a redirect takes neither them nor the configured headers elsewhere.
func TestClientCertificateStaysWithItsRegistry(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.pair(t)
	img := testimage.Build(testimage.Options{})
	blobs := map[string][]byte{}
	for _, b := range append(img.Blobs(), img.Manifest) {
		blobs[b.Digest.String()] = b.Data
	}
	send := func(w http.ResponseWriter, req *http.Request) {
		w.Write(blobs[req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]])
	}
	store, shownToStore := demanding(t, a, tls.RequestClientCert, http.HandlerFunc(send))
	server, shown := demanding(t, a, tls.RequireAndVerifyClientCert, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.URL.Path, "/blobs/") {
			http.Redirect(w, req, store.URL+req.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("Content-Type", img.Manifest.MediaType)
		w.Write(img.Manifest.Data)
	}))
	ca := a.file(t, "server.pem", "CERTIFICATE", server.Certificate().Raw) // httptest's is its own authority
	host := server.Listener.Addr().String()
	pullBy := func(t *testing.T, access Access) error {
		images, err := image.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		ref, err := image.ParseReference(host + "/team/app:1")
		if err != nil {
			t.Fatal(err)
		}
		access.Retry = quick
		_, err = Pull(t.Context(), PullRequest{Ref: ref, Store: images, Platform: amd64, Access: access})
		return err
	}
	pull := func(t *testing.T, config string) error {
		return pullBy(t, Access{Hosts: configured(t, config)})
	}
	entry := fmt.Sprintf("[[registry]]\nprefix = %q\n", host)
	if err := pull(t, entry+fmt.Sprintf("ca = %q\nclient-cert = %q\nclient-key = %q\n", ca, cert, key)); err != nil {
		t.Fatal(err)
	}
	if shown.Load() == 0 || shownToStore.Load() > 0 {
		t.Errorf("the certificate was shown %d times to the registry, %d times to another host", shown.Load(), shownToStore.Load())
	}
	if err := pull(t, entry+fmt.Sprintf("ca = %q\n", ca)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("without a client certificate: %v", err)
	}
	if err := pull(t, entry+fmt.Sprintf("client-cert = %q\nclient-key = %q\n", cert, key)); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: %v", err)
	}
	if err := pull(t, entry+`ca = "/nonexistent"`); !errors.Is(err, hosts.ErrConfig) {
		t.Errorf("a file that is not there: %v", err)
	}

	// Docker's way, in which the names of directory and files say it all, and a directory that was named for one pull.
	certs := t.TempDir()
	dir := filepath.Join(certs, host)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{ca: "ca.crt", cert: "me.cert", key: "me.key"} {
		if err := os.Link(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	usual, err := hosts.Load(hosts.Options{Dirs: []string{certs}})
	if err != nil {
		t.Fatal(err)
	}
	before := shown.Load()
	if err := pullBy(t, Access{Hosts: usual}); err != nil || shown.Load() == before {
		t.Errorf("certs.d: %v, the certificate was shown %d times", err, shown.Load()-before)
	}
	before = shown.Load()
	if err := pullBy(t, Access{CertDir: dir}); err != nil || shown.Load() == before {
		t.Errorf("a directory of certificates: %v, the certificate was shown %d times", err, shown.Load()-before)
	}
	if err := os.Remove(filepath.Join(dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if err := pullBy(t, Access{Hosts: usual}); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("certs.d without the authority: %v", err)
	}
	if shownToStore.Load() > 0 {
		t.Errorf("the certificate was shown %d times to another host", shownToStore.Load())
	}
}

func TestInsecureAllowsAnyCertificate(t *testing.T) {
	s := newScene(t, fakeregistry.Options{TLS: true})
	r := s.request(t)
	r.Insecure = true
	s.mustPull(t, r)
	r = s.request(t)
	r.Hosts = configured(t, fmt.Sprintf("[[registry]]\nprefix = %q\ninsecure = true\n", s.Host()))
	s.mustPull(t, r)
}

func TestTraceTellsNoSecrets(t *testing.T) {
	s := newScene(t, fakeregistry.Options{Token: true, Username: "u", Password: "secret"})
	var told []string
	r := s.request(t)
	r.Concurrency = 1
	r.Credential = &Credential{Username: "u", Password: "secret"}
	r.Trace = func(e Exchange) { told = append(told, fmt.Sprintf("%s %s %v %d", e.Method, e.URL, e.Header, e.Status)) }
	s.mustPull(t, r)
	all := strings.Join(told, "\n")
	if !strings.Contains(all, "GET "+s.URL()+"/v2/library/app/manifests/1") || !strings.Contains(all, "/token?") || !strings.Contains(all, "Authorization:[Bearer]") {
		t.Errorf("told\n%s", all)
	}
	if strings.Contains(all, "secret") || strings.Contains(all, "fake-token") {
		t.Errorf("secrets in\n%s", all)
	}
}

func TestLogin(t *testing.T) {
	for name, c := range map[string]struct {
		options fakeregistry.Options
		cred    Credential
		want    Credential
		checked bool
		err     error
	}{
		"basic":          {fakeregistry.Options{Basic: true, Username: "u", Password: "p"}, Credential{Username: "u", Password: "p"}, Credential{Username: "u", Password: "p"}, true, nil},
		"token":          {fakeregistry.Options{Token: true, Username: "u", Password: "p"}, Credential{Username: "u", Password: "p"}, Credential{Username: "u", Password: "p"}, true, nil},
		"identity token": {fakeregistry.Options{Token: true, Username: "u", Password: "p", IdentityToken: "refresh"}, Credential{Username: "u", Password: "p"}, Credential{Username: "u", IdentityToken: "refresh"}, true, nil},
		"wrong basic":    {fakeregistry.Options{Basic: true, Username: "u", Password: "p"}, Credential{Username: "u", Password: "secret"}, Credential{}, true, ErrUnauthorized},
		"wrong token":    {fakeregistry.Options{Token: true, Username: "u", Password: "p"}, Credential{Username: "u", Password: "secret"}, Credential{}, true, ErrUnauthorized},
		"open":           {fakeregistry.Options{}, Credential{Username: "u", Password: "p"}, Credential{Username: "u", Password: "p"}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, c.options)
			got, err := Login(t.Context(), Access{Retry: quick, Credential: &c.cred}, s.Host())
			if !errors.Is(err, c.err) || err != nil && strings.Contains(err.Error(), "secret") {
				t.Fatalf("got %v", err)
			}
			if err == nil && (got.Credential != c.want || got.Checked != c.checked) {
				t.Errorf("got %#v, checked %v", got.Credential, got.Checked)
			}
		})
	}
}

// An identity token opens the registry in the place of a password.
func TestIdentityTokenIsUsed(t *testing.T) {
	s := newScene(t, fakeregistry.Options{Token: true, Username: "u", Password: "p", IdentityToken: "refresh"})
	r := s.request(t)
	r.Credential = &Credential{Username: "u", IdentityToken: "refresh"}
	s.mustPull(t, r)
	r.Credential = &Credential{Username: "u", IdentityToken: "stale-secret"}
	if _, err := Pull(t.Context(), r); !errors.Is(err, ErrUnauthorized) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestParseHost(t *testing.T) {
	for s, want := range map[string]string{
		"": "docker.io", "docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io", "registry.example": "registry.example",
		"https://registry.example/": "registry.example", "localhost:5000": "localhost:5000", "http://127.0.0.1:5000/v2/": "127.0.0.1:5000",
	} {
		if got, err := ParseHost(s); err != nil || got != want {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"registry.example/team", "a b", "-x.example", "ftp://a.example", "example:port"} {
		if got, err := ParseHost(s); !errors.Is(err, image.ErrReference) {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}

func TestListsComeInPages(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	for _, tag := range []string{"2", "3", "4", "5"} {
		s.Push("library/app", tag, s.image)
	}
	s.Push("other/tool", "1", s.image)
	ref := s.request(t).Ref
	for limit, want := range map[int]string{0: "[1 2 3 4 5]", 3: "[1 2 3]", 9: "[1 2 3 4 5]"} {
		tags, err := Tags(t.Context(), Access{Retry: quick}, ref, limit)
		if err != nil || fmt.Sprint(tags) != want {
			t.Errorf("limit %d: %v, %v", limit, tags, err)
		}
	}
	for term, want := range map[string]int{"": 2, "app": 1, "nothing": 0} {
		found, err := Search(t.Context(), SearchRequest{Access: Access{Retry: quick}, Domain: s.Host(), Term: term, Limit: 10})
		if err != nil || len(found) != want {
			t.Errorf("%q: %v, %v", term, found, err)
		}
	}
	s.Fail(fakeregistry.Fault{Path: "/tags/list", Body: []byte(`{"tags":["evil\u001b[2J"]}`)})
	if _, err := Tags(t.Context(), Access{Retry: quick}, ref, 0); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("a tag that is none: %v", err)
	}
}

// The next page must be on the same host: a list is no way to be sent elsewhere.
func TestPageElsewhereIsRefused(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	s.Fail(fakeregistry.Fault{Path: "/tags/list", Body: []byte(`{"tags":["1"]}`), Header: map[string]string{"Link": `<http://169.254.169.254/x>; rel="next"`}})
	if _, err := Tags(t.Context(), Access{Retry: quick}, s.request(t).Ref, 0); !errors.Is(err, ErrFailed) {
		t.Errorf("got %v", err)
	}
}

// The search of Docker Hub's kind.
func TestSearchIndex(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/v1/search" || req.URL.Query().Get("q") != "deb ian" || req.URL.Query().Get("n") != "2" {
			t.Errorf("asked %s", req.URL)
		}
		fmt.Fprint(w, `{"results":[{"name":"debian","description":"d\u001bx","star_count":7,"is_official":true},{"name":"x/y"},{"name":"too/much"}]}`)
	}))
	defer server.Close()
	host := server.Listener.Addr().String()
	found, err := Search(t.Context(), SearchRequest{Domain: host, Term: "deb ian", Limit: 2})
	if err != nil || len(found) != 2 || found[0] != (Found{Name: host + "/debian", Description: "dx", Stars: 7, Official: true}) {
		t.Errorf("%+v, %v", found, err)
	}
}
