package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// hostFile is a hosts.toml: containerd's way to write down the endpoints of one registry.
type hostFile struct {
	file    string
	own     hostEntry
	server  string
	mirrors []hostEntry
	err     error
}

// hostEntry is the table of one host.
type hostEntry struct {
	url          string
	Capabilities []string       `toml:"capabilities"`
	CA           list           `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   bool           `toml:"skip_verify"`
	OverridePath bool           `toml:"override_path"`
	Header       map[string]any `toml:"header"`
}

// names returns how the directory of a registry may be called: containerd writes the
// colon before a port as docker does, or as underscores around it.
func names(domain string) []string {
	host, port, ok := strings.Cut(domain, ":")
	if !ok {
		return []string{domain}
	}
	return []string{domain, host + "_" + port + "_", host}
}

// hostFile returns what hosts.toml says of a registry, or of all (_default); nil if there
// is none.
func (c *Config) hostFile(domain string) *hostFile {
	if c == nil {
		return nil
	}
	for _, dir := range c.dirs {
		for _, name := range append(names(domain), "_default") {
			path := filepath.Join(dir, name, "hosts.toml")
			data, err := readFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return &hostFile{file: path, err: fmt.Errorf("%w: %w", ErrConfig, err)}
			}
			return parseHosts(path, data)
		}
	}
	return nil
}

// parseHosts reads a hosts.toml. The order of its hosts is that of the file.
func parseHosts(path string, data []byte) *hostFile {
	h := &hostFile{file: path}
	var content struct {
		Server string `toml:"server"`
		hostEntry
		Hosts map[string]hostEntry `toml:"host"`
	}
	meta, err := toml.Decode(string(data), &content)
	if err != nil {
		h.err = fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
		return h
	}
	h.server, h.own = content.Server, content.hostEntry
	for _, key := range meta.Keys() {
		if len(key) == 2 && key[0] == "host" {
			e := content.Hosts[key[1]]
			e.url = key[1]
			h.mirrors = append(h.mirrors, e)
		}
	}
	return h
}

// endpoints returns the places that a hosts.toml names for a registry, whose own endpoint
// is the last unless the file names another server.
func (h *hostFile) endpoints(own Endpoint) ([]Endpoint, error) {
	if h.err != nil {
		return nil, h.err
	}
	var all []Endpoint
	for _, m := range h.mirrors {
		e, err := m.endpoint(h.file, own)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: host %q: %w", ErrConfig, h.file, m.url, err)
		}
		e.Mirror, e.Namespace = e.Host != own.Host, ""
		if e.Mirror {
			e.Namespace = own.namespace()
		}
		all = append(all, e)
	}
	server := h.own
	server.url = h.server
	if server.url == "" {
		server.url = "https://" + own.Host
	}
	e, err := server.endpoint(h.file, own)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: server: %w", ErrConfig, h.file, err)
	}
	e.Push = true
	return append(all, e), nil
}

// namespace is what mirrors call the registry of an endpoint.
func (e Endpoint) namespace() string {
	if e.Host == hubHost {
		return "docker.io"
	}
	return e.Host
}

// endpoint translates one table.
func (h hostEntry) endpoint(file string, own Endpoint) (Endpoint, error) {
	e := own
	text := h.url
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return e, errors.New("it is not a URL of http or https")
	}
	e.Host, e.Scheme, e.Insecure = u.Host, u.Scheme, h.SkipVerify
	e.Root = strings.TrimSuffix(u.Path, "/")
	if !h.OverridePath && !strings.HasSuffix(e.Root, DefaultRoot) {
		e.Root += DefaultRoot
	}
	if e.Host == "docker.io" {
		e.Host = hubHost
	}
	e.Pull, e.Push = capabilities(h.Capabilities)
	for _, ca := range h.CA {
		e.CA = append(e.CA, beside(file, ca))
	}
	if e.Client, err = h.keyPairs(file); err != nil {
		return e, err
	}
	e.Header, err = h.headers()
	return e, err
}

// capabilities translates those of containerd: pull is to fetch by digest, resolve to
// turn a tag into one. No list stands for all.
func capabilities(list []string) (Pulls, bool) {
	if len(list) == 0 {
		return PullsAll, true
	}
	push := slices.Contains(list, "push")
	switch pull, resolve := slices.Contains(list, "pull"), slices.Contains(list, "resolve"); {
	case pull && resolve:
		return PullsAll, push
	case pull:
		return PullsDigest, push
	}
	return PullsNone, push
}

// keyPairs reads the value of client: a file with certificate and key, or several, or
// pairs of files.
func (h hostEntry) keyPairs(file string) ([]KeyPair, error) {
	pair := func(v any) (KeyPair, error) {
		switch v := v.(type) {
		case string:
			return KeyPair{Cert: beside(file, v), Key: beside(file, v)}, nil
		case []any:
			if len(v) == 2 {
				cert, ok1 := v[0].(string)
				key, ok2 := v[1].(string)
				if key == "" {
					key = cert
				}
				if ok1 && ok2 {
					return KeyPair{Cert: beside(file, cert), Key: beside(file, key)}, nil
				}
			}
		}
		return KeyPair{}, fmt.Errorf("client %v is neither a file nor a pair of files", v)
	}
	switch v := h.Client.(type) {
	case nil:
		return nil, nil
	case string:
		one, err := pair(v)
		return []KeyPair{one}, err
	case []any:
		var all []KeyPair
		for _, e := range v {
			one, err := pair(e)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return all, nil
	}
	_, err := pair(h.Client)
	return nil, err
}

// headers reads the table of headers, whose values are strings or lists of them.
func (h hostEntry) headers() (http.Header, error) {
	var out http.Header
	for key, value := range h.Header {
		var values list
		if err := values.UnmarshalTOML(value); err != nil {
			return nil, fmt.Errorf("header %s: %w", key, err)
		}
		if out == nil {
			out = http.Header{}
		}
		for _, v := range values {
			out.Add(key, v)
		}
	}
	return out, nil
}

// addCertificates adds those that lie in the endpoint's directories of certs.d.
func (c *Config) addCertificates(e *Endpoint) error {
	if c == nil {
		return nil
	}
	for _, dir := range c.dirs {
		if err := e.AddCertificates(filepath.Join(dir, e.Host)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// AddCertificates adds those that lie in a directory in docker's way: *.crt are
// authorities, *.cert with *.key certificates to be known by.
func (e *Endpoint) AddCertificates(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	for _, f := range entries {
		path := filepath.Join(dir, f.Name())
		switch filepath.Ext(f.Name()) {
		case ".crt":
			e.CA = append(e.CA, path)
		case ".cert":
			e.Client = append(e.Client, KeyPair{Cert: path, Key: strings.TrimSuffix(path, ".cert") + ".key"})
		}
	}
	return nil
}
