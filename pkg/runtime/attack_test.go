package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/procfs"
)

// What is written to the kernel while a container is made goes through a procfs that
// nothing of the container can cover: neither a volume nor what a racing container
// mounts (CVE-2025-52881, CVE-2019-16884). Here the place is covered already.
func TestKernelIsNotToldThroughTheContainersProc(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	trap := t.TempDir()
	testkit.WriteFile(t, filepath.Join(trap, "net", "ipv4", "ip_unprivileged_port_start"), "trap", 0o666)
	testkit.WriteFile(t, filepath.Join(trap, "oom_score_adj"), "trap", 0o666)
	before := testkit.Fingerprint(t, trap)
	score := 321
	spec := exampleSpec("/probe", "-try", "read:/p/sys/net/ipv4/ip_unprivileged_port_start", "-try", "read:/p/1/oom_score_adj", "-try", "read:/proc/sys/net/ipv4/ip_unprivileged_port_start")
	spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "7"}
	spec.Process.OOMScoreAdj = &score
	r := probeIn(t, Input{Spec: spec},
		specs.Mount{Destination: "/p", Type: "proc", Source: "proc"},
		specs.Mount{Destination: "/proc/sys", Type: "bind", Source: trap, Options: []string{"bind"}},
		specs.Mount{Destination: "/proc/1", Type: "bind", Source: trap, Options: []string{"bind"}})
	var got []string
	for _, try := range r.Tries {
		got = append(got, strings.TrimSpace(try.Value)+try.Errno)
	}
	if want := []string{"7", "321", "trap"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if diff := before.Diff(testkit.Fingerprint(t, trap)); len(diff) > 0 {
		t.Errorf("what covers it was written to: %v", diff)
	}
}

// An image whose /dev is a link, or has one, has no device, link or directory made
// outside of its root, with a /dev of the container's own and without (CVE-2026-41579).
func TestDeviceNodesStayInside(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	outside := t.TempDir()
	before := testkit.Fingerprint(t, outside)
	devices := []specs.LinuxDevice{{Path: "/dev/zero2", Type: "c", Major: 1, Minor: 5}, {Path: "/dev/sub/full2", Type: "c", Major: 1, Minor: 7}}
	for name, link := range map[string]string{"dev": outside, "sub": "../../../../../../../../.." + outside} {
		for _, ownDev := range []bool{true, false} {
			spec, root := exampleSpec("/probe"), testkit.Rootfs(t)
			at := filepath.Join(root, "dev")
			if name == "sub" {
				at = filepath.Join(at, "sub")
			} else if err := os.Remove(at); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(link, at); err != nil {
				t.Fatal(err)
			}
			if !ownDev {
				spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Destination, "/dev") })
			}
			spec.Linux.Devices = devices
			_, _ = runIn(t, Input{Spec: spec, Root: root}) // whether it runs is not the question
			if diff := before.Diff(testkit.Fingerprint(t, outside)); len(diff) > 0 {
				t.Fatalf("/%s is a link, own /dev %v: outside changed: %v", name, ownDev, diff)
			}
		}
	}
}

// console is a pair of sockets for a terminal's master end.
func console(t *testing.T) *os.File {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	t.Cleanup(func() { _ = errors.Join(ours.Close(), theirs.Close()) })
	return theirs
}

// A terminal's slave end is opened by its master: links in the image at /dev/console or
// /dev/pts lead no bind of it outside, and /dev/console is that terminal
// (CVE-2025-52565).
func TestConsoleIsTheTerminalThatWasOpened(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	outside := t.TempDir()
	testkit.WriteFile(t, filepath.Join(outside, "file"), "untouched", 0o666)
	before := testkit.Fingerprint(t, outside)
	dev := t.TempDir()
	if err := errors.Join(os.Symlink(filepath.Join(outside, "file"), filepath.Join(dev, "console")), os.Mkdir(filepath.Join(dev, "pts"), 0o755),
		os.Mkdir(filepath.Join(dev, "shm"), 0o755), os.Mkdir(filepath.Join(dev, "mqueue"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, device := range map[string]specs.Mount{
		"own /dev":           {},
		"/dev with the link": {Destination: "/dev", Type: "bind", Source: dev, Options: []string{"bind"}},
	} {
		spec := exampleSpec("/probe", "-exit", "0")
		spec.Process.Terminal = true
		if device.Source != "" {
			spec.Mounts[1] = device
		}
		p := compileInput(t, Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t)})
		s, err := Start(p, StartOptions{Console: console(t)})
		if err == nil {
			reap(s.PID)
			err = (Actions{}).undoAll(p.Undo())
		}
		// A link to what the root does not have is no place for a console.
		if linked := device.Source != ""; (err != nil) != linked {
			t.Errorf("%s: error %v", name, err)
		}
		if diff := before.Diff(testkit.Fingerprint(t, outside)); len(diff) > 0 {
			t.Errorf("%s: outside changed: %v", name, diff)
		}
	}
}

// A container that may mount can put what it likes in the place of its devpts. Then a
// further process with a terminal gets none, and an error, not what is there.
func TestExecTerminalIsNoOtherFile(t *testing.T) {
	c := runWaiting(t, exampleSpec())
	for _, trap := range []string{"/etc/passwd", "/dev/null", "/dev/shm"} {
		bindInside(t, c.PID, trap, "/dev/pts/ptmx")
		process := exampleSpec("/probe").Process
		process.Terminal = true
		s, err := c.Exec(&ExecRequest{ID: "test", Process: process, Console: console(t)})
		if err == nil {
			_ = unix.Kill(s.PID, unix.SIGKILL)
			reap(s.PID)
		}
		var step *StepError
		if !errors.As(err, &step) || step.Step.Chapter != "terminal" {
			t.Errorf("%s in the place of ptmx: %v", trap, err)
		}
	}
}

// bindInside binds a path over another in the mount namespace of a process, as its root
// could. The thread that does it comes back, and is not used again.
func bindInside(t *testing.T, pid int, source, target string) {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		failed <- func() error {
			ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/mnt")
			if err != nil {
				return err
			}
			defer ns.Close()
			own, err := os.Open("/proc/thread-self/ns/mnt")
			if err != nil {
				return err
			}
			defer own.Close()
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			defer unix.Setns(int(own.Fd()), unix.CLONE_NEWNS)
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
				return err
			}
			if source == "/dev/shm" { // a directory cannot be over a file: over all of devpts
				target = filepath.Dir(target)
			}
			return unix.Mount(source, target, "", unix.MS_BIND, "")
		}()
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

// Without control groups of its own, as a user without root has none, a container sees
// none, and cannot write to the host's (CVE-2023-25809).
func TestRootlessContainerSeesNoControlGroups(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	spec := userSpec()
	spec.Process.Args = []string{"/probe", "-ls", "/sys/fs/cgroup", "-try", "create:/sys/fs/cgroup/x", "-try", "write:/sys/fs/cgroup/cgroup.procs=1",
		"-try", "remount-rw:/sys/fs/cgroup", "-try", "write:/sys/fs/cgroup/memory/release_agent=/x"}
	r := probeIn(t, Input{Spec: spec, Rootless: true})
	for _, try := range r.Tries {
		if try.OK {
			t.Errorf("%+v", try)
		}
	}
	m, ok := procfs.Mounts(r.Mounts).At("/sys/fs/cgroup")
	if !ok || m.Type != "tmpfs" || !slices.Contains(m.Options, "ro") || len(r.Dirs["/sys/fs/cgroup"]) > 0 || len(r.Tries) != 4 {
		t.Errorf("%v with %v", m, r.Dirs)
	}
	for _, m := range r.Mounts {
		if strings.HasPrefix(m.Type, "cgroup") {
			t.Errorf("%v", m)
		}
	}
}

// A list that is longer than the kernel takes is refused as a whole, and never cut: a
// shorter map would give the container other ids than were shown (CVE-2021-43784).
func TestOversizedMapsAreRefused(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	for _, n := range []int{341, 5000, 100000} {
		spec := userSpec()
		spec.Linux.UIDMappings = nil
		for i := range uint32(n) {
			spec.Linux.UIDMappings = append(spec.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 2 * i, HostID: 100000 + 2*i, Size: 1})
		}
		_, err := runPlan(t, compileExample(t, spec))
		var step *StepError
		if !errors.As(err, &step) || step.Step.Call.Name() != "echo_proc" {
			t.Errorf("%d lines: %.200v", n, err)
		}
	}
}
