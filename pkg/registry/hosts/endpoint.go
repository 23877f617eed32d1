package hosts

import (
	"net/http"
	"slices"
	"strings"
)

// Endpoint is one place that serves a repository.
type Endpoint struct {
	// Host is host[:port] to connect to.
	Host string
	// Scheme is http or https if the configuration insists on one; else empty: HTTPS, or
	// also HTTP where Insecure allows it.
	Scheme string
	// Root precedes the repository in the path of every URL; "/v2" of nearly all.
	Root string
	// Repository is what the repository is called there.
	Repository string
	// Namespace, if set, tells a mirror of several registries which one is meant, in
	// the query parameter ns that containerd introduced.
	Namespace string
	// Insecure allows plain HTTP, and certificates that nobody vouches for.
	Insecure bool
	// Mirror says that the registry itself is another endpoint.
	Mirror bool
	// Pull says which pulls go there.
	Pull Pulls
	// Push says whether images may be sent there.
	Push bool
	// CA are files with certificates to trust besides the system's.
	CA []string
	// Client are the certificates to be known by.
	Client []KeyPair
	// Header is sent with each request to this host.
	Header http.Header
}

// KeyPair names the files of a certificate and its private key.
type KeyPair struct{ Cert, Key string }

// Pulls says which pulls an endpoint serves.
type Pulls string

// A mirror that may lag behind serves what is asked for by digest only.
const (
	PullsAll    Pulls = ""
	PullsDigest Pulls = "digest"
	PullsTag    Pulls = "tag"
	PullsNone   Pulls = "none"
)

// Serves reports whether a pull by tag, or else by digest, goes there.
func (p Pulls) Serves(byTag bool) bool {
	return p == PullsAll || p == PullsTag && byTag || p == PullsDigest && !byTag
}

// DefaultRoot is where the distribution specification puts its interface.
const DefaultRoot = "/v2"

// hubHost is where Docker Hub answers, whose images are called docker.io.
const hubHost = "registry-1.docker.io"

// Default returns the endpoint of a registry that no configuration speaks of.
func Default(domain, repository string) Endpoint {
	host := domain
	if domain == "docker.io" {
		host = hubHost
	}
	return Endpoint{Host: host, Root: DefaultRoot, Repository: repository, Push: true}
}

// Endpoints returns the places to pull a repository from, in the order to try them: the
// mirrors, then the registry itself. It fails if the configuration blocks the name.
func (c *Config) Endpoints(domain, repository string) ([]Endpoint, error) {
	own := Default(domain, repository)
	entry := c.find(domain + "/" + repository)
	if entry == nil {
		all := []Endpoint{own}
		if h := c.hostFile(domain); h != nil {
			var err error
			if all, err = h.endpoints(own); err != nil {
				return nil, err
			}
		}
		return all, c.addAllCertificates(all)
	}
	if entry.Blocked {
		return nil, &BlockedError{Name: domain + "/" + repository, Prefix: entry.Prefix, File: entry.file}
	}
	var all []Endpoint
	for _, m := range entry.Mirrors {
		e := m.endpoint(entry, domain, repository)
		e.Mirror, e.Push = true, false
		all = append(all, e)
	}
	if entry.Location != "" {
		own = entry.place.endpoint(entry, domain, repository)
	} else {
		own.Insecure, own.CA, own.Client = entry.Insecure, slices.Clone(entry.CA), entry.keyPairs()
	}
	own.Push = true
	all = append(all, own)
	return all, c.addAllCertificates(all)
}

// addAllCertificates adds those of docker's directories to each endpoint.
func (c *Config) addAllCertificates(all []Endpoint) error {
	for i := range all {
		if err := c.addCertificates(&all[i]); err != nil {
			return err
		}
	}
	return nil
}

// endpoint is where a repository below the prefix of r is, at this place.
func (p place) endpoint(r *entry, domain, repository string) Endpoint {
	rest := strings.TrimPrefix(domain+"/"+repository, strings.TrimSuffix(r.Prefix, "/"))
	if strings.HasPrefix(r.Prefix, "*.") {
		rest = "/" + repository
	}
	host, path, _ := strings.Cut(p.Location+rest, "/")
	e := Default(host, path)
	e.Insecure, e.CA, e.Client, e.Pull = p.Insecure, slices.Clone(p.CA), p.keyPairs(), p.Pull
	return e
}
