package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry/hosts"
	"github.com/containr/containr/pkg/registry/trust"
)

// Access says how registries are reached. The zero value asks the registry that a name
// tells, over HTTPS, with the credentials that a login left.
type Access struct {
	// Hosts is what the configuration says: mirrors, certificates, what is blocked.
	Hosts *hosts.Config
	// PlainHTTP speaks HTTP instead of HTTPS. A registry on this machine
	// (localhost, 127.0.0.0/8, ::1) is tried both ways in any case.
	PlainHTTP bool
	// Insecure allows plain HTTP, and certificates that nobody vouches for, of the
	// registry itself.
	Insecure bool
	// TLS is the configuration for HTTPS: further roots, client certificates.
	TLS *tls.Config
	// CertDir is a directory of certificates as those in certs.d are, for the registry itself.
	CertDir string
	// Credential is used instead of what a login left.
	Credential *Credential
	// Policy says by whose signature images may be pulled; nil wants none.
	Policy *trust.Policy
	// Offline makes every request fail with ErrOffline before it is sent.
	Offline bool
	// Trace, if set, is told of each request, in the order in which they end; of several
	// at a time.
	Trace func(Exchange)
	// Waits, if set, is told when a registry keeps us waiting; of several requests at a time. It must not block.
	Waits func(Wait)
	Retry Retry
}

// errNoEndpoint says that the configuration leaves nothing to ask.
var errNoEndpoint = errors.New("the configuration of registries names no place to ask")

// pullClients returns the clients for a pull of ref, in the order to ask them.
func (a *Access) pullClients(ref image.Reference, parallel int) ([]*client, error) {
	endpoints, err := a.Hosts.Endpoints(ref.Domain, ref.Path)
	if err != nil {
		return nil, err
	}
	var clients []*client
	for _, e := range endpoints {
		if !e.Pull.Serves(ref.Digest == "") {
			continue
		}
		e.Insecure = e.Insecure || a.Insecure && !e.Mirror
		c, err := a.newClient(e, parallel, "pull")
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
	}
	if clients == nil {
		return nil, errNoEndpoint
	}
	return clients, nil
}

// pushClient returns the client for a push to ref: never a mirror.
func (a *Access) pushClient(ref image.Reference, parallel int) (*client, error) {
	endpoints, err := a.Hosts.Endpoints(ref.Domain, ref.Path)
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		if e.Push && !e.Mirror {
			e.Insecure = e.Insecure || a.Insecure
			return a.newClient(e, parallel, "pull", "push")
		}
	}
	return nil, errNoEndpoint
}

// tlsFor returns the TLS configuration for an endpoint.
func (a *Access) tlsFor(e hosts.Endpoint) (*tls.Config, error) {
	config := &tls.Config{}
	if a.TLS != nil {
		config = a.TLS.Clone()
	}
	if a.CertDir != "" && !e.Mirror {
		if err := e.AddCertificates(a.CertDir); err != nil {
			return nil, err
		}
	}
	config.InsecureSkipVerify = config.InsecureSkipVerify || e.Insecure
	if len(e.CA) > 0 {
		pool := config.RootCAs
		if pool == nil {
			system, err := x509.SystemCertPool()
			if err != nil {
				return nil, fmt.Errorf("certificates of the system: %w", err)
			}
			pool = system
		}
		pool = pool.Clone()
		for _, file := range e.CA {
			pem, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", hosts.ErrConfig, err)
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%w: %s holds no certificate", hosts.ErrConfig, file)
			}
		}
		config.RootCAs = pool
	}
	for _, k := range e.Client {
		pair, err := tls.LoadX509KeyPair(k.Cert, k.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: client certificate: %w", hosts.ErrConfig, err)
		}
		config.Certificates = append(config.Certificates, pair)
	}
	return config, nil
}

// byHost sends what is for the endpoint's host as the endpoint wants it, and what is for
// others (redirects, token services) without client certificates, without the headers of
// the configuration, and only to servers with a certificate that somebody vouches for.
type byHost struct {
	host        string
	own, others *http.Transport
	header      http.Header
	offline     bool
}

// RoundTrip sends one request.
func (b *byHost) RoundTrip(req *http.Request) (*http.Response, error) {
	if b.offline {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, ErrOffline
	}
	if req.URL.Host != b.host {
		return b.others.RoundTrip(req)
	}
	if len(b.header) > 0 {
		req = req.Clone(req.Context())
		for key, values := range b.header {
			req.Header[key] = values
		}
	}
	return b.own.RoundTrip(req)
}

// closeIdle drops idle connections.
func (b *byHost) closeIdle() {
	b.own.CloseIdleConnections()
	b.others.CloseIdleConnections()
}
