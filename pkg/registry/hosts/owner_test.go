package hosts

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Root with the environment of another user must not have that user's mirrors.
func TestAnotherUsersMirrorsAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can give files away")
	}
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	file := filepath.Join(home, "containr", "registries.toml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "[[registry]]\nprefix = \"example.com\"\n[[registry.mirror]]\nlocation = \"evil.example\"\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Usual()); err != nil {
		t.Fatalf("one's own: %v", err)
	}
	if err := os.Chown(file, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Usual()); !errors.Is(err, ErrConfig) {
		t.Errorf("another's: %v, want a refusal", err)
	}
	t.Setenv(Variable, file)
	if _, err := Load(Usual()); err != nil {
		t.Errorf("another's, by name: %v", err)
	}
}
