package callers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit"
)

// What docker and podman have in common: the same commands, with the same flags and answers.

// run: what is said on which stream, exit codes, and who the program is. The first container has the network that every
// container gets; the others have none, or the machine's, which takes half the time.
func (c caller) run(t *testing.T) {
	a := c.call(t, "run", "--rm", "base", "sh", "-c", "echo out; echo err >&2; exit 7")
	if a.code != 7 || a.stdout != "out\n" || a.stderr != "err\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", a.code, a.stdout, a.stderr)
	}
	for _, w := range []struct {
		flags, script, want string
		code                int
	}{
		{"-u 1000:1000 --cap-drop ALL", "id -u; echo x >/file || echo refused", "1000\nrefused\n", 0},
		{"--read-only --tmpfs /tmp", "echo x >/x || echo refused; echo y >/tmp/y && cat /tmp/y", "refused\ny\n", 0},
		{"-h here -e A=b -w /tmp", "hostname; echo $A; pwd", "here\nb\n/tmp\n", 0},
		{"--init", "exit 3", "", 3},
		{"--cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined", "mount -t tmpfs tmpfs /mnt && echo mounted", "mounted\n", 0},
	} {
		c.wants(t, w.code, w.want, append(append([]string{"run", "--rm", "--network", c.lone}, strings.Fields(w.flags)...), "base", "sh", "-c", w.script)...)
	}
	for program, code := range map[string]int{"/missing": 127, "/etc": 126} {
		if a := c.call(t, "run", "--rm", "--network", c.lone, "base", program); a.code != code || !strings.Contains(a.stderr, program) {
			t.Errorf("run %s: exit code %d, want %d: %s", program, a.code, code, a.stderr)
		}
	}
}

// life is what becomes of a container that runs on its own.
func (c caller) life(t *testing.T) {
	c.must(t, "run", "-d", "--name", "life", "--network", c.lone, "base", "sh", "-c", `trap "echo ended; exit 3" TERM; echo begun; sleep 1000 & wait; exit 9`)
	c.eventually(t, is("begun"), "logs", "life")
	c.wants(t, 5, "inside\n", "exec", "life", "sh", "-c", "echo inside; exit 5")
	c.must(t, "exec", "-d", "life", "touch", "/touched")
	c.eventually(t, is("/touched"), "exec", "life", "ls", "/touched")
	if out := c.must(t, "top", "life"); !strings.Contains(out, "trap") {
		t.Errorf("top prints %q", out)
	}
	state := []string{"inspect", "--format", "{{.State.Status}}", "life"}
	c.must(t, "pause", "life")
	c.aside().eventually(t, is("paused"), state...)
	c.must(t, "unpause", "life")
	c.aside().eventually(t, is("running"), state...)
	if out := c.must(t, "stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "life"); strings.HasPrefix(out, "0 ") || strings.Contains(out, " 0B /") {
		t.Errorf("stats prints %q", out)
	}
	c.must(t, "stop", "-t", "60", "life")
	c.wants(t, 0, "begun\nended\n", "logs", "life")
	c.aside().wants(t, 0, "exited 3\n", "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "life")
	c.must(t, "start", "life")
	c.must(t, "kill", "life")
	c.wants(t, 0, "137\n", "wait", "life")
	c.must(t, "rm", "life")
	c.must(t, "run", "-d", "--name", "forced", "--network", c.lone, "base", "sleep", "1000")
	c.must(t, "rm", "-f", "forced")
}

// limits: one that is met, one that kills, one that changes.
func (c caller) limits(t *testing.T) {
	const memory = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true"
	c.wants(t, 0, "33554432\n", "run", "--rm", "--network", c.lone, "-m", "32m", "base", "sh", "-c", memory)
	// It begins to eat when docker has begun to listen for the kernel's word about it.
	c.must(t, "run", "-d", "--name", "fat", "--network", c.lone, "-m", "32m", "--memory-swap", "32m", "base",
		"sh", "-c", "until [ -e /begin ]; do sleep 0.1; done; exec dd if=/dev/zero of=/dev/shm/x bs=1M count=60")
	c.must(t, "exec", "fat", "touch", "/begin")
	c.wants(t, 0, "137\n", "wait", "fat")
	if c.argv[0] == "docker" { // podman 4.3 does not notice, with crun neither
		c.aside().eventually(t, is("true"), "inspect", "--format", "{{.State.OOMKilled}}", "fat")
	}
	c.aside().must(t, "rm", "fat")
	c.must(t, "run", "-d", "--name", "changed", "--network", c.lone, "-m", "64m", "base", "sleep", "1000")
	c.must(t, "update", "-m", "48m", "--memory-swap", "48m", "changed")
	c.wants(t, 0, "50331648\n", "exec", "changed", "sh", "-c", memory)
	c.aside().must(t, "rm", "-f", "changed")
}

// terminals: run and exec on one, of the size that it has outside.
func (c caller) terminals(t *testing.T) {
	code, screen := c.terminal(t, "exit 4\n", "run", "--rm", "--network", c.lone, "-it", "base", "sh", "-c", "tty; exec sh")
	if code != 4 || !strings.Contains(screen, "/dev/pts/0") {
		t.Errorf("exit code %d, the terminal shows %q", code, screen)
	}
	c.must(t, "run", "-d", "--name", "terminal", "--network", c.lone, "base", "sleep", "1000")
	code, screen = c.terminal(t, "exit 5\n", "exec", "-it", "terminal", "sh", "-c", "tty; exec sh")
	if code != 5 || !strings.Contains(screen, "/dev/pts/0") {
		t.Errorf("exec: exit code %d, the terminal shows %q", code, screen)
	}
	c.aside().must(t, "rm", "-f", "terminal")
}

// steps of a build run programs, as root and as somebody else.
const steps = `RUN echo built >/file && ls -l /file
RUN mkdir /home/user && chown 1000 /home/user
USER 1000
RUN id -u >/home/user/id
CMD ["cat", "/file", "/home/user/id"]
`

// build makes an image with steps that run programs.
func (c caller) build(t *testing.T) {
	dir := t.TempDir()
	writeDockerfile(t, dir, "FROM base\n"+steps)
	c.must(t, "build", "--network", c.lone, "-t", "built", dir)
	c.wants(t, 0, "built\n1000\n", "run", "--rm", "--network", c.lone, "built")
}

// writeDockerfile makes dir the context of a build, with copies of files in it.
func writeDockerfile(t *testing.T, dir, text string, files ...string) {
	t.Helper()
	testkit.WriteFile(t, filepath.Join(dir, "Dockerfile"), text, 0o644)
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, filepath.Join(dir, filepath.Base(path)), string(data), 0o644)
	}
}
