package callers

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// dockerConfig makes containr-runtime the runtime that is used when nobody asks for one.
const dockerConfig = `{"runtimes": {"containr": {"path": %q}}, "default-runtime": "containr", "cgroup-parent": "/containr-callers"}`

// startDocker starts a docker daemon with networks of its own, and gives it the image base.
func startDocker(t *testing.T) caller {
	t.Helper()
	dir := t.TempDir()
	config, socket := filepath.Join(dir, "daemon.json"), "unix://"+filepath.Join(dir, "sock")
	t.Cleanup(func() { // the machine's network namespace, which the daemon leaves mounted
		err := unix.Unmount(filepath.Join(dir, "exec/netns/default"), unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	})
	testkit.WriteFile(t, config, fmt.Sprintf(dockerConfig, runtimePath(t)), 0o600)
	daemon(t, "dockerd", "--config-file", config, "--host", socket, "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"))
	d := caller{argv: []string{"docker", "--host", socket}, env: []string{"DOCKER_BUILDKIT=0", "DOCKER_CONFIG=" + dir}}
	// For every network but the machine's, none included, the daemon has the runtime start the daemon's own program as a hook:
	// 100 MB that begin anew for each container.
	d.lone, d.direct = "host", dockerAPI(filepath.Join(dir, "sock"))
	d.aside().eventually(t, is("containr"), "info", "--format", "{{.DefaultRuntime}}")
	d.must(t, "import", "--change", "ENV "+imagePath, rootfs(t), "base")
	return d
}

func TestDocker(t *testing.T) {
	require(t, "dockerd", "docker", "iptables")
	up(t, "lo")
	d := startDocker(t)
	t.Cleanup(func() { removeCgroups(t, "containr-callers") })
	t.Run("run", d.run)
	t.Run("life", d.life)
	t.Run("limits", d.limits)
	t.Run("network", d.network)
	t.Run("health", d.health)
	t.Run("terminal", d.terminals)
	t.Run("build", d.build)
	t.Run("images", d.images)
	t.Run("exchange", func(t *testing.T) { d.exchange(t) })
}

// images: containr puts an image into the daemon's store, whose layers this daemon cannot inflate by itself, and takes it out
// again as the same image.
func (c caller) images(t *testing.T) {
	x := containr(t, "DOCKER_HOST="+c.argv[2])
	x.must(t, "image", "copy", "base", "docker-daemon:copied:1")
	id := c.aside().must(t, "image", "inspect", "--format", "{{.Id}}", "copied:1")
	x.must(t, "image", "copy", "docker-daemon:copied:1", "back:1")
	if back := x.must(t, "image", "inspect", "--format", "{{.ID}}", "back:1"); back != id {
		t.Errorf("image %s came back as %s", id, back)
	}
	c.wants(t, 0, "it runs\n", "run", "--rm", "--network", "none", "copied:1", "echo", "it runs")
	c.must(t, "rmi", "copied:1")
}

// network: a container has a link of its own, unless it wants none.
func (c caller) network(t *testing.T) {
	c.wants(t, 0, "lo\n", "run", "--rm", "--network", "none", "base", "ls", "/sys/class/net")
	c.wants(t, 0, "eth0\nlo\n", "run", "--rm", "base", "ls", "/sys/class/net")
}

// health: a check that fails, and then succeeds.
func (c caller) health(t *testing.T) {
	c.must(t, "run", "-d", "--name", "health", "--network", c.lone, "--health-cmd", "test -e /well", "--health-interval", "1s", "--health-retries", "1",
		"base", "sleep", "1000")
	status := []string{"inspect", "--format", "{{.State.Health.Status}}", "health"}
	c.aside().eventually(t, is("unhealthy"), status...)
	c.must(t, "exec", "health", "touch", "/well")
	c.aside().eventually(t, is("healthy"), status...)
	c.aside().must(t, "rm", "-f", "health")
}
