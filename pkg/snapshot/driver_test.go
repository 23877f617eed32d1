package snapshot_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/snapshottest"
	"github.com/containr/containr/pkg/snapshot"
)

// Each driver is held to the same rules, on a file system that it can work on.
func TestDrivers(t *testing.T) {
	for _, c := range []struct {
		name   string
		driver snapshot.Driver
		on     func(t *testing.T) string // makes a file system, and says where
	}{
		{"overlay", snapshot.Overlay, onDisk},
		{"erofs", snapshot.Erofs, onDisk},
		{"fuse-overlayfs", snapshot.Fuse, withFuse},
		{"native", snapshot.Native, onDisk},
		{"native-on-overlay", snapshot.Native, onOverlay},
		{"btrfs", snapshot.Btrfs, onBtrfs},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !inOwnNamespace(t) {
				return
			}
			dir := c.on(t)
			snapshottest.Run(t, func(t testing.TB, o snapshot.Options) (*snapshot.Store, string) {
				o.Driver = c.driver
				beside, err := os.MkdirTemp(dir, "")
				if err != nil {
					t.Fatal(err)
				}
				s, err := snapshot.Open(filepath.Join(beside, "snapshots"), o)
				if err != nil {
					t.Fatal(err)
				}
				return s, beside
			})
		})
	}
}

const namespaceVariable = "SNAPSHOT_TEST_NAMESPACE"

// inOwnNamespace runs the calling test once more in a process with a mount namespace of its own, so that nothing is left
// mounted if the test is killed, and reports whether this is that process.
func inOwnNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v=true")
	cmd.Env = append(os.Environ(), namespaceVariable+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	return false
}

func onDisk(t *testing.T) string { return t.TempDir() }

// withFuse is a directory for fuse-overlayfs, if that is there.
func withFuse(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("fuse-overlayfs"); err != nil {
		t.Skip("fuse-overlayfs is not installed")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no FUSE: %v", err)
	}
	f.Close()
	return t.TempDir()
}

// onOverlay makes an overlay, as the root of a container is one.
func onOverlay(t *testing.T) string {
	t.Helper()
	base := t.TempDir()
	for _, dir := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mountFor(t, "overlay", base+"/merged", "overlay", "lowerdir="+base+"/lower,upperdir="+base+"/upper,workdir="+base+"/work")
	return base + "/merged"
}

// onBtrfs makes a btrfs in a file.
func onBtrfs(t *testing.T) string {
	t.Helper()
	mkfs, err := exec.LookPath("mkfs.btrfs")
	if err != nil {
		t.Skip("mkfs.btrfs is not installed")
	}
	base := t.TempDir()
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "btrfs")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 1<<30); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(mkfs, "--quiet", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.btrfs: %v: %s", err, said)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("mount", "-t", "btrfs", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("this machine cannot mount a btrfs: %v: %s", err, said)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

func mountFor(t *testing.T, source, target, kind, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, 0, data); err != nil {
		t.Fatalf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() { unmount(t, target) })
}

func unmount(t *testing.T, dir string) {
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("unmount %s: %v", dir, err)
	}
}
