package callers

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest"
)

// podman returns podman, or buildah, with a storage of its own and containr-runtime.
func podman(t *testing.T, program string) caller {
	t.Helper()
	dir, err := os.MkdirTemp("", program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeStorage(t, dir) })
	c := caller{argv: []string{program, "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run")}, lone: "none"}
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
	t.Run("exchange", func(t *testing.T) { p.exchange(t, "--tls-verify=false") })
}

// TestPodmanCheckpoint: a container is frozen and goes on with what it had in memory; and so does a copy of it, made of an
// archive.
func TestPodmanCheckpoint(t *testing.T) {
	require(t, "podman", "conmon", "criu")
	up(t, "lo") // CRIU tries TCP
	if out, err := exec.Command("criu", "check").CombinedOutput(); err != nil {
		if os.Getenv(guest.Var) != "" {
			t.Fatalf("%v: %s", err, out)
		}
		t.Skipf("no CRIU that works here: %v: %s", err, out)
	}
	p := podman(t, "podman")
	p.must(t, "import", "--change", "ENV="+imagePath, rootfs(t), "base")
	p.must(t, "run", "-d", "--name", "frozen", "--network", "none", "--tmpfs", "/mem", "base", "sh", "-c", "echo begun; echo kept > /mem/mark; exec sleep 1000")
	p.eventually(t, is("kept"), "exec", "frozen", "cat", "/mem/mark")
	state := []string{"inspect", "--format", "{{.State.Status}}", "frozen"}
	p.must(t, "container", "checkpoint", "frozen")
	p.eventually(t, is("exited"), state...)
	p.must(t, "container", "restore", "frozen")
	p.eventually(t, is("running"), state...)
	p.wants(t, 0, "kept\n", "exec", "frozen", "cat", "/mem/mark")
	archive := filepath.Join(t.TempDir(), "frozen.tar.gz")
	p.must(t, "container", "checkpoint", "--leave-running", "--export", archive, "frozen")
	p.wants(t, 0, "kept\n", "exec", "frozen", "cat", "/mem/mark")
	p.must(t, "container", "restore", "--import", archive, "--name", "copy")
	p.wants(t, 0, "kept\n", "exec", "copy", "cat", "/mem/mark")
	p.must(t, "rm", "-f", "-t", "0", "frozen", "copy")
}

// checks: a health check that is made when asked for.
func (c caller) checks(t *testing.T) {
	c.must(t, "run", "-d", "--name", "health", "--network", "none", "--health-cmd", "test -e /well", "--health-interval", "disable", "base", "sleep", "1000")
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
	t.Run("exchange", func(t *testing.T) { b.exchange(t, "--tls-verify=false") })
}
