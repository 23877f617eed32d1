package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry/hosts"
)

// ParseHost reads a registry as users write it: host[:port]. What docker's own files
// have is understood too: a URL, and Docker Hub's old address. Empty is Docker Hub.
func ParseHost(s string) (string, error) {
	host := strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(host, "/"), "/v1"), "/v2")
	switch host {
	case "", "docker.io", "index.docker.io", "registry-1.docker.io":
		return "docker.io", nil
	}
	ref, err := image.ParseReference(host + "/x")
	if err != nil || ref.Domain != host {
		return "", fmt.Errorf("%w %q: a registry is a host, with a port if it has one", image.ErrReference, printable(s))
	}
	return host, nil
}

// LoggedIn is the answer of a registry to a login.
type LoggedIn struct {
	// Credential is what to keep: the one that was tried, or an identity token that
	// the registry handed out in its place.
	Credential Credential
	// Checked says that the registry asked for the credential. One that lets
	// everybody in does not.
	Checked bool
}

// Login tries the credential of a.Credential with a registry. Nothing is kept. The error
// is an *[Error] with ErrUnauthorized if the credential is wrong.
func Login(ctx context.Context, a Access, domain string) (*LoggedIn, error) {
	e := hosts.Default(domain, "")
	endpoints, err := a.Hosts.Endpoints(domain, "")
	if err != nil {
		return nil, fmt.Errorf("log in to %s: %w", domain, err)
	}
	if domain != "docker.io" { // whose mirrors are others
		e = endpoints[len(endpoints)-1]
		e.Repository = ""
	}
	e.Insecure = e.Insecure || a.Insecure
	c, err := a.newClient(e, 1)
	if err != nil {
		return nil, fmt.Errorf("log in to %s: %w", domain, err)
	}
	defer c.close()
	tokens := &offlineTokens{next: c.auth.Client.Transport, registry: e.Host}
	c.auth.Client.Transport = tokens
	err = c.try(ctx, "login", func(ctx context.Context) (int64, error) {
		ctx, watch := c.watch(ctx)
		defer watch.stop()
		resp, err := c.send(ctx, http.MethodGet, c.absolute("/"), nil, nil, http.StatusOK)
		if err == nil {
			resp.Body.Close()
		}
		return 0, err
	})
	if err != nil {
		return nil, fmt.Errorf("log in to %s: %w", domain, err)
	}
	out := &LoggedIn{Credential: *a.Credential, Checked: tokens.challenged}
	if tokens.refresh != "" {
		out.Credential.Password, out.Credential.IdentityToken = "", tokens.refresh
	}
	return out, nil
}

// offlineTokens asks, whenever a token is asked for, for one that outlives the session
// too, and notes it if the service hands one out. The parameters are those that docker
// sends (distribution's "Token Authentication": offline_token, client_id).
type offlineTokens struct {
	next     http.RoundTripper
	registry string

	mu         sync.Mutex
	realm      string // of the challenge
	challenged bool
	refresh    string
}

// RoundTrip sends one request.
func (o *offlineTokens) RoundTrip(req *http.Request) (*http.Response, error) {
	token := o.isToken(req)
	if token && req.Method == http.MethodGet {
		req = req.Clone(req.Context())
		q := req.URL.Query()
		q.Set("offline_token", "true")
		q.Set("client_id", userAgent)
		if user, _, ok := req.BasicAuth(); ok {
			q.Set("account", user)
		}
		req.URL.RawQuery = q.Encode()
	}
	resp, err := o.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if token && resp.StatusCode == http.StatusOK {
		return resp, o.note(resp)
	}
	if resp.StatusCode == http.StatusUnauthorized && req.URL.Host == o.registry {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.challenged = true
		_, after, _ := strings.Cut(resp.Header.Get("WWW-Authenticate"), `realm="`)
		o.realm, _, _ = strings.Cut(after, `"`)
	}
	return resp, nil
}

// isToken reports whether a request is for a token: it goes where the challenge sent it.
func (o *offlineTokens) isToken(req *http.Request) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := *req.URL
	u.RawQuery = ""
	realm, _, _ := strings.Cut(o.realm, "?")
	return o.realm != "" && u.String() == realm
}

// note reads the answer of a token service, and puts its body back.
func (o *offlineTokens) note(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenSize))
	resp.Body.Close()
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	var answer struct {
		Refresh string `json:"refresh_token"`
	}
	if json.Unmarshal(data, &answer) == nil { // if not, who wants the token says so
		o.mu.Lock()
		defer o.mu.Unlock()
		o.refresh = answer.Refresh
	}
	return nil
}

// maxTokenSize bounds the answer of a token service, in bytes.
const maxTokenSize = 1 << 20
