package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// The group above that is there, and counts, is the nearest one.
func TestKillsAbove(t *testing.T) {
	slice := filepath.Join(t.TempDir(), "user.slice")
	if err := os.MkdirAll(filepath.Join(slice, "without"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(slice, "memory.events"), []byte("max 7\noom 3\noom_kill 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"without/some.scope", "some.scope", "to/come/some.scope"} {
		if above, kills := KillsAbove(filepath.Join(slice, dir)); above != slice || kills != 2 {
			t.Errorf("%s: %q, %d", dir, above, kills)
		}
	}
	if above, kills := KillsAbove("/nothing/here/some.scope"); above != "" || kills != 0 {
		t.Errorf("nothing counts, but: %q, %d", above, kills)
	}
}
