package hosts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// write makes files below a directory, and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// loaded reads the files of a test: user.toml, system.toml, registries.conf, certs.d.
func loaded(t *testing.T, files map[string]string) (*Config, string, error) {
	t.Helper()
	dir := write(t, files)
	in := func(name string) string { return filepath.Join(dir, name) }
	c, err := Load(Options{Own: []string{in("user.toml"), in("system.toml")}, Others: []string{in("registries.conf")}, Dirs: []string{in("certs.d")}})
	return c, dir, err
}

// tell prints endpoints shortly.
func tell(endpoints []Endpoint) string {
	var out []string
	for _, e := range endpoints {
		s := e.Scheme + " " + e.Host + e.Root + "/" + e.Repository
		if e.Namespace != "" {
			s += "?ns=" + e.Namespace
		}
		if e.Mirror {
			s += " mirror"
		}
		if e.Insecure {
			s += " insecure"
		}
		if e.Push {
			s += " push"
		}
		if e.Pull != "" {
			s += " " + string(e.Pull)
		}
		out = append(out, strings.TrimSpace(s))
	}
	return strings.Join(out, "\n")
}

func TestEndpoints(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		image string
		want  string
	}{
		"nothing said": {nil, "registry.example/team/app", "registry.example/v2/team/app push"},
		"docker hub":   {nil, "docker.io/library/debian", "registry-1.docker.io/v2/library/debian push"},
		"mirrors in order": {map[string]string{"user.toml": `
[[registry]]
prefix = "docker.io"
[[registry.mirror]]
location = "one.example/hub"
insecure = true
[[registry.mirror]]
location = "two.example:5000"
pull = "digest"
`}, "docker.io/library/debian", "one.example/v2/hub/library/debian mirror insecure\ntwo.example:5000/v2/library/debian mirror digest\nregistry-1.docker.io/v2/library/debian push"},
		"rewrite": {map[string]string{"user.toml": `
[[registry]]
prefix = "old.example/team"
location = "new.example/archive/"
`}, "old.example/team/app", "new.example/v2/archive/app push"},
		"a prefix ends at a component": {map[string]string{"user.toml": `
[[registry]]
prefix = "old.example/team"
location = "new.example"
`}, "old.example/teamwork/app", "old.example/v2/teamwork/app push"},
		"the longest prefix wins": {map[string]string{"user.toml": `
[[registry]]
prefix = "a.example"
insecure = true
[[registry]]
prefix = "a.example/x"
location = "b.example/x"
`}, "a.example/x/y", "b.example/v2/x/y push"},
		"the user's precedes the system's": {map[string]string{
			"user.toml":   "[[registry]]\nprefix = \"a.example\"\ninsecure = true\n",
			"system.toml": "[[registry]]\nprefix = \"a.example\"\nblocked = true\n",
		}, "a.example/x", "a.example/v2/x insecure push"},
		"wildcard": {map[string]string{"user.toml": "[[registry]]\nprefix = \"*.corp.example\"\ninsecure = true\n"},
			"r1.corp.example/x", "r1.corp.example/v2/x insecure push"},
		"wildcard with location": {map[string]string{"user.toml": "[[registry]]\nprefix = \"*.corp.example\"\nlocation = \"all.example/corp\"\n"},
			"r1.corp.example/x", "all.example/v2/corp/x push"},
		"registries.conf": {map[string]string{"registries.conf": `
unqualified-search-registries = ["docker.io"]
short-name-mode = "enforcing"
[[registry]]
location = "a.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.example"
[[registry.mirror]]
location = "n.example"
pull-from-mirror = "tag-only"
`}, "a.example/x", "m.example/v2/x mirror digest\nn.example/v2/x mirror tag\na.example/v2/x push"},
		"registries.conf.d precedes it": {map[string]string{
			"registries.conf":             "[[registry]]\nlocation = \"a.example\"\nblocked = true\n",
			"registries.conf.d/10-x.conf": "[[registry]]\nlocation = \"a.example\"\ninsecure = true\n",
		}, "a.example/x", "a.example/v2/x insecure push"},
		"hosts.toml": {map[string]string{"certs.d/docker.io/hosts.toml": `
server = "https://docker.io"
[host."http://mirror.example:5000"]
  capabilities = ["pull", "resolve"]
[host."https://harbor.example/v2/hub"]
  capabilities = ["pull"]
  override_path = true
  skip_verify = true
`}, "docker.io/library/debian", "http mirror.example:5000/v2/library/debian?ns=docker.io mirror\n" +
			"https harbor.example/v2/hub/library/debian?ns=docker.io mirror insecure digest\nhttps registry-1.docker.io/v2/library/debian push"},
		"hosts.toml with a port": {map[string]string{"certs.d/a.example_5000_/hosts.toml": "server = \"http://b.example\"\n"},
			"a.example:5000/x", "http b.example/v2/x push"},
		"hosts.toml for all": {map[string]string{"certs.d/_default/hosts.toml": "[host.\"https://m.example\"]\n"},
			"a.example/x", "https m.example/v2/x?ns=a.example mirror push\nhttps a.example/v2/x push"},
	} {
		t.Run(name, func(t *testing.T) {
			config, _, err := loaded(t, c.files)
			if err != nil {
				t.Fatal(err)
			}
			domain, repository, _ := strings.Cut(c.image, "/")
			got, err := config.Endpoints(domain, repository)
			if err != nil || tell(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s\n%v", tell(got), c.want, err)
			}
		})
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"syntax":       {"user.toml", "[[registry]\n", "user.toml: toml: line "},
		"misspelt":     {"user.toml", "[[registry]]\nprefix = \"a.example\"\ninsecur = true\n", `unknown key "registry.insecur": did you mean insecure?`},
		"no prefix":    {"user.toml", "[[registry]]\ninsecure = true\n", "registry 1: it has no prefix"},
		"URL":          {"user.toml", "[[registry]]\nprefix = \"a\"\nlocation = \"https://b\"\n", "is a URL"},
		"no location":  {"user.toml", "[[registry]]\nprefix = \"a\"\n[[registry.mirror]]\ninsecure = true\n", "mirror 1 has no location"},
		"pull":         {"user.toml", "[[registry]]\nprefix = \"a\"\n[[registry.mirror]]\nlocation = \"b\"\npull = \"never\"\n", `pull "never" is none of all, digest, tag`},
		"half a pair":  {"user.toml", "[[registry]]\nprefix = \"a\"\nclient-cert = \"x\"\n", "client-cert and client-key belong together"},
		"other's keys": {"user.toml", "[[registry]]\nprefix = \"a\"\nmirror-by-digest-only = true\n", "are keys of registries.conf"},
		"version 1":    {"registries.conf", "[registries.search]\nregistries = ['a']\n", "version 1 of the format"},
		"type":         {"user.toml", "[[registry]]\nprefix = 7\n", "user.toml: toml: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := loaded(t, map[string]string{c.file: c.text})
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	config, _, err := loaded(t, map[string]string{"certs.d/a.example/hosts.toml": "server = 7"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Endpoints("a.example", "x"); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "hosts.toml") {
		t.Errorf("broken hosts.toml: %v", err)
	}
	if _, err := config.Endpoints("b.example", "x"); err != nil {
		t.Errorf("another registry: %v", err)
	}
}

func TestBlockedNameIsRefused(t *testing.T) {
	config, dir, err := loaded(t, map[string]string{"system.toml": "[[registry]]\nprefix = \"a.example/evil\"\nblocked = true\n"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.Endpoints("a.example", "evil/app")
	want := fmt.Sprintf("a.example/evil/app is blocked by the entry %q of %s/system.toml", "a.example/evil", dir)
	if blocked := new(BlockedError); !errors.As(err, &blocked) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, err := config.Endpoints("a.example", "good/app"); err != nil {
		t.Error(err)
	}
}

func TestCertificatesAreFound(t *testing.T) {
	config, dir, err := loaded(t, map[string]string{
		"user.toml":                      "[[registry]]\nprefix = \"b.example\"\nca = \"site.pem\"\nclient-cert = \"me.pem\"\nclient-key = \"/abs/me.key\"\n",
		"certs.d/a.example:5000/ca.crt":  "",
		"certs.d/a.example:5000/me.cert": "",
		"certs.d/a.example:5000/me.key":  "",
		"certs.d/_default/hosts.toml":    "",
		"certs.d/e.example/ca.crt":       "",
		"certs.d/c.example/hosts.toml":   "ca = [\"x.pem\"]\nclient = [[\"me.pem\", \"me.key\"], [\"both.pem\", \"\"]]\n[header]\nX-Site = \"here\"\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for domain, want := range map[string]Endpoint{
		"a.example:5000": {CA: []string{at("certs.d/a.example:5000/ca.crt")}, Client: []KeyPair{{at("certs.d/a.example:5000/me.cert"), at("certs.d/a.example:5000/me.key")}}},
		"b.example":      {CA: []string{at("site.pem")}, Client: []KeyPair{{at("me.pem"), "/abs/me.key"}}},
		"c.example": {CA: []string{at("certs.d/c.example/x.pem")}, Client: []KeyPair{
			{at("certs.d/c.example/me.pem"), at("certs.d/c.example/me.key")}, {at("certs.d/c.example/both.pem"), at("certs.d/c.example/both.pem")}}},
		"d.example": {},
		"e.example": {CA: []string{at("certs.d/e.example/ca.crt")}}, // hosts.toml for all says nothing of it
	} {
		got, err := config.Endpoints(domain, "x")
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0].CA, want.CA) || !reflect.DeepEqual(got[0].Client, want.Client) {
			t.Errorf("%s: %+v, %v", domain, got, err)
		}
		if domain == "c.example" && got[0].Header.Get("X-Site") != "here" {
			t.Errorf("headers %v", got[0].Header)
		}
	}
}

func TestPullsServes(t *testing.T) {
	for p, want := range map[Pulls][2]bool{PullsAll: {true, true}, PullsDigest: {false, true}, PullsTag: {true, false}, PullsNone: {false, false}} {
		if got := [2]bool{p.Serves(true), p.Serves(false)}; got != want {
			t.Errorf("%q: %v", p, got)
		}
	}
}

// Whatever is in the files, reading them ends with endpoints or an error, and every
// endpoint has a host.
func FuzzConfig(f *testing.F) {
	f.Add("[[registry]]\nprefix = \"docker.io\"\n[[registry.mirror]]\nlocation = \"m\"\n", "docker.io/x")
	f.Add("[[registry]]\nprefix = \"*.io\"\nlocation = \"a/b\"\n", "docker.io/x")
	f.Fuzz(func(t *testing.T, text, name string) {
		file := filepath.Join(t.TempDir(), "r.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Options{Own: []string{file}})
		if err != nil {
			return
		}
		domain, repository, _ := strings.Cut(name, "/")
		endpoints, err := c.Endpoints(domain, repository)
		if err == nil && len(endpoints) == 0 {
			t.Error("no error and no endpoint")
		}
		_, _ = parseHosts(file, []byte(text)).endpoints(Default(domain, repository))
	})
}
