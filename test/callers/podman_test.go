package callers

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
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

// TestPodmanOfAUser: podman of an ordinary user calls the runtime as root of a user namespace, where control groups are not his to make.
func TestPodmanOfAUser(t *testing.T) {
	require(t, "podman", "conmon", "newuidmap")
	if os.Getenv(guest.Var) == "" {
		t.Skip("skipped: it gives the machine a user; it runs in the guest of package version2")
	}
	const id = 1000
	for file, line := range map[string]string{"/etc/passwd": "somebody:x:1000:1000::/:/bin/sh\n", "/etc/group": "somebody:x:1000:\n",
		"/etc/subuid": "somebody:100000:65536\n", "/etc/subgid": "somebody:100000:65536\n"} {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/usr/bin/newuidmap", "/usr/bin/newgidmap"} { // what packages are unpacked to has lost it
		if err := errors.Join(os.Chown(name, 0, 0), os.Chmod(name, 0o755|os.ModeSetuid)); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("/var/tmp", "user")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeStorage(t, dir) })
	for _, name := range []string{"", "home", "run", "tmp"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, id, id); err != nil {
			t.Fatal(err)
		}
	}
	layer := filepath.Join(dir, "base.tar")
	if text, err := os.ReadFile(rootfs(t)); err != nil || os.WriteFile(layer, text, 0o644) != nil {
		t.Fatal("no image: ", err)
	}
	p := caller{
		argv: []string{"podman", "--runtime", runtimePath(t), "--cgroup-manager", "cgroupfs", "--events-backend", "file"}, lone: "none", dir: dir,
		env:  []string{"HOME=" + dir + "/home", "XDG_RUNTIME_DIR=" + dir + "/run", "TMPDIR=" + dir + "/tmp"},
		user: &syscall.Credential{Uid: id, Gid: id, Groups: []uint32{}},
	}
	p.must(t, "import", "--change", "ENV="+imagePath, layer, "base")
	p.wants(t, 7, "0\n1000\n", "run", "--rm", "--network", "none", "base", "sh", "-c", "id -u; read _ outside _ </proc/self/uid_map; echo $outside; exit 7")
	p.must(t, "run", "-d", "--name", "life", "--network", "none", "base", "sh", "-c", `trap "echo ended; exit 3" TERM; echo begun; sleep 1000 & wait; exit 9`)
	p.eventually(t, is("begun"), "logs", "life")
	p.wants(t, 5, "inside\n/\n", "exec", "-u", "1234", "life", "sh", "-c", "echo inside; echo $HOME; exit 5")
	p.must(t, "stop", "-t", "60", "life")
	p.wants(t, 0, "exited 3\n", "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "life")
	p.wants(t, 0, "begun\nended\n", "logs", "life")
	p.must(t, "start", "life")
	p.must(t, "kill", "life")
	p.wants(t, 0, "137\n", "wait", "life")
	p.must(t, "rm", "life")
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
