package callers

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// removeCgroups removes the parent of a caller's containers in each hierarchy. What has a child, or a process, cannot
// be removed: so this also checks that no container's cgroup is left.
func removeCgroups(t *testing.T, parent string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		found, err := filepath.Glob(pattern + parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range found {
			if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a cgroup is left: %v", err)
			}
		}
	}
}
