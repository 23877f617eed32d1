package callers

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// podman returns podman, or buildah, with a storage of its own and containr-runtime.
func podman(t *testing.T, program string) caller {
	t.Helper()
	dir, err := os.MkdirTemp("", program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeStorage(t, dir) })
	c := caller{argv: []string{program, "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run")}}
	if program == "podman" {
		c.argv = append(c.argv, "--runtime", runtimePath(t), "--cgroup-manager", "cgroupfs", "--events-backend", "file",
			"--tmpdir", filepath.Join(dir, "tmp"))
	}
	return c
}

// removeStorage removes podman's storage. After the end of a container conmon starts a
// podman that cleans up, for which nobody waits: it may write still.
func removeStorage(t *testing.T, dir string) {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		unix.Unmount(filepath.Join(dir, "root", "overlay"), unix.MNT_DETACH) // its own, private mount
		err := os.RemoveAll(dir)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Error(err)
			return
		}
	}
}

func TestPodman(t *testing.T) {
	require(t, "podman", "conmon")
	up(t, "lo")
	p := podman(t, "podman")
	p.must(t, "import", "--change", "ENV="+imagePath, rootfs(t), "base")
	t.Run("run", p.run)
	t.Run("life", p.life)
	t.Run("limits", p.limits)
	t.Run("terminal", p.terminals)
	t.Run("build", p.build)
	t.Run("health", p.checks)
}

// checks: a health check that is made when asked for.
func (c caller) checks(t *testing.T) {
	c.must(t, "run", "-d", "--name", "health", "--health-cmd", "test -e /well", "--health-interval", "disable", "base", "sleep", "1000")
	if a := c.call(t, "healthcheck", "run", "health"); a.code != 1 {
		t.Errorf("a check that fails: exit code %d: %s", a.code, a.stderr)
	}
	c.must(t, "exec", "health", "touch", "/well")
	c.must(t, "healthcheck", "run", "health")
	c.must(t, "rm", "-f", "-t", "0", "health")
}

func TestBuildah(t *testing.T) {
	require(t, "buildah")
	b := podman(t, "buildah")
	dir := t.TempDir()
	writeDockerfile(t, dir, "FROM scratch\nADD rootfs.tar /\nENV "+imagePath+"\n"+steps, rootfs(t))
	b.must(t, "build", "--runtime", runtimePath(t), "--network", "none", "--isolation", "oci", "-t", "built", dir)
	name := b.must(t, "from", "--name", "work", "built")
	if name != "work\n" {
		t.Errorf("from prints %q", name)
	}
	b.wants(t, 0, "built\n1000\n", "run", "--runtime", runtimePath(t), "--isolation", "oci", "work", "cat", "/file", "/home/user/id")
	if a := b.call(t, "run", "--runtime", runtimePath(t), "--isolation", "oci", "work", "sh", "-c", "exit 9"); a.code != 9 {
		t.Errorf("run: exit code %d, want 9: %s", a.code, a.stderr)
	}
	b.must(t, "rm", "work")
}
