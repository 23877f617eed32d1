package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// Credential is what a user proves to be by. It is never printed.
type Credential struct {
	Username, Password string
	// IdentityToken is a refresh token (OAuth 2) that some registries hand out in
	// place of a password.
	IdentityToken string
}

// String hides the secret.
func (c Credential) String() string { return c.Username + ":***" }

// GoString hides the secret from %#v too.
func (c Credential) GoString() string { return c.String() }

// client speaks with one repository of one registry.
type client struct {
	registry   string // host[:port] to connect to
	repository string
	plain      atomic.Bool // speak HTTP
	auth       *auth.Client
	transport  *http.Transport
	retry      Retry
}

// Bounds on connections.
const (
	dialTimeout    = 30 * time.Second
	headerTimeout  = 60 * time.Second // from the request to the first line of the answer
	maxHeaderBytes = 1 << 20
	maxRedirects   = 10
)

// userAgent is what registries see in their logs.
const userAgent = "containr"

// newClient makes the client for a pull. It does not connect.
func newClient(r *PullRequest) *client {
	c := &client{registry: endpoint(r.Ref.Domain), repository: r.Ref.Path, retry: r.Retry.orDefault()}
	c.plain.Store(r.PlainHTTP)
	c.transport = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        r.TLS,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConnsPerHost:    r.concurrency(),
		IdleConnTimeout:        dialTimeout,
		// A blob is stored as it is sent: its digest is of the compressed bytes.
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
	}
	c.auth = &auth.Client{
		Client:     &http.Client{Transport: c.transport, CheckRedirect: checkRedirect},
		Header:     http.Header{"User-Agent": {userAgent}},
		Cache:      auth.NewCache(),
		ClientID:   userAgent,
		Credential: credentialFunc(r.Credential, r.Ref.Domain),
	}
	return c
}

// close drops idle connections.
func (c *client) close() { c.transport.CloseIdleConnections() }

// endpoint returns where the registry of a domain answers.
func endpoint(domain string) string {
	if domain == "docker.io" {
		return "registry-1.docker.io"
	}
	return domain
}

// checkRedirect follows redirects within bounds and never to a weaker protocol.
// That credentials stay behind when the host changes is the auth client's work.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return &Error{Fault: ErrRedirect, Detail: fmt.Sprintf("more than %d in a row", maxRedirects)}
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return &Error{Fault: ErrRedirect, Detail: fmt.Sprintf("from https to %s", printable(req.URL.Scheme))}
	}
	return nil
}

// credentialFunc returns what the auth client asks when it is challenged: the
// credential given, or what docker login left for the registry. The file is read
// only then.
func credentialFunc(given *Credential, domain string) auth.CredentialFunc {
	if given != nil {
		return auth.StaticCredential(domain, auth.Credential{
			Username: given.Username, Password: given.Password, RefreshToken: given.IdentityToken,
		})
	}
	open := sync.OnceValues(func() (credentials.Store, error) {
		return credentials.NewStoreFromDocker(credentials.StoreOptions{})
	})
	return func(ctx context.Context, hostport string) (auth.Credential, error) {
		store, err := open()
		if err != nil {
			return auth.EmptyCredential, &Error{Fault: ErrCredentials, Err: err}
		}
		found, err := credentials.Credential(store)(ctx, hostport)
		if err != nil {
			return auth.EmptyCredential, &Error{Fault: ErrCredentials, Err: err}
		}
		return found, nil
	}
}

// isLoopback reports whether a registry is on this machine, where docker lets it
// do without TLS.
func isLoopback(registry string) bool {
	host := registry
	if h, _, err := net.SplitHostPort(registry); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// get asks for a document of the repository: path is relative to it. The answer
// is any that came, whatever its status.
func (c *client) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	resp, err := c.getOnce(ctx, path, header)
	if err == nil || !errors.Is(err, http.ErrSchemeMismatch) || !isLoopback(c.registry) || c.plain.Load() {
		return resp, err
	}
	c.plain.Store(true)
	return c.getOnce(ctx, path, header)
}

func (c *client) getOnce(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	u := url.URL{Scheme: "https", Host: c.registry, Path: "/v2/" + c.repository + "/" + path}
	if c.plain.Load() {
		u.Scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	return c.auth.Do(req)
}
