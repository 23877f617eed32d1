package security

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/secret"
)

// What a secret holds is in no file below the state root, whatever a container with it does: not while it runs, not when it has ended,
// not in an image that is made of it, nor in the command line of any process.
func TestSecretsAreWrittenDownNowhere(t *testing.T) {
	begin(t)
	const content = "swordfish-7d1e"
	root := t.TempDir()
	e := engine.New(engine.Options{Root: root})
	if _, err := e.CreateSecret(t.Context(), secret.Secrets, engine.SecretRequest{Name: "db", Content: []byte(content)}); err != nil {
		t.Fatal(err)
	}
	nowhere := func(when string) {
		t.Helper()
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if err == nil && (bytes.Contains(data, []byte(content)) || bytes.Contains(data, []byte(base64.StdEncoding.EncodeToString([]byte(content))))) {
				t.Errorf("%s: it is in %s", when, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if data, err := os.ReadFile(l); err == nil && bytes.Contains(data, []byte(content)) {
				t.Errorf("%s: it is in %s", when, l)
			}
		}
	}
	nowhere("kept")
	secrets := []container.Secret{{Name: "db", Target: "/run/secrets/db", Mode: 0o400}, {Name: "db", Target: "/etc/key", Mode: 0o444}, {Name: "db", Env: "PASSWORD"}}
	seen := false
	report, err := runBy(t, e, container.Config{Secrets: secrets}, attempts("read:/run/secrets/db", "read:/etc/key", "write:/run/secrets/db", "create:/run/secrets/x")...)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Env {
		seen = seen || v == "PASSWORD="+content
	}
	if len(report.Tries) != 4 || report.Tries[0].Value != content || report.Tries[1].Value != content || report.Tries[2].OK || report.Tries[3].OK || !seen {
		t.Errorf("the container found %+v, environment %v", report.Tries, report.Env)
	}
	nowhere("used")
	exit, err := e.Run(t.Context(), engine.RunRequest{Config: container.Config{Rootfs: testkit.Rootfs(t), Name: "box", Args: []string{"/probe", "-exit", "0"}, Secrets: secrets}})
	if err != nil || exit.Code != 0 {
		t.Fatalf("%+v, %v", exit, err)
	}
	nowhere("ended")
	// What somebody else has made of the file is refused, and told without its content.
	path := filepath.Join(root, "secrets", "db.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte(`"sealed": "`), []byte(`"sealed": "AAAA`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = runBy(t, e, container.Config{Secrets: secrets[:1]}); err == nil || !strings.Contains(err.Error(), "cannot be opened") || strings.Contains(err.Error(), content) {
		t.Errorf("a secret whose file was changed: %v", err)
	}
	if _, err := e.RemoveSecret(t.Context(), secret.Secrets, "db"); err == nil {
		t.Error("the secret of a container was removed")
	}
	if _, err := e.Remove(t.Context(), engine.RemoveRequest{Container: "box"}); err != nil {
		t.Error(err)
	}
	if _, err := e.RemoveSecret(t.Context(), secret.Secrets, "db"); err != nil {
		t.Error(err)
	}
}
