package ocicli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containr/containr/internal/testkit"
)

// A link that somebody has put where the file is written first leads nowhere.
func TestPIDFileIsNotWrittenThroughLinks(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "pid")
	testkit.WriteFile(t, victim, "mine", 0o644)
	if err := os.Symlink(victim, filepath.Join(dir, ".pid")); err != nil {
		t.Fatal(err)
	}
	if err := writePID(path, 77); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "77" {
		t.Errorf("pid file: %q, %v", text, err)
	}
	if text, _ := os.ReadFile(victim); string(text) != "mine" {
		t.Errorf("what the link led to has become %q", text)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
