package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// limit is how long a program of the suite may take; the slowest waits for some 20 s.
const limit = 90 * time.Second

// runtimes returns the runtimes to test by name: containr-runtime, and the peers that are there. CONTAINR_TEST_CRUN
// and CONTAINR_TEST_RUNC name a further crun and runc, newer than the system's.
func runtimes(t *testing.T) []peer {
	t.Helper()
	ours, err := testkit.Build("github.com/containr/containr/cmd/containr-runtime", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	list := []peer{{name: "containr-runtime", path: ours}}
	for _, name := range []string{"runc", "crun"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Logf("not compared with %s: %v", name, err)
			continue
		}
		list = append(list, peer{name: name, path: path})
	}
	for _, newest := range []peer{{name: "newest runc", path: os.Getenv("CONTAINR_TEST_RUNC")}, {name: "newest crun", path: os.Getenv("CONTAINR_TEST_CRUN")}} {
		if newest.path != "" {
			list = append(list, newest)
		}
	}
	for i := range list {
		list[i].version = list[i].askVersion(t)
		if strings.Contains(list[i].name, "crun") {
			list[i].path = olderVersion(t, list[i].path)
		}
	}
	return list
}

// peer is a runtime to test.
type peer struct {
	name, path, version string
}

func (p peer) askVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(p.path, "--version").Output()
	if err != nil {
		t.Fatalf("%s --version: %v", p.path, err)
	}
	fields := strings.Fields(string(out)) // "crun version 1.8.1 commit: ..."
	if len(fields) < 3 {
		t.Fatalf("%s --version prints %q", p.path, out)
	}
	return fields[2]
}

// olderVersion returns a program that is crun, but marks the configuration as one of version 1.0.2 before: older
// cruns refuse every other. What the suite asks for was in 1.0.2 already.
func olderVersion(t *testing.T, path string) string {
	t.Helper()
	wrapper := filepath.Join(t.TempDir(), "crun")
	script := `#!/bin/sh
previous= bundle=
for arg; do
	[ "$previous" != --bundle ] || bundle=$arg
	previous=$arg
done
[ ! -e "$bundle/config.json" ] || sed -i 's/"ociVersion": *"[^"]*"/"ociVersion":"1.0.2"/' "$bundle/config.json"
exec ` + path + ` "$@"
`
	testkit.WriteFile(t, wrapper, script, 0o755)
	return wrapper
}

// The programs on cgroups use fixed names below the root, so only one of them may run at a time.
var cgroups sync.Mutex

// inNamespaces prepares a place for a program of the suite: process 1 of a PID namespace, so that everything ends with
// it; a /run of its own, where runtimes keep their state; and, as crun does not know what to make of a version 2
// hierarchy without controllers beside those of version 1, no such hierarchy.
const inNamespaces = `mount --make-rprivate / &&
mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mkdir /run/lock &&
{ ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; } || exit 125
mine=
eval "${RARE-}"
"$@"
status=$?
for h in $mine; do
	find /sys/fs/cgroup/$h -mindepth 1 -depth -type d -exec rmdir {} + || exit 125
done
exit $status`

// rare mounts hierarchies of version 1 that the kernel has and the host has not mounted: for programs that need them,
// in a copy of the directory that they belong in. Where version 2 alone is mounted there is no such directory. Nobody
// else sees them, so what the program leaves there goes in the end.
const rare = `mkdir /run/cgroup && mount -t tmpfs tmpfs /run/cgroup &&
for h in hugetlb net_cls,net_prio; do
	[ ! -e /sys/fs/cgroup/$h ] && [ ! -e /sys/fs/cgroup/cgroup.procs ] && mkdir /run/cgroup/$h &&
	{ mount -t cgroup -o $h cgroup /run/cgroup/$h && mine="$mine $h" || rmdir /run/cgroup/$h; }
done
[ -z "$mine" ] || {
	for h in $(ls /sys/fs/cgroup); do
		mkdir /run/cgroup/$h && mount --bind /sys/fs/cgroup/$h /run/cgroup/$h || exit 125
	done
	ln -s net_cls,net_prio /run/cgroup/net_cls && ln -s net_cls,net_prio /run/cgroup/net_prio &&
	mount --move /run/cgroup /sys/fs/cgroup || exit 125
}`

// run runs one program against one runtime.
func (s suite) run(ctx context.Context, p peer, program, tmp string) (outcome, error) {
	if strings.Contains(program, "cgroup") || strings.HasPrefix(program, "delete_") {
		cgroups.Lock()
		defer cgroups.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", inNamespaces, "sh", "./"+program)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "RUNTIME="+p.path, "TMPDIR="+tmp)
	if strings.Contains(program, "hugetlb") || strings.Contains(program, "network") {
		cmd.Env = append(cmd.Env, "RARE="+rare)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
	}
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return outcome{fatal: fmt.Sprintf("not done after %v", limit)}, nil
	case err != nil && !errors.As(err, &exit):
		return outcome{}, fmt.Errorf("%s against %s: %w", program, p.name, err)
	case cmd.ProcessState.ExitCode() == 125:
		return outcome{}, fmt.Errorf("%s against %s: %s", program, p.name, oneLine(stderr.String()))
	}
	return parse(stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()), nil
}

// removeCgroups removes the cgroups that the programs leave behind.
func removeCgroups(t *testing.T) {
	t.Helper()
	var dirs []string
	for _, name := range []string{"cgrouptest", "testdir/cgrouptest/container", "testdir/cgrouptest", "testdir"} {
		for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
			found, err := filepath.Glob(pattern + name)
			if err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, found...)
		}
	}
	for _, dir := range dirs {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a cgroup of the suite stays: %v", err)
		}
	}
}
