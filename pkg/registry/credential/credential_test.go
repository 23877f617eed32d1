package credential

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// home is a user's home directory without anything in it.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG"} {
		t.Setenv(name, "")
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// helper installs a credential helper that keeps what it gets in a directory, and writes
// its arguments down.
func helper(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := `#!/bin/sh
echo "$0 $*" >>` + dir + `/arguments
read -r input
case $1 in
store) echo "$input" >` + dir + `/kept;;
get) test -e ` + dir + `/kept && cat ` + dir + `/kept && exit; echo "credentials not found in native keychain"; exit 1;;
erase) rm ` + dir + `/kept;;
esac
`
	write(t, filepath.Join(dir, "docker-credential-"+name), script)
	if err := os.Chmod(filepath.Join(dir, "docker-credential-"+name), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func expect(t *testing.T, registry string, want Credential) {
	t.Helper()
	if got, err := Find(t.Context(), registry, ""); err != nil || got != want {
		t.Errorf("%s: found %#v %v, want %#v", registry, got, err, want)
	}
}

func TestFilesAreAskedInOrder(t *testing.T) {
	dir := home(t)
	run := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", run)
	auth := func(user string) string {
		return `{"auths":{"a.example":{"auth":"` + base64.StdEncoding.EncodeToString([]byte(user+":p")) + `"}}}`
	}
	expect(t, "a.example", Credential{})
	for _, step := range []struct{ path, user string }{
		{filepath.Join(dir, ".docker/config.json"), "docker"},
		{filepath.Join(dir, ".config/containers/auth.json"), "config"},
		{filepath.Join(run, "containers/auth.json"), "run"},
	} {
		write(t, step.path, auth(step.user))
		expect(t, "a.example", Credential{Username: step.user, Password: "p"})
	}
	named := filepath.Join(t.TempDir(), "auth.json")
	t.Setenv("REGISTRY_AUTH_FILE", named)
	write(t, named, auth("named"))
	expect(t, "a.example", Credential{Username: "named", Password: "p"})
}

func TestEveryFormOfAnEntryIsRead(t *testing.T) {
	dir := home(t)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	write(t, filepath.Join(dir, ".docker/config.json"), `{"auths":{
"https://index.docker.io/v1/":{"auth":"`+b64("hub:p")+`"},
"https://old.example/v2/":{"username":"old","password":"q"},
"colon.example":{"auth":"`+b64("u:p:with:colons")+`"},
"token.example":{"auth":"`+b64("u:")+`","identitytoken":"refresh"},
"bearer.example":{"registrytoken":"bearer"},
"empty.example":{}
}}`)
	expect(t, "docker.io", Credential{Username: "hub", Password: "p"})
	expect(t, "registry-1.docker.io", Credential{Username: "hub", Password: "p"})
	expect(t, "old.example", Credential{Username: "old", Password: "q"})
	expect(t, "colon.example", Credential{Username: "u", Password: "p:with:colons"})
	expect(t, "token.example", Credential{Username: "u", IdentityToken: "refresh"})
	expect(t, "bearer.example", Credential{RegistryToken: "bearer"})
	expect(t, "empty.example", Credential{})
	expect(t, "other.example", Credential{})
	expect(t, "example", Credential{})
}

func TestSaveKeepsWhatIsNotOurs(t *testing.T) {
	dir := home(t)
	path := filepath.Join(dir, ".docker/config.json")
	write(t, path, `{"HttpHeaders":{"X":"y"},"auths":{"b.example":{"auth":"`+base64.StdEncoding.EncodeToString([]byte("b:b"))+`"}},"psFormat":"{{.ID}}"}`)
	where, err := Save(t.Context(), "a.example:5000", Credential{Username: "u", Password: "secret"})
	if err != nil || where.File != path || where.Helper != "" {
		t.Fatalf("%+v, %v", where, err)
	}
	expect(t, "a.example:5000", Credential{Username: "u", Password: "secret"})
	expect(t, "b.example", Credential{Username: "b", Password: "b"})
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), `"X": "y"`) || !strings.Contains(string(data), `"psFormat": "{{.ID}}"`) {
		t.Errorf("the rest is gone: %s, %v", data, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestSaveMakesDirectoryAndFileForTheOwnerAlone(t *testing.T) {
	dir := home(t)
	if _, err := Save(t.Context(), "a.example", Credential{Username: "u", Password: "p"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{".docker": 0o700, ".docker/config.json": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if _, err := Save(t.Context(), "a.example", Credential{Username: "u:v", Password: "p"}); err == nil {
		t.Error("a user name with a colon was kept")
	}
}

func TestSaveWritesThroughLink(t *testing.T) {
	dir := home(t)
	real := filepath.Join(t.TempDir(), "real.json")
	write(t, real, "{}")
	if err := os.MkdirAll(filepath.Join(dir, ".docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, filepath.Join(dir, ".docker/config.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := Save(t.Context(), "a.example", Credential{Username: "u", Password: "p"}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(filepath.Join(dir, ".docker/config.json")); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	expect(t, "a.example", Credential{Username: "u", Password: "p"})
}

// Logins at the same time lose none.
func TestSavesAtOnce(t *testing.T) {
	home(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, err := Save(context.Background(), fmt.Sprintf("r%d.example", i), Credential{Username: "u", Password: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range 8 {
		expect(t, fmt.Sprintf("r%d.example", i), Credential{Username: "u", Password: fmt.Sprint(i)})
	}
}

// A helper gets secrets through a pipe and never as an argument.
func TestHelperKeepsSecrets(t *testing.T) {
	for name, config := range map[string]string{"credsStore": `{"credsStore":"keeper"}`, "credHelpers": `{"credHelpers":{"a.example":"keeper"}}`} {
		t.Run(name, func(t *testing.T) {
			dir := home(t)
			kept := helper(t, "keeper")
			path := filepath.Join(dir, ".docker/config.json")
			write(t, path, config)
			expect(t, "a.example", Credential{})
			for _, c := range []Credential{{Username: "u", Password: "secret"}, {IdentityToken: "secret"}} {
				where, err := Save(t.Context(), "a.example", c)
				if err != nil || where.Helper != "keeper" {
					t.Fatalf("%+v, %v", where, err)
				}
				expect(t, "a.example", c)
			}
			arguments, err := os.ReadFile(filepath.Join(kept, "arguments"))
			if err != nil || strings.Contains(string(arguments), "secret") {
				t.Errorf("arguments %s, %v", arguments, err)
			}
			data, err := os.ReadFile(path)
			if err != nil || strings.Contains(string(data), "secret") {
				t.Errorf("the file has the secret: %s, %v", data, err)
			}
			removed, err := Remove(t.Context(), "a.example")
			if err != nil || len(removed) != 1 || removed[0].Helper != "keeper" {
				t.Errorf("%+v, %v", removed, err)
			}
			expect(t, "a.example", Credential{})
			if _, err := Remove(t.Context(), "a.example"); !errors.Is(err, ErrNone) {
				t.Errorf("a second time: %v", err)
			}
		})
	}
}

func TestRemoveForgetsEverywhere(t *testing.T) {
	dir := home(t)
	auth := `{"auths":{"a.example":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("u:p")) + `"},"b.example":{}}}`
	write(t, filepath.Join(dir, ".docker/config.json"), auth)
	write(t, filepath.Join(dir, ".config/containers/auth.json"), auth)
	removed, err := Remove(t.Context(), "a.example")
	if err != nil || len(removed) != 2 {
		t.Errorf("%+v, %v", removed, err)
	}
	expect(t, "a.example", Credential{})
	data, err := os.ReadFile(filepath.Join(dir, ".docker/config.json"))
	if err != nil || !strings.Contains(string(data), "b.example") {
		t.Errorf("%s, %v", data, err)
	}
}

// What is broken is named, and what is in it is not told.
func TestErrorsTellNoSecrets(t *testing.T) {
	dir := home(t)
	path := filepath.Join(dir, ".docker/config.json")
	for _, text := range []string{
		`{"auths":{"a.example":{"auth":"secret!"}}}`, `{"auths":"secret"}`, `secret`, `["secret"]`,
		`{"auths":{"a.example":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("secret")) + `"}}}`,
		`{"auths":{"a.example":"secret"}}`, `{"credHelpers":"secret"}`,
	} {
		write(t, path, text)
		_, err := Find(t.Context(), "a.example", "")
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
	write(t, path, `{"credsStore":"absent"}`)
	if _, err := Find(t.Context(), "a.example", ""); err == nil || !strings.Contains(err.Error(), "docker-credential-absent") {
		t.Errorf("no helper: %v", err)
	}
	write(t, path, `{"credsStore":"../../bin/sh"}`)
	if _, err := Find(t.Context(), "a.example", ""); err == nil || !strings.Contains(err.Error(), "no name of a program") {
		t.Errorf("a path for a helper: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v", Credential{Password: "secret"}, Credential{IdentityToken: "secret"}, Credential{RegistryToken: "secret"}); strings.Contains(text, "secret") {
		t.Errorf("printed %s", text)
	}
}

func TestHelperThatTalksTooMuchIsCut(t *testing.T) {
	dir := home(t)
	bin := t.TempDir()
	write(t, filepath.Join(bin, "docker-credential-loud"), "#!/bin/sh\nread -r x\nwhile echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; do :; done\n")
	if err := os.Chmod(filepath.Join(bin, "docker-credential-loud"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	write(t, filepath.Join(dir, ".docker/config.json"), `{"credsStore":"loud"}`)
	if _, err := Find(t.Context(), "a.example", ""); err == nil || len(err.Error()) > 500 {
		t.Errorf("got %v", err)
	}
}

// Whatever is in a file, reading it gives a credential or an error without its text.
func FuzzFile(f *testing.F) {
	f.Add(`{"auths":{"a.example":{"auth":"dTpw"}},"credHelpers":{}}`)
	f.Add(`{"auths":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "auth.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := file{path: path}.read()
		if err != nil {
			return
		}
		if _, raw, ok := c.find("a.example", "team/app"); ok {
			decode(path, raw)
		}
		if _, err := c.encode(); err != nil {
			t.Error(err)
		}
	})
}

// Entries may be for a part of a registry: the longest that a repository is in counts, as containers-auth.json(5) has it. Podman
// puts them where nobody's XDG_RUNTIME_DIR is, too.
func TestEntriesForPartsOfARegistry(t *testing.T) {
	home(t)
	old := runContainers
	t.Cleanup(func() { runContainers = old })
	runContainers = t.TempDir()
	entry := func(name string) string {
		return `{"auth": "` + base64.StdEncoding.EncodeToString([]byte(name+":x")) + `"}`
	}
	write(t, filepath.Join(runContainers, fmt.Sprint(os.Getuid()), "auth.json"), `{"auths": {
		"a.example": `+entry("all")+`, "a.example/team": `+entry("team")+`, "a.example/team/app": `+entry("app")+`,
		"b.example:5000/team": `+entry("port")+`, "docker.io/me": `+entry("me")+`, "https://index.docker.io/v1/": `+entry("hub")+`}}`)
	for name, want := range map[string]string{
		"a.example/other": "all", "a.example/team": "team", "a.example/team/other": "team", "a.example/team/app": "app",
		"a.example/team/app/more": "app", "a.example/team/application": "team", "a.example/teams/app": "all", "a.example/": "all",
		"b.example:5000/team/x": "port", "b.example:5000/x": "", "b.example/team/x": "",
		"registry-1.docker.io/me/x": "me", "registry-1.docker.io/library/x": "hub",
	} {
		registry, repository, _ := strings.Cut(name, "/")
		if got, err := Find(t.Context(), registry, repository); err != nil || got.Username != want {
			t.Errorf("%s: %q, %v, want %q", name, got.Username, err, want)
		}
	}
}
