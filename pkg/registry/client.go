package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/containr/containr/pkg/registry/credential"
	"github.com/containr/containr/pkg/registry/hosts"
)

// Credential is what a user proves to be by. It is never printed.
type Credential = credential.Credential

// client speaks with one repository at one endpoint.
type client struct {
	registry   string // host[:port] to connect to
	root       string // what precedes the repository in paths
	repository string
	namespace  string // for mirrors of several registries
	mirror     bool
	loose      bool        // plain HTTP is allowed
	plain      atomic.Bool // speak HTTP
	down       atomic.Bool // a mirror that was given up
	actions    []string    // what a token must allow
	auth       *auth.Client
	transport  *byHost
	retry      Retry
	waits      func(Wait) // may be nil
}

// Bounds on connections.
const (
	dialTimeout    = 30 * time.Second
	headerTimeout  = 60 * time.Second // from the request to the first line of the answer
	maxHeaderBytes = 1 << 20
	maxRedirects   = 10
)

// mirrorAttempts is how persistent we are with a mirror: there is another place to ask.
const mirrorAttempts = 2

// userAgent is what registries see in their logs.
const userAgent = "containr"

// newClient makes the client for a repository at an endpoint, for so many requests at
// a time. It does not connect. actions are pull and push.
func (a *Access) newClient(e hosts.Endpoint, parallel int, actions ...string) (*client, error) {
	config, err := a.tlsFor(e)
	if err != nil {
		return nil, err
	}
	c := &client{
		registry: e.Host, root: e.Root, repository: e.Repository, namespace: e.Namespace, mirror: e.Mirror,
		actions: actions, retry: a.Retry.orDefault(), waits: a.Waits,
		loose: e.Scheme == "" && (e.Insecure || isLoopback(e.Host)),
	}
	if c.mirror {
		c.retry.Attempts = min(c.retry.Attempts, mirrorAttempts)
	}
	c.plain.Store(a.PlainHTTP || e.Scheme == "http")
	stranger := config.Clone() // the same authorities, but nothing that is between us and the registry
	stranger.Certificates, stranger.GetClientCertificate, stranger.InsecureSkipVerify = nil, nil, a.TLS != nil && a.TLS.InsecureSkipVerify
	c.transport = &byHost{host: e.Host, own: newTransport(config, parallel), others: newTransport(stranger, parallel), header: e.Header, offline: a.Offline}
	given := a.Credential
	if e.Mirror { // it is the registry's: for a mirror there is what a login left
		given = nil
	}
	c.auth = &auth.Client{
		Client:     &http.Client{Transport: &realms{next: traced(c.transport, a.Trace), host: e.Host}, CheckRedirect: checkRedirect},
		Header:     http.Header{"User-Agent": {userAgent}},
		Cache:      auth.NewCache(),
		ClientID:   userAgent,
		Credential: credentialFunc(given, e.Host, e.Repository),
	}
	return c, nil
}

// newTransport makes the pool of connections for so many requests at a time.
func newTransport(config *tls.Config, parallel int) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConnsPerHost:    parallel,
		IdleConnTimeout:        dialTimeout,
		// A blob is stored as it is sent: its digest is of the compressed bytes.
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
	}
}

// close drops idle connections.
func (c *client) close() { c.transport.closeIdle() }

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
// credential given for the host, or what a login left for it or this repository of it. Files are read only then.
func credentialFunc(given *Credential, host, repository string) auth.CredentialFunc {
	if given != nil {
		return auth.StaticCredential(host, given.Auth())
	}
	return func(ctx context.Context, hostport string) (auth.Credential, error) {
		found, err := credential.Find(ctx, hostport, repository)
		if err != nil {
			return auth.EmptyCredential, &Error{Fault: ErrCredentials, Err: err}
		}
		return found.Auth(), nil
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

// payload is the body of a request, which may have to be sent more than once.
type payload struct {
	open func() (io.ReadCloser, error)
	size int64
}

// url returns the URL of something of the repository: path is relative to it and may
// have a query.
func (c *client) url(path string) *url.URL {
	return c.absolute("/" + c.repository + "/" + path)
}

// absolute returns a URL of the registry: path follows the root.
func (c *client) absolute(path string) *url.URL {
	path, query, _ := strings.Cut(path, "?")
	u := &url.URL{Scheme: "https", Host: c.registry, Path: c.root + path, RawQuery: query}
	if c.plain.Load() {
		u.Scheme = "http"
	}
	if c.namespace != "" {
		q := u.Query()
		q.Set("ns", c.namespace)
		u.RawQuery = q.Encode()
	}
	return u
}

// do sends a request and returns the answer, whatever its status. A registry that need
// not speak TLS is asked again without it if it answers so.
func (c *client) do(ctx context.Context, method string, u *url.URL, header http.Header, body *payload) (*http.Response, error) {
	resp, err := c.doOnce(ctx, method, u, header, body)
	if err == nil || !errors.Is(err, http.ErrSchemeMismatch) || !c.loose || u.Scheme == "http" {
		return resp, err
	}
	c.plain.Store(true)
	again := *u
	again.Scheme = "http"
	return c.doOnce(ctx, method, &again, header, body)
}

func (c *client) doOnce(ctx context.Context, method string, u *url.URL, header http.Header, body *payload) (*http.Response, error) {
	if c.repository != "" && u.Host == c.registry {
		ctx = auth.AppendScopesForHost(ctx, c.registry, auth.ScopeRepository(c.repository, c.actions...))
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	if body != nil {
		if req.Body, err = body.open(); err != nil {
			return nil, err
		}
		req.ContentLength, req.GetBody = body.size, body.open
	}
	return c.auth.Do(req)
}
