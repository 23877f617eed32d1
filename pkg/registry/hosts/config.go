package hosts

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/containr/containr/internal/spelling"
	"github.com/containr/containr/internal/sys"
)

// Environment variables that name a file to read in the place of the usual ones: of
// registries.toml, and, as its own tools have it, of registries.conf.
const (
	Variable       = "CONTAINR_REGISTRIES"
	othersVariable = "CONTAINERS_REGISTRIES_CONF"
)

// Options says which files are read; what does not exist is left out.
type Options struct {
	Own    []string // registries.toml, the most important one first
	Others []string // registries.conf
	Dirs   []string // certs.d
}

// ErrConfig is wrapped by every error about what a file says.
var ErrConfig = errors.New("cannot use the configuration of registries")

// BlockedError refuses a name.
type BlockedError struct{ Name, Prefix, File string }

// Error names the entry that is to blame.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("%s is blocked by the entry %q of %s", e.Name, e.Prefix, e.File)
}

// Config is what the files say. The zero value, and nil, say nothing.
type Config struct {
	entries []*entry // of equal prefixes the first one counts
	dirs    []string // with a directory for each host
}

// place is how registries.toml describes an endpoint.
type place struct {
	Location   string `toml:"location"`
	Insecure   bool   `toml:"insecure"`
	CA         list   `toml:"ca"`
	ClientCert string `toml:"client-cert"`
	ClientKey  string `toml:"client-key"`
	Pull       Pulls  `toml:"pull"`

	PullFromMirror string `toml:"pull-from-mirror"` // of registries.conf: all, digest-only or tag-only
}

// entry is one [[registry]].
type entry struct {
	place
	Prefix  string   `toml:"prefix"`
	Blocked bool     `toml:"blocked"`
	Mirrors []*place `toml:"mirror"`

	ByDigestOnly bool `toml:"mirror-by-digest-only"` // of registries.conf
	file         string
}

// list is one string or several.
type list []string

// UnmarshalTOML accepts both forms.
func (l *list) UnmarshalTOML(value any) error {
	switch v := value.(type) {
	case string:
		*l = list{v}
		return nil
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return fmt.Errorf("%v is not a string", e)
			}
			*l = append(*l, s)
		}
		return nil
	}
	return fmt.Errorf("%v is neither a string nor a list of strings", value)
}

// Usual returns the options for this user: what is the user's precedes what is the system's.
func Usual() Options {
	config := os.Getenv("XDG_CONFIG_HOME")
	if home, err := os.UserHomeDir(); config == "" && err == nil {
		config = filepath.Join(home, ".config")
	}
	var o Options
	if config != "" {
		o.Own = append(o.Own, filepath.Join(config, "containr", "registries.toml"))
		o.Others = append(o.Others, filepath.Join(config, "containers", "registries.conf"))
		o.Dirs = append(o.Dirs, filepath.Join(config, "containr", "certs.d"), filepath.Join(config, "containers", "certs.d"))
	}
	o.Own = append(o.Own, "/etc/containr/registries.toml")
	o.Others = append(o.Others, "/etc/containers/registries.conf")
	o.Dirs = append(o.Dirs, "/etc/containr/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d", "/etc/containerd/certs.d")
	if file := os.Getenv(Variable); file != "" {
		o.Own = []string{file}
	}
	if file := os.Getenv(othersVariable); file != "" {
		o.Others = []string{file}
	}
	return o
}

// Load reads the files. Errors wrap ErrConfig and name file and key.
func Load(o Options) (*Config, error) {
	c := &Config{dirs: o.Dirs}
	for _, file := range o.Own {
		if err := c.read(file, true); err != nil {
			return nil, err
		}
	}
	for _, file := range o.Others {
		// Files beside it, sorted, change what it says: they are read before it, last first.
		extra, err := filepath.Glob(file + ".d/*.conf")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		slices.Reverse(extra)
		for _, f := range append(extra, file) {
			if err := c.read(f, false); err != nil {
				return nil, err
			}
		}
		if _, err := os.Stat(file); err == nil {
			break // the user's replaces the system's
		}
	}
	return c, nil
}

// maxConfig bounds a file, in bytes.
const maxConfig = 4 << 20

// readFile reads a file of sensible size, which must be the user's or root's unless it was named.
func readFile(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if named := file == os.Getenv(Variable) || file == os.Getenv(othersVariable); !named && !sys.Trusted(info) {
		return nil, fmt.Errorf("%w: %s belongs to another user: leave HOME and XDG_CONFIG_HOME to their user (sudo -H), or name the file in %s", ErrConfig, file, Variable)
	}
	if info.Size() > maxConfig {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrConfig, file, maxConfig)
	}
	return os.ReadFile(file)
}

// read adds the entries of one file.
func (c *Config) read(file string, own bool) error {
	data, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	var content struct {
		Registries []*entry `toml:"registry"`
	}
	meta, err := toml.Decode(string(data), &content)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConfig, file, err)
	}
	if meta.IsDefined("registries") {
		return fmt.Errorf("%w: %s: [registries] is of version 1 of the format, which its own tools have given up: write [[registry]]", ErrConfig, file)
	}
	if unknown := meta.Undecoded(); own && len(unknown) > 0 {
		return unknownKey(file, unknown[0])
	}
	for i, e := range content.Registries {
		e.file = file
		if err := e.complete(own); err != nil {
			return fmt.Errorf("%w: %s: registry %d: %w", ErrConfig, file, i+1, err)
		}
		c.entries = append(c.entries, e)
	}
	return nil
}

// keys are those of registries.toml.
var keys = []string{"registry", "mirror", "prefix", "location", "insecure", "blocked", "ca", "client-cert", "client-key", "pull"}

func unknownKey(file string, key toml.Key) error {
	text := fmt.Errorf("%w: %s: unknown key %q", ErrConfig, file, key.String())
	if near := spelling.Nearest(key[len(key)-1], keys); near != "" {
		return fmt.Errorf("%w: did you mean %s?", text, near)
	}
	return text
}

// complete checks an entry and fills in what follows from the rest.
func (e *entry) complete(own bool) error {
	if own && (e.ByDigestOnly || e.PullFromMirror != "") {
		return errors.New("mirror-by-digest-only and pull-from-mirror are keys of registries.conf: write pull = \"digest\" in the mirror")
	}
	e.Prefix = cmp.Or(e.Prefix, e.Location)
	if e.Prefix == "" {
		return errors.New("it has no prefix")
	}
	if strings.HasPrefix(e.Prefix, "*.") && strings.Contains(e.Prefix, "/") {
		return fmt.Errorf("prefix %q: after *. comes a domain without a path", e.Prefix)
	}
	if err := e.place.complete(e.file, false); err != nil {
		return err
	}
	for i, m := range e.Mirrors {
		if m.Location == "" {
			return fmt.Errorf("mirror %d has no location", i+1)
		}
		if err := m.complete(e.file, e.ByDigestOnly); err != nil {
			return fmt.Errorf("mirror %d: %w", i+1, err)
		}
	}
	return nil
}

// complete checks a place; names of files in it are relative to the configuration's.
func (p *place) complete(file string, byDigestOnly bool) error {
	if strings.Contains(p.Location, "://") {
		return fmt.Errorf("location %q is a URL: leave out what precedes the host", p.Location)
	}
	p.Location = strings.TrimSuffix(p.Location, "/")
	pulls := map[string]Pulls{"": PullsAll, "all": PullsAll, "digest": PullsDigest, "digest-only": PullsDigest, "tag": PullsTag, "tag-only": PullsTag}
	word := cmp.Or(string(p.Pull), p.PullFromMirror)
	if word == "" && byDigestOnly {
		word = "digest"
	}
	pull, ok := pulls[word]
	if !ok {
		return fmt.Errorf("pull %q is none of all, digest, tag", word)
	}
	p.Pull = pull
	if (p.ClientCert == "") != (p.ClientKey == "") {
		return errors.New("client-cert and client-key belong together")
	}
	for i := range p.CA {
		p.CA[i] = beside(file, p.CA[i])
	}
	p.ClientCert, p.ClientKey = beside(file, p.ClientCert), beside(file, p.ClientKey)
	return nil
}

// beside makes a name absolute that is relative to the directory of a file.
func beside(file, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(file), name)
}

func (p *place) keyPairs() []KeyPair {
	if p.ClientCert == "" {
		return nil
	}
	return []KeyPair{{Cert: p.ClientCert, Key: p.ClientKey}}
}

// find returns the entry for a name, nil if there is none.
func (c *Config) find(name string) *entry {
	if c == nil {
		return nil
	}
	var best *entry
	for _, e := range c.entries {
		if e.matches(name) && (best == nil || len(e.Prefix) > len(best.Prefix)) {
			best = e
		}
	}
	return best
}

// matches reports whether a name is the prefix or below it.
func (e *entry) matches(name string) bool {
	if suffix, ok := strings.CutPrefix(e.Prefix, "*"); ok {
		domain, _, _ := strings.Cut(name, "/")
		return strings.HasSuffix(domain, suffix)
	}
	rest, ok := strings.CutPrefix(name, e.Prefix)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(e.Prefix, "/"))
}
