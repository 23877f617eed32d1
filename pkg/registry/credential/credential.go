package credential

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/containr/containr/internal/durable"
)

// Credential is what a user proves to be by. It is never printed.
type Credential struct {
	Username, Password string
	// IdentityToken is a refresh token (OAuth 2) that some registries hand out in
	// place of a password.
	IdentityToken string
	// RegistryToken is a bearer token to send as it is.
	RegistryToken string
}

// String hides the secret.
func (c Credential) String() string { return c.Username + ":***" }

// GoString hides the secret from %#v too.
func (c Credential) GoString() string { return c.String() }

// Auth returns the credential as the library has it.
func (c Credential) Auth() auth.Credential {
	return auth.Credential{Username: c.Username, Password: c.Password, RefreshToken: c.IdentityToken, AccessToken: c.RegistryToken}
}

// ErrNone: there is no credential for the registry.
var ErrNone = errors.New("not logged in")

// hubKey is what Docker Hub is called in the files.
const hubKey = "https://index.docker.io/v1/"

// key returns what a registry is called in the files.
func key(registry string) string {
	switch registry {
	case "docker.io", "registry-1.docker.io", "index.docker.io":
		return hubKey
	}
	return registry
}

// file is one file of credentials.
type file struct {
	path   string
	docker bool // it may name helpers
}

// runContainers has a directory for each user who has no XDG_RUNTIME_DIR (containers-auth.json(5)).
var runContainers = "/run/containers"

// files returns those there may be, in the order to ask them.
func files() ([]file, error) {
	var all []file
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		all = append(all, file{path: path})
	} else {
		dir := filepath.Join(runContainers, strconv.Itoa(os.Getuid()))
		if runtime := os.Getenv("XDG_RUNTIME_DIR"); runtime != "" {
			dir = filepath.Join(runtime, "containers")
		}
		all = append(all, file{path: filepath.Join(dir, "auth.json")})
		if dir, err := os.UserConfigDir(); err == nil {
			all = append(all, file{path: filepath.Join(dir, "containers", "auth.json")})
		}
	}
	docker, err := dockerFile()
	if err != nil && len(all) > 0 {
		return all, nil // no home: there can be none
	}
	return append(all, docker), err
}

// dockerFile is docker's config.json.
func dockerFile() (file, error) {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return file{}, fmt.Errorf("there is no home directory to keep credentials in: %w", err)
		}
		dir = filepath.Join(home, ".docker")
	}
	return file{path: filepath.Join(dir, "config.json"), docker: true}, nil
}

// target is the file that is written.
func target() (file, error) {
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		return file{path: path}, nil
	}
	return dockerFile()
}

// entry is one registry's in auths.
type entry struct {
	Auth          string `json:"auth,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
	Username      string `json:"username,omitempty"` // of old files
	Password      string `json:"password,omitempty"`
}

// content is a file of credentials. rest holds the fields that are not ours.
type content struct {
	rest    map[string]json.RawMessage
	auths   map[string]json.RawMessage
	store   string
	helpers map[string]string
}

// maxFile bounds a file of credentials, in bytes.
const maxFile = 16 << 20

// read reads a file; one that does not exist is empty. The texts of errors hold nothing
// of the content.
func (f file) read() (*content, error) {
	c := &content{rest: map[string]json.RawMessage{}, auths: map[string]json.RawMessage{}}
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", f.path, maxFile)
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return c, nil
	}
	for _, part := range []struct {
		name string
		into any
	}{{"", &c.rest}, {"auths", &c.auths}, {"credsStore", &c.store}, {"credHelpers", &c.helpers}} {
		from := json.RawMessage(data)
		if part.name != "" {
			from = c.rest[part.name]
		}
		if from == nil {
			continue
		}
		if err := json.Unmarshal(from, part.into); err != nil {
			return nil, notJSON(f.path, part.name)
		}
	}
	if c.auths == nil { // "auths": null
		c.auths = map[string]json.RawMessage{}
	}
	if c.rest == nil {
		c.rest = map[string]json.RawMessage{}
	}
	return c, nil
}

// notJSON is the error for a broken file. That of the decoder would quote it.
func notJSON(path, field string) error {
	if field == "" {
		return fmt.Errorf("%s is not a JSON object", path)
	}
	return fmt.Errorf("%s: the field %s has another form than it should", path, field)
}

// find returns the entry for a repository, or the longest beginning of its path that has one (containers-auth.json(5)), or else
// its registry. Old files have URLs for keys.
func (c *content) find(registry, repository string) (name string, raw json.RawMessage, ok bool) {
	want := key(registry)
	domain := registry
	if want == hubKey {
		domain = "docker.io"
	}
	for path := repository; path != ""; path = path[:max(strings.LastIndex(path, "/"), 0)] {
		name := domain + "/" + path
		if raw, ok := c.auths[name]; ok {
			return name, raw, true
		}
	}
	if raw, ok := c.auths[want]; ok {
		return want, raw, true
	}
	for name, raw := range c.auths {
		host := strings.TrimPrefix(strings.TrimPrefix(name, "http://"), "https://")
		host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(host, "/v1/"), "/v2/"), "/")
		if host == want || want == hubKey && (host == "docker.io" || host == "index.docker.io") {
			return name, raw, true
		}
	}
	return "", nil, false
}

// decode reads an entry.
func decode(path string, raw json.RawMessage) (Credential, error) {
	var e entry
	if json.Unmarshal(raw, &e) != nil {
		return Credential{}, notJSON(path, "auths")
	}
	c := Credential{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth == "" {
		return c, nil
	}
	text, err := base64.StdEncoding.DecodeString(e.Auth)
	user, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok {
		return Credential{}, fmt.Errorf("%s: an auth is not user:password in base64", path)
	}
	c.Username, c.Password = user, strings.TrimRight(password, "\x00")
	return c, nil
}

// helper returns the program that keeps a registry's credential, "" if none does.
func (f file) helper(c *content, registry string) string {
	if name := c.helpers[registry]; name != "" {
		return name
	}
	if name := c.helpers[key(registry)]; name != "" {
		return name
	}
	if f.docker {
		return c.store
	}
	return ""
}

// Find returns the credential for a registry, host[:port], or for a part of it in which a repository is, if it is not empty; the zero
// value if there is none.
func Find(ctx context.Context, registry, repository string) (Credential, error) {
	all, err := files()
	if err != nil {
		return Credential{}, err
	}
	for _, f := range all {
		c, err := f.read()
		if err != nil {
			return Credential{}, err
		}
		found, err := f.get(ctx, c, registry, repository)
		if err != nil || found != (Credential{}) {
			return found, err
		}
	}
	return Credential{}, nil
}

// get asks one file, and the helper that it names.
func (f file) get(ctx context.Context, c *content, registry, repository string) (Credential, error) {
	if name := f.helper(c, registry); name != "" {
		found, err := helperGet(ctx, name, key(registry))
		if err != nil || found != (Credential{}) {
			return found, err
		}
	}
	if _, raw, ok := c.find(registry, repository); ok {
		return decode(f.path, raw)
	}
	return Credential{}, nil
}

// Where says where a credential was put, for people.
type Where struct {
	File   string // that holds it, or names the helper
	Helper string // the program that keeps it; empty if the file does, readable for its owner
}

// Save keeps the credential of a registry.
func Save(ctx context.Context, registry string, cred Credential) (Where, error) {
	if strings.Contains(cred.Username, ":") {
		return Where{}, errors.New("a user name cannot have a colon in it")
	}
	f, err := target()
	if err != nil {
		return Where{}, err
	}
	where := Where{File: f.path}
	err = f.change(ctx, func(c *content) error {
		if where.Helper = f.helper(c, registry); where.Helper != "" {
			// docker looks up which registries there are in auths.
			c.auths[key(registry)] = json.RawMessage("{}")
			return helperStore(ctx, where.Helper, key(registry), cred)
		}
		e := entry{IdentityToken: cred.IdentityToken, RegistryToken: cred.RegistryToken}
		if cred.Username != "" || cred.Password != "" {
			e.Auth = base64.StdEncoding.EncodeToString([]byte(cred.Username + ":" + cred.Password))
		}
		raw, err := json.Marshal(e)
		if name, _, ok := c.find(registry, ""); ok {
			delete(c.auths, name)
		}
		c.auths[key(registry)] = raw
		return err
	})
	return where, err
}

// Remove forgets the credential of a registry, in every file that has it. It fails with
// ErrNone if none has.
func Remove(ctx context.Context, registry string) ([]Where, error) {
	all, err := files()
	if err != nil {
		return nil, err
	}
	var removed []Where
	for _, f := range all {
		had, err := f.remove(ctx, registry)
		if err != nil {
			return removed, err
		}
		if had != nil {
			removed = append(removed, *had)
		}
	}
	if removed == nil {
		return nil, fmt.Errorf("registry %s: %w", registry, ErrNone)
	}
	return removed, nil
}

// remove forgets the credential in one file; nil if it had none.
func (f file) remove(ctx context.Context, registry string) (*Where, error) {
	c, err := f.read()
	if err != nil {
		return nil, err
	}
	helper := f.helper(c, registry)
	_, _, listed := c.find(registry, "")
	kept := Credential{}
	if helper != "" {
		if kept, err = helperGet(ctx, helper, key(registry)); err != nil {
			return nil, err
		}
	}
	if !listed && kept == (Credential{}) {
		return nil, nil
	}
	if kept != (Credential{}) {
		if err := helperErase(ctx, helper, key(registry)); err != nil {
			return nil, err
		}
	}
	where := &Where{File: f.path, Helper: helper}
	if !listed {
		return where, nil
	}
	return where, f.change(ctx, func(c *content) error {
		for name, _, ok := c.find(registry, ""); ok; name, _, ok = c.find(registry, "") {
			delete(c.auths, name)
		}
		return nil
	})
}

// change replaces the file by one that was changed. Two that do so at once wait for
// each other.
func (f file) change(ctx context.Context, change func(*content) error) error {
	if real, err := filepath.EvalSymlinks(f.path); err == nil {
		f.path = real
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return err
	}
	lock, err := durable.Acquire(ctx, f.path+".lock", durable.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	c, err := f.read()
	if err != nil {
		return err
	}
	if err := change(c); err != nil {
		return err
	}
	data, err := c.encode()
	if err != nil {
		return err
	}
	return durable.WriteFile(f.path, data, durable.Options{Mode: 0o600})
}

// encode writes the content down, with the fields that are not ours.
func (c *content) encode() ([]byte, error) {
	auths, err := json.Marshal(c.auths)
	if err != nil {
		return nil, err
	}
	c.rest["auths"] = auths
	data, err := json.MarshalIndent(c.rest, "", "\t")
	return append(data, '\n'), err
}
