package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const example = `# a comment = nothing
run.init = true

[global]
root = "/data"

[run]
memory = "64m"
cpus = 1.5
pids-limit = 100
"dns" = [ "192.0.2.1",
	"192.0.2.2" ]
env = []

[ pull ]
quiet = true
`

func TestParse(t *testing.T) {
	// TOML lets a table be opened once only, so the first line is another table's.
	got, err := Parse("f", strings.Replace(example, "run.init", "images.digests", 1))
	if err != nil {
		t.Fatal(err)
	}
	want := []Value{
		{"images", "digests", []string{"true"}, "f:2"},
		{"global", "root", []string{"/data"}, "f:5"},
		{"run", "memory", []string{"64m"}, "f:8"}, {"run", "cpus", []string{"1.5"}, "f:9"}, {"run", "pids-limit", []string{"100"}, "f:10"},
		{"run", "dns", []string{"192.0.2.1", "192.0.2.2"}, "f:11"}, {"run", "env", []string{}, "f:13"},
		{"pull", "quiet", []string{"true"}, "f:16"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestParseRefuses names the line of what is wrong.
func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"[run]\nmemory = lots":                "f:2: ",
		"\nmemory = 1":                        "f:2: memory: a setting needs a table",
		"[run]\n\nx = 2026-01-01":             "f:3: run.x: use a text",
		"[run]\nx = [[1]]":                    "f:2: run.x: use a text",
		"[run]\nx = { y = 1 }":                "f:2: run.x: use a text",
		"[run]\nx = 1\nx = 2":                 "f:3: ",
		"[run.deep]\nx = 1":                   "run.deep: use a text",
		"[[run]]\nx = 1":                      "run: a setting needs a table",
		"[run]\nx = \"\x00\"":                 "f:2: ",
		"[run]\nx = 1\n[global]\nx = [1, {}]": "f:4: global.x",
	} {
		_, err := Parse("f", text)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	for _, none := range []string{"", path, filepath.Join(path, "x")} {
		if v, err := ReadFile(none); v != nil || err != nil {
			t.Errorf("%q: %v, error %v", none, v, err)
		}
	}
	if err := os.WriteFile(path, []byte(example), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(filepath.Join(path, "x")); err != nil {
		t.Errorf("below a file there is no file: %v", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "everybody may write it") {
		t.Errorf("a file of everybody's: %v", err)
	}
	if _, err := ReadFile(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if err := os.WriteFile(path+"2", make([]byte, maxFile+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path + "2"); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a large file: %v", err)
	}
}

func TestUserFile(t *testing.T) {
	for _, c := range []struct{ xdg, home, want string }{
		{"/x", "/h", "/x/containr/config.toml"}, {"x", "/h", "/h/.config/containr/config.toml"}, {"", "h", ""},
	} {
		t.Setenv("XDG_CONFIG_HOME", c.xdg)
		t.Setenv("HOME", c.home)
		if got := UserFile(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestTheLastWins: a source replaces the values of those before it, whole.
func TestTheLastWins(t *testing.T) {
	system := []Value{{"run", "dns", []string{"a", "b"}, "s:1"}, {"run", "init", []string{"true"}, "s:2"}}
	user := []Value{{"run", "dns", []string{"c"}, "u:1"}, {"pull", "quiet", []string{"true"}, "u:2"}}
	environment := Variables("run", []string{"memory", "init", "log-opt"}, func(name string) (string, bool) {
		v, ok := map[string]string{"CONTAINR_RUN_MEMORY": "1m", "CONTAINR_RUN_INIT": ""}[name]
		return v, ok
	})
	want := []Value{
		{"run", "dns", []string{"c"}, "u:1"}, {"run", "init", []string{"true"}, "s:2"}, {"pull", "quiet", []string{"true"}, "u:2"},
		{"run", "memory", []string{"1m"}, "CONTAINR_RUN_MEMORY"},
	}
	if diff := cmp.Diff(want, Merge(system, user, environment)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := VariableName(Global, "log-level"); got != "CONTAINR_LOG_LEVEL" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("[run]\nx = '''\n[y]\n'''\n")
	f.Fuzz(func(t *testing.T, text string) {
		values, err := Parse("f", text)
		if err != nil {
			return
		}
		for _, v := range values {
			if v.Section == "" || v.Texts == nil {
				t.Errorf("%q: %+v", text, v)
			}
		}
	})
}

// TestAnotherUsersFileIsRefused: root may have the HOME of another in its environment.
func TestAnotherUsersFileIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(example), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "it belongs to another user") {
		t.Errorf("error %v", err)
	}
}
