package testkit

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// A hierarchy that lost its mount while it had a group is ended once the group is gone.
func TestReleaseHierarchies(t *testing.T) {
	RequireRoot(t)
	lock, err := LockMachine()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	const options = "none,name=containr-test"
	point := t.TempDir()
	mount := func() {
		t.Helper()
		if err := syscall.Mount("cgroup", point, "cgroup", 0, options); err != nil {
			t.Skipf("the kernel has no cgroups of version 1: %v", err)
		}
	}
	unmount := func() {
		t.Helper()
		if err := syscall.Unmount(point, 0); err != nil {
			t.Fatal(err)
		}
	}
	mount()
	group := filepath.Join(point, "group")
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	unmount()
	if unseen, err := unseenHierarchies(); err != nil || !slices.Contains(unseen, options) {
		t.Fatalf("mounted nowhere: %q, %v", unseen, err)
	}
	mount()
	if err := os.Remove(group); err != nil {
		t.Fatal(err)
	}
	unmount()
	if err := ReleaseHierarchies(); err != nil {
		t.Fatal(err)
	}
	if unseen, err := unseenHierarchies(); err != nil || slices.Contains(unseen, options) {
		t.Errorf("mounted nowhere afterwards: %q, %v", unseen, err)
	}
}
