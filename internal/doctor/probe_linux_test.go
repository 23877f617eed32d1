package doctor

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/procfs"
)

// TestProbeAgreesWithTheKernel holds what was found against other places where the kernel tells it.
func TestProbeAgreesWithTheKernel(t *testing.T) {
	dir := t.TempDir()
	m := Probe(context.Background(), Options{Root: filepath.Join(dir, "not", "made")})
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if m.Release != strings.TrimSpace(string(release)) {
		t.Errorf("the release is %q, and /proc says %q", m.Release, release)
	}
	if !slices.Contains(m.FileSystems, "proc") || !slices.Contains(m.Namespaces, "mnt") {
		t.Errorf("file systems %v, namespaces %v", m.FileSystems, m.Namespaces)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if m.Storage.Size != st.Blocks*uint64(st.Bsize) || !m.Storage.Writable || m.Storage.Error != "" {
		t.Errorf("%+v, and statfs says %+v", m.Storage, st)
	}
	mounts, err := procfs.Mountinfo(0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(mounts, func(x procfs.Mount) bool { return x.Type == m.Storage.FileSystem }) {
		t.Errorf("the state root is on %q, of which there is no mount", m.Storage.FileSystem)
	}
	if _, err := os.Stat(filepath.Join(dir, "not")); !os.IsNotExist(err) {
		t.Errorf("looking has made something: %v", err)
	}
	m = Probe(context.Background(), Options{Root: "/proc/self/status/x"})
	if m.Storage.Error == "" {
		t.Error("a state root below a file has no error")
	}
}

func TestFileSystemOf(t *testing.T) {
	const table = "22 1 8:1 / / rw - ext4 /dev/a rw\n23 22 0:5 / /var rw - xfs /dev/b rw\n24 23 0:6 / /var/a\\040b rw shared:1 - btrfs /dev/c rw\n25 22 0:7 / /var rw - tmpfs none rw\nnonsense\n"
	for path, want := range map[string]string{"/home": "ext4", "/var/lib": "tmpfs", "/var/a b/c": "btrfs", "/variable": "ext4"} {
		if got := fileSystemOf(table, path); got != want {
			t.Errorf("%s is on %q, want %q", path, got, want)
		}
	}
}

func TestHelper(t *testing.T) {
	path := filepath.Join(t.TempDir(), "newuidmap")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if h := helper(path); h.Path != path || h.Privileged {
		t.Errorf("a plain program: %+v", h)
	}
	if os.Geteuid() == 0 {
		if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
			t.Fatal(err)
		}
		if h := helper(path); !h.Privileged {
			t.Errorf("a setuid program: %+v", h)
		}
	}
	if h := helper(""); h != (Helper{}) {
		t.Errorf("no program: %+v", h)
	}
}

func TestDistribution(t *testing.T) {
	d := parseRelease("# os\nID=ubuntu\nID_LIKE=\"debian x\"\nPRETTY_NAME='Ubuntu 24.04'\n")
	if d.ID != "ubuntu" || !d.is("debian") || d.is("fedora") || d.Name != "Ubuntu 24.04" {
		t.Errorf("%+v", d)
	}
}

func TestRegistryIsAsked(t *testing.T) {
	for status, good := range map[int]bool{http.StatusOK: true, http.StatusUnauthorized: true, http.StatusNotFound: false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				t.Errorf("asked for %s", r.URL)
			}
			w.WriteHeader(status)
		}))
		if r := askRegistry(context.Background(), s.URL); (r.Error == "") != good {
			t.Errorf("%d: %+v", status, r)
		}
		s.Close()
		if r := askRegistry(context.Background(), s.URL); r.Error == "" {
			t.Errorf("a server that is gone: %+v", r)
		}
	}
}
