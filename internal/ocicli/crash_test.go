package ocicli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// crash kills a verb before each of its system calls, or each of so many (with -short, some), and checks
// after each kill that list works, and delete --force, and that nothing is left. prepare
// brings the container where the verb begins.
func crash(t *testing.T, s *site, stride int, prepare func(), verb ...string) {
	t.Helper()
	// What the runtime of Go and the looking at the machine need changes nothing.
	first, _ := testkit.KillAt(t, s.command("state", "none"), -1, nil)
	kills := 0
	if testing.Short() {
		stride = 7
	}
	before := s.left()
	for n := max(first-40, 1); ; n += stride {
		prepare()
		_, ended := testkit.KillAt(t, s.command(verb...), n, nil)
		if out, errs, code := s.run("list", "-q"); code != 0 || strings.TrimSpace(out) != "" && strings.TrimSpace(out) != "c" {
			t.Fatalf("%s killed at call %d: list: %s%s", verb[0], n, out, errs)
		}
		if _, errs, code := s.run("delete", "--force", "c"); code != 0 {
			t.Fatalf("%s killed at call %d: delete --force: %s", verb[0], n, errs)
		}
		if left := s.left(); !slices.Equal(left, before) {
			t.Fatalf("%s killed at call %d: left: %q", verb[0], n, left)
		}
		if ended && (kills > 1 || n == 1) {
			break
		}
		if ended { // it makes fewer calls than the other command, whose number varies
			n = max(n/2, 1) - stride
			continue
		}
		kills++
	}
	t.Logf("%s was killed %d times", verb[0], kills)
	if kills < 2 {
		t.Errorf("%s was killed %d times only", verb[0], kills)
	}
}

// left lists what is there of the container c.
func (s *site) left() []string {
	var left []string
	for _, pattern := range []string{s.root + "/c", "/sys/fs/cgroup/containr-c", "/sys/fs/cgroup/*/containr-c", "/sys/fs/cgroup/*/*/containr-c"} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	for pid, exe := range containerProcesses() {
		if _, ok := s.others[pid]; !ok && !endsSoon(pid) {
			state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
			left = append(left, fmt.Sprintf("process %d %s in system call %s", pid, exe, state))
		}
	}
	return left
}

// containerProcesses lists the processes of the machine that are of containers of tests, with
// their programs. Some may be of others, who do not wait for us.
func containerProcesses() map[int]string {
	found := make(map[int]string)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		exe, _ := os.Readlink("/proc/" + e.Name() + "/exe")
		if pid, err := strconv.Atoi(e.Name()); err == nil && (strings.HasSuffix(exe, "/probe") || strings.Contains(exe, "containr-init")) {
			found[pid] = exe
		}
	}
	return found
}

// endsSoon waits for the end of a process, three seconds at most. A child that has not
// been told of yet ends by itself when it finds that its maker is gone.
func endsSoon(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 3000)
	return n == 1 && err == nil
}

func TestKilledRuntimeLeavesNothing(t *testing.T) {
	t.Run("plain", func(t *testing.T) { killVerbs(t, newSite(t, nil), 1) })
	// Other steps, and others to undo: maps that the host writes, hooks that run meanwhile, mounts that only the host can make.
	t.Run("users and hooks", func(t *testing.T) {
		s := newSite(t, func(spec *specs.Spec) {
			spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
			spec.Linux.GIDMappings = spec.Linux.UIDMappings
			hook := []specs.Hook{{Path: "/bin/true"}}
			spec.Hooks = &specs.Hooks{CreateRuntime: hook, CreateContainer: hook, StartContainer: []specs.Hook{{Path: "/probe"}}, Poststart: hook, Poststop: hook}
		})
		killVerbs(t, s, 5)
	})
}

// killVerbs kills every verb that changes a container.
func killVerbs(t *testing.T, s *site, stride int) {
	nothing := func() {}
	created := func() { s.must("create", "c") }
	running := func() { created(); s.must("start", "c") }
	paused := func() { running(); s.must("pause", "c") }
	process := filepath.Join(s.bundle, "process.json")
	if err := os.WriteFile(process, []byte(`{"args":["/probe","-wait-signal","USR1"],"cwd":"/"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		prepare func()
		verb    []string
	}{
		{"create", nothing, []string{"create", "c"}},
		{"run", nothing, []string{"run", "-d", "c"}},
		{"start", created, []string{"start", "c"}},
		{"exec", running, []string{"exec", "-d", "-p", process, "c"}},
		{"kill", running, []string{"kill", "c", "KILL"}},
		{"pause", running, []string{"pause", "c"}},
		{"resume", paused, []string{"resume", "c"}},
		{"update", running, []string{"update", "--pids-limit", "50", "c"}},
		{"delete", created, []string{"delete", "c"}},
		{"delete --force", running, []string{"delete", "--force", "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			crash(t, &site{t: t, bundle: s.bundle, root: s.root, others: s.others}, stride, c.prepare, c.verb...)
		})
	}
}

// A program that has begun to run can be found, whenever the runtime is killed: what it
// prints is seen by somebody who may look for it at once.
func TestProgramOfAKilledRuntimeIsFound(t *testing.T) {
	s := newSite(t, nil)
	ran, kills := 0, 0
	calls, _ := testkit.KillAt(t, s.command("run", "-d", "c"), -1, nil)
	s.must("delete", "--force", "c")
	// What comes before the process is born is another test's. How many calls there are varies.
	for n := calls * 3 / 4; n < calls*5/4; n++ {
		out, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := s.command("run", "-d", "c")
		cmd.Stdout = w
		if _, ended := testkit.KillAt(t, cmd, n, nil); !ended {
			kills++
		}
		w.Close()
		_, err = out.Read(make([]byte, 1)) // the program's first word, or the end of a process that never became it
		if err == nil {
			ran++
			if got := s.status("c"); got != "running" {
				t.Errorf("killed at call %d: the program runs, the container is %s", n, got)
			}
		}
		s.must("delete", "--force", "c")
		out.Close()
	}
	t.Logf("killed %d times, %d times the program ran", kills, ran)
	if ran < 2 || kills < 2 {
		t.Error("neither may be missing")
	}
}
