package registry

import (
	"context"
	"encoding/base64"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
)

// realms lets registries of a private network have their token service on another host of
// it, as GitLab does.
//
// The library asks no token service at a private or local address unless it is on the
// registry's own host: a hostile registry of the world could else have us send requests
// into our network. That is right for registries of the world. One that is in the same
// network itself gains nothing by sending us to its neighbour, and so for it, and only
// then, the realm of the challenge is written as a path of the registry's host, which the
// library accepts, and read back when the request comes. Link-local addresses, where
// clouds keep their secrets, stay refused in any case, and so does plain HTTP for a
// registry with TLS.
type realms struct {
	next http.RoundTripper
	host string // of the registry

	mu     sync.Mutex
	issued map[string]bool // paths that stand for realms
}

// realmPath begins the paths that stand for realms. No registry is ever asked for it.
const realmPath = "/.realm/"

// RoundTrip sends one request.
func (r *realms) RoundTrip(req *http.Request) (*http.Response, error) {
	if real := r.realm(req.URL); real != nil {
		return r.ask(req, real)
	}
	resp, err := r.next.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && req.URL.Host == r.host {
		r.translate(req.Context(), resp.Header)
	}
	return resp, err
}

// realm returns the realm that a path stands for, nil if for none.
func (r *realms) realm(u *url.URL) *url.URL {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.Host != r.host || !r.issued[u.Path] {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(u.Path, realmPath))
	if err != nil {
		return nil
	}
	real, err := url.Parse(string(text))
	if err != nil {
		return nil
	}
	query := real.Query()
	for key, values := range u.Query() {
		query[key] = values
	}
	real.RawQuery = query.Encode()
	return real
}

// ask sends a request for a token to where it belongs. A redirect is not followed from
// there: the library would not have followed one into a private network either.
func (r *realms) ask(req *http.Request, real *url.URL) (*http.Response, error) {
	moved := req.Clone(req.Context())
	moved.URL, moved.Host = real, real.Host
	resp, err := r.next.RoundTrip(moved)
	if err != nil {
		return nil, err
	}
	if location := resp.Header.Get("Location"); location != "" {
		if to, err := real.Parse(location); err == nil {
			resp.Header.Set("Location", to.String())
		}
	}
	return resp, nil
}

// translate rewrites the realm of a challenge if it is in the registry's own network.
func (r *realms) translate(ctx context.Context, h http.Header) {
	challenge := h.Get("WWW-Authenticate")
	before, after, ok := strings.Cut(challenge, `realm="`)
	text, rest, closed := strings.Cut(after, `"`)
	u, err := url.Parse(text)
	registry, _, _ := net.SplitHostPort(r.host)
	if registry == "" {
		registry = r.host
	}
	if !ok || !closed || err != nil || u.Hostname() == "" || strings.EqualFold(u.Hostname(), registry) || !neighbours(ctx, registry, u.Hostname()) {
		return
	}
	path := realmPath + base64.RawURLEncoding.EncodeToString([]byte(text))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.issued == nil {
		r.issued = map[string]bool{}
	}
	r.issued[path] = true
	h.Set("WWW-Authenticate", before+`realm="`+u.Scheme+"://"+r.host+path+`"`+rest)
}

// neighbours reports whether both hosts are in one network that is not the world's: both
// on this machine, or both at addresses that only a site uses.
func neighbours(ctx context.Context, registry, service string) bool {
	a, b := networkOf(ctx, registry), networkOf(ctx, service)
	return a != "" && a == b
}

// networkOf says where all addresses of a host are: "machine", "site", or "" of any others.
func networkOf(ctx context.Context, host string) string {
	addresses := []netip.Addr{}
	if one, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		addresses = append(addresses, one)
	} else if addresses, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return "" // who connects to it will say so
	}
	network := ""
	for i, a := range addresses {
		this := ""
		switch a = a.Unmap(); {
		case a.IsLoopback():
			this = "machine"
		case a.IsPrivate():
			this = "site"
		}
		if this == "" || i > 0 && this != network {
			return ""
		}
		network = this
	}
	return network
}
