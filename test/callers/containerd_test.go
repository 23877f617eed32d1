package callers

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit"
)

// containerdConfig has no plugin that wants more than a directory, a state and a socket.
const containerdConfig = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
[grpc]
address = "%[1]s/sock"
[ttrpc]
address = "%[1]s/sock.ttrpc"
`

// containerd is a running containerd, by its client.
type containerd struct {
	caller
	// run begins every "ctr run".
	runFlags []string
}

// startContainerd starts one and gives it the image.
func startContainerd(t *testing.T) containerd {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	testkit.WriteFile(t, config, fmt.Sprintf(containerdConfig, dir), 0o600)
	daemon(t, "containerd", "--config", config)
	c := containerd{caller: caller{argv: []string{"ctr", "--address", filepath.Join(dir, "sock"), "--namespace", "containr-callers"}}}
	c.runFlags = []string{"run", "--runc-binary", runtimePath(t), "--runc-root", filepath.Join(dir, "runtime")}
	c.eventually(t, func(string) bool { return true }, "version")
	c.must(t, "images", "import", "--base-name", "base", archive(t))
	return c
}

// run are the arguments that run a program in the image.
func (c containerd) run(flags []string, id string, argv ...string) []string {
	args := append(append([]string{}, c.runFlags...), flags...)
	return append(append(args, "base:latest", id), argv...)
}

func TestContainerd(t *testing.T) {
	require(t, "containerd", "ctr")
	c := startContainerd(t)
	t.Cleanup(func() { removeCgroups(t, "containr-callers") })
	t.Run("run", func(t *testing.T) {
		c.wants(t, 7, "out\n", c.run([]string{"--rm"}, "run", "sh", "-c", "echo out; exit 7")...)
		a := c.call(t, c.run([]string{"--rm"}, "missing", "/missing")...)
		if a.code != 1 || !strings.Contains(a.stderr, "/missing: no such file or directory") {
			t.Errorf("a program that is missing: exit code %d: %s", a.code, a.stderr)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		code, screen := c.terminal(t, "exit 4\n", c.run([]string{"--rm", "--tty"}, "terminal", "sh", "-c", "tty; exec sh")...)
		if code != 4 || !strings.Contains(screen, "/dev/pts/0") {
			t.Errorf("exit code %d, the terminal shows %q", code, screen)
		}
	})
	t.Run("tasks", c.tasks)
}

// tasks is the life of a container that runs on its own.
func (c containerd) tasks(t *testing.T) {
	c.must(t, c.run([]string{"--detach", "--memory-limit", "67108864"}, "long", "sleep", "1000")...)
	is := func(state string) func(string) bool {
		return func(out string) bool { return strings.Contains(out, state) }
	}
	c.wants(t, 5, "inside\n", "tasks", "exec", "--exec-id", "e1", "long", "sh", "-c", "echo inside; exit 5")
	if code, screen := c.terminal(t, "exit 6\n", "tasks", "exec", "--tty", "--exec-id", "e2", "long", "sh", "-c", "tty; exec sh"); code != 6 || !strings.Contains(screen, "/dev/pts/0") {
		t.Errorf("exec on a terminal: exit code %d, it shows %q", code, screen)
	}
	if out := c.must(t, "tasks", "ps", "long"); len(strings.Fields(out)) < 3 {
		t.Errorf("tasks ps prints %q", out)
	}
	if out := c.must(t, "tasks", "metrics", "long"); !strings.Contains(out, "67108864") || !strings.Contains(out, "pids.current") {
		t.Errorf("tasks metrics prints %q", out)
	}
	c.must(t, "tasks", "pause", "long")
	c.eventually(t, is("PAUSED"), "tasks", "list")
	c.must(t, "tasks", "resume", "long")
	c.eventually(t, is("RUNNING"), "tasks", "list")
	c.must(t, "tasks", "kill", "--signal", "SIGTERM", "long")
	c.eventually(t, is("STOPPED"), "tasks", "list")
	if a := c.call(t, "tasks", "kill", "long"); a.code == 0 || !strings.Contains(a.stderr, "not found") {
		t.Errorf("kill of what has ended: exit code %d: %s", a.code, a.stderr)
	}
	if a := c.call(t, "tasks", "delete", "long"); !strings.Contains(a.stderr, "143") {
		t.Errorf("delete: exit code %d: %s; want a word on exit code 143", a.code, a.stderr)
	}
	c.must(t, "containers", "delete", "long")
}
