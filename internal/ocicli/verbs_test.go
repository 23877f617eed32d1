package ocicli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/filelimit"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/probe"
)

// The life of a container: what each verb does is what the kernel says, and in the wrong
// state a verb is refused with the words that callers look for.
func TestLifeOfAContainer(t *testing.T) {
	s := newSite(t, nil)
	s.refused("container does not exist", "state", "c")
	s.refused("container does not exist", "kill", "c")
	s.must("delete", "--force", "c")
	s.must("create", "c")
	defer s.run("delete", "--force", "c")
	s.refused("already exists", "create", "c")
	s.refused("container not paused", "resume", "c")
	s.must("start", "c")
	s.refused("cannot start an already running container", "start", "c")
	s.refused("container is not stopped", "delete", "c")
	pid := s.pid("c")
	s.must("pause", "c")
	if got := s.status("c"); got != "paused" {
		t.Errorf("status %s after pause", got)
	}
	if state := s.freezer(pid); state != "FROZEN" && state != "1" {
		t.Errorf("the freezer says %s", state)
	}
	s.refused("cannot exec in a paused container", "exec", "c", "/probe")
	s.must("resume", "c")
	if got := s.status("c"); got != "running" {
		t.Errorf("status %s after resume", got)
	}
	if _, errs, code := s.run("exec", "c", "/probe", "-report"); code != 0 {
		t.Errorf("exec: %s", errs)
	}
	var pids []int
	if err := json.Unmarshal([]byte(s.must("ps", "--format", "json", "c")), &pids); err != nil || !slices.Equal(pids, []int{pid}) {
		t.Errorf("ps: %v, error %v, want %d", pids, err, pid)
	}
	s.must("pause", "c") // SIGKILL reaches the paused
	s.must("kill", "c", "KILL")
	waitEnd(t, pid)
	s.refused("container not running", "kill", "c")
	s.refused("container not running", "pause", "c")
	s.refused("cannot exec in a stopped container", "exec", "c", "/probe")
	s.must("delete", "c")
}

func (s *site) pid(id string) int {
	s.t.Helper()
	var state struct{ PID int }
	if err := json.Unmarshal([]byte(s.must("state", id)), &state); err != nil {
		s.t.Fatal(err)
	}
	return state.PID
}

// freezer reads the state of the freezer of the control group that a process is in.
func (s *site) freezer(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		file := "/sys/fs/cgroup/freezer" + f[2] + "/freezer.state"
		if f[1] == "" {
			file = "/sys/fs/cgroup" + f[2] + "/cgroup.freeze"
		} else if f[1] != "freezer" {
			continue
		}
		if state, err := os.ReadFile(file); err == nil {
			return strings.TrimSpace(string(state))
		}
	}
	return "nothing"
}

func waitEnd(t *testing.T, pid int) {
	t.Helper()
	if !endsSoon(pid) {
		t.Fatalf("process %d does not end", pid)
	}
}

// A container gets the limit of open files that the runtime was started with, not the
// one that Go raises it to.
func TestLimitOfOpenFilesIsTheCallers(t *testing.T) {
	s := newSite(t, func(spec *specs.Spec) { spec.Process.Rlimits = nil })
	s.must("create", "c")
	defer s.run("delete", "--force", "c")
	var l unix.Rlimit
	if err := unix.Prlimit(s.pid("c"), unix.RLIMIT_NOFILE, nil, &l); err != nil {
		t.Fatal(err)
	}
	if soft, hard := filelimit.Original(); l.Cur != soft || l.Max != hard {
		t.Errorf("limits %d of %d, want %d of %d", l.Cur, l.Max, soft, hard)
	}
}

// Without a process namespace the end of the first process does not end the others, and
// in a control group that was there before, or in none, nobody lists them. They are
// found all the same: also when the first process has ended, where the kernel tells one
// mount namespace from another for good.
func TestChildrenDoNotSurvive(t *testing.T) {
	for _, first := range []string{"lives", "has ended"} {
		t.Run(first, func(t *testing.T) {
			s := newSite(t, loose)
			s.must("--cgroup-manager", "disabled", "run", "-d", "c")
			defer s.run("delete", "--force", "c")
			process := filepath.Join(t.TempDir(), "process.json")
			testkit.WriteFile(t, process, `{"args":["/probe","-wait-signal","USR1"],"cwd":"/"}`, 0o600)
			pidFile := filepath.Join(t.TempDir(), "pid")
			s.must("exec", "-d", "-p", process, "--pid-file", pidFile, "c")
			var child int
			text, err := os.ReadFile(pidFile)
			if _, e := fmt.Sscan(string(text), &child); err != nil || e != nil {
				t.Fatal(err, e)
			}
			if first == "has ended" {
				pid := s.pid("c")
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				waitEnd(t, pid)
				if !hasMountNamespaceID() {
					_ = unix.Kill(child, unix.SIGKILL)
					t.Skip("the kernel has no lasting numbers for mount namespaces (Linux 6.11)")
				}
			}
			s.must("delete", "--force", "c")
			if !endsSoon(child) {
				t.Error("a process has survived its container")
				_ = unix.Kill(child, unix.SIGKILL)
			}
		})
	}
}

// loose makes a container whose processes nobody lists: it has neither a process
// namespace nor a control group of its own.
func loose(spec *specs.Spec) {
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	spec.Mounts = spec.Mounts[1:] // /proc would be the host's
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
}

// A container whose processes fork faster than they can be listed is ended, or delete
// says in time which are left: it never goes on for ever.
func TestDeleteOfAForkBombEnds(t *testing.T) {
	s := newSite(t, func(spec *specs.Spec) {
		loose(spec)
		spec.Process.Args = []string{"/probe", "-bomb", "/defused", "-wait-signal", "USR1"}
	})
	defused := filepath.Join(s.bundle, "rootfs", "defused")
	testkit.WriteFile(t, defused, "\x00", 0o600)
	cmd := s.command("--cgroup-manager", "disabled", "run", "-d", "c")
	cmd.Env = append(cmd.Env, asReaper+"=1")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	events := json.NewDecoder(r)
	for e := (probe.Event{}); e.Waiting == nil; {
		if err := events.Decode(&e); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	_, errs, code := s.run("delete", "--force", "c")
	took := time.Since(began)
	t.Logf("exit code %d after %v: %s", code, took, errs)
	if took > 20*time.Second || code != 0 && !strings.Contains(errs, "fork faster than they can be killed: ") {
		t.Errorf("delete --force: exit code %d after %v: %s", code, took, errs)
	}
	if code == 0 {
		// Whoever is left goes on, and holds the pipe open.
		if err := r.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
			t.Errorf("%q, error %v", rest, err)
		}
	}
	f, err := os.OpenFile(defused, os.O_WRONLY, 0) // not emptied: it is mapped
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("\x01"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil { // the bomb has burnt out, if it was not dead
		t.Error(err)
	}
	s.must("delete", "--force", "c")
}

func hasMountNamespaceID() bool {
	f, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = unix.IoctlGetInt(int(f.Fd()), 0x8008b705)
	return err == nil
}

// LISTEN_FDS: the sockets of systemd are passed on when they are meant for the runtime.
func TestSocketActivation(t *testing.T) {
	s := newSite(t, func(spec *specs.Spec) { spec.Process.Args = []string{"/probe", "-report"} })
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	run := func(pid string) string {
		out := filepath.Join(t.TempDir(), "out")
		script := fmt.Sprintf("LISTEN_PID=%s exec \"$0\" \"$@\" >%s", pid, out)
		cmd := exec.Command("sh", append([]string{"-c", script, os.Args[0]}, "--root", s.root, "run", "c")...)
		cmd.Env = append(os.Environ(), asRuntime+"=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=web")
		cmd.Dir, cmd.ExtraFiles = s.bundle, []*os.File{w}
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(out)
		return string(text)
	}
	for pid, want := range map[string]bool{"$$": true, "1": false} {
		report := testkit.Report(t, []byte(run(pid)))
		if got := slices.Contains(report.Env, "LISTEN_FDS=1") && slices.Contains(report.Env, "LISTEN_PID=1") && slices.Contains(report.Env, "LISTEN_FDNAMES=web"); got != want {
			t.Errorf("LISTEN_PID=%s: environment %q", pid, report.Env)
		}
		if got := len(report.FDs) == 4; got != want {
			t.Errorf("LISTEN_PID=%s: descriptors %v", pid, report.FDs)
		}
	}
}

// A container without a class of service has none that could change, and its limits stay.
func TestUpdateWithoutClass(t *testing.T) {
	s := newSite(t, nil)
	s.must("create", "c")
	defer s.run("delete", "--force", "c")
	for _, flag := range []string{"--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=20"} {
		s.refused("has no class of service", "update", flag, "--pids-limit", "7", "c")
	}
	if out := s.must("events", "--stats", "c"); strings.Contains(out, `"limit":7`) {
		t.Errorf("a limit has changed: %s", out)
	}
}

// Verbs on one container at the same time end, each with success or words, and what is
// left afterwards can be deleted.
func TestVerbsAtOnce(t *testing.T) {
	s := newSite(t, nil)
	process := filepath.Join(t.TempDir(), "process.json") // in the background: it may be paused
	testkit.WriteFile(t, process, `{"args":["/probe","-report"],"cwd":"/"}`, 0o600)
	verbs := [][]string{{"create", "c"}, {"start", "c"}, {"pause", "c"}, {"resume", "c"}, {"state", "c"}, {"list"}, {"update", "--pids-limit", "20", "c"},
		{"exec", "-d", "-p", process, "c"}, {"kill", "c", "0"}, {"delete", "c"}, {"delete", "--force", "c"}}
	rounds := 15
	if testing.Short() {
		rounds = 3
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		var all sync.WaitGroup
		for _, i := range random.Perm(len(verbs)) {
			all.Go(func() {
				cmd := s.command(verbs[i]...)
				cmd.Stdout = nil
				errs, err := os.CreateTemp(t.TempDir(), "err")
				if err != nil {
					t.Error(err)
					return
				}
				defer errs.Close()
				cmd.Stderr = errs
				if err := cmd.Run(); err == nil {
					return
				}
				text, _ := os.ReadFile(errs.Name())
				if code := cmd.ProcessState.ExitCode(); code < 1 || !strings.Contains(string(text), "containr-runtime: ") || strings.Contains(string(text), "panic") {
					t.Errorf("%s: exit code %d: %s", strings.Join(verbs[i], " "), code, text)
				}
			})
		}
		all.Wait()
	}
	s.must("delete", "--force", "c")
	if left := s.left(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// A thousand containers leave nothing; Leftovers looks.
func TestManyContainers(t *testing.T) {
	s := newSite(t, nil)
	count := 1000
	if testing.Short() {
		count = 50
	}
	const atOnce = 8
	var all sync.WaitGroup
	for worker := range atOnce {
		all.Go(func() {
			for i := worker; i < count && !t.Failed(); i += atOnce {
				id := fmt.Sprint("many", i)
				for _, verb := range [][]string{{"create", id}, {"start", id}, {"kill", id, "KILL"}, {"delete", "--force", id}} {
					if _, said, code := s.run(verb...); code != 0 {
						t.Errorf("%s: exit code %d: %s", strings.Join(verb, " "), code, said)
					}
				}
			}
		})
	}
	all.Wait()
	if out := s.must("list", "-q"); out != "" {
		t.Errorf("listed: %s", out)
	}
}

// shape is the names of members, as paths, of what a JSON text holds. Members of maps
// that are counters of the kernel's are left out.
func shape(t *testing.T, text string) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	names := make(map[string]bool)
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				names[path+"/"+k] = true
				if k != "raw" && k != "annotations" {
					walk(path+"/"+k, x)
				}
			}
		case []any:
			for _, x := range v {
				walk(path+"[]", x)
			}
		}
	}
	walk("", v)
	return slices.Sorted(maps.Keys(names))
}

// What is printed as JSON has the members that runc's has.
func TestJSONIsThatOfRunc(t *testing.T) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("runc is not installed, to compare with")
	}
	s := newSite(t, func(spec *specs.Spec) {
		spec.Version = "1.0.2" // this runc is older than the example
		spec.Annotations = map[string]string{"a": "b"}
	})
	root := filepath.Join(t.TempDir(), "runc")
	peer := func(args ...string) string {
		cmd := exec.Command(runc, append([]string{"--root", root}, args...)...)
		cmd.Dir = s.bundle
		out, err := os.CreateTemp(t.TempDir(), "out")
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
		err = cmd.Run()
		text, _ := os.ReadFile(out.Name())
		if err != nil {
			t.Fatalf("runc %s: %v: %s", strings.Join(args, " "), err, text)
		}
		return string(text)
	}
	s.must("run", "-d", "ours")
	defer s.run("delete", "--force", "ours")
	peer("run", "-d", "theirs")
	defer peer("delete", "--force", "theirs")
	for _, verb := range [][]string{{"state"}, {"events", "--stats"}, {"ps", "-f", "json"}} {
		ours := shape(t, s.must(append(slices.Clone(verb), "ours")...))
		theirs := shape(t, peer(append(slices.Clone(verb), "theirs")...))
		// Whether a number that may be 0 is there is chance.
		chance := func(name string) bool { return strings.Contains(name, "/blkio/") || name == "/data/memory/cache" }
		for _, name := range theirs {
			if !slices.Contains(ours, name) && !chance(name) {
				t.Errorf("%s lacks %s", verb[0], name)
			}
		}
		for _, name := range ours {
			if !slices.Contains(theirs, name) && !chance(name) && !strings.Contains(name, "/hugetlb/") {
				t.Errorf("%s has %s, which runc has not", verb[0], name)
			}
		}
	}
	if ours, theirs := shape(t, s.must("list", "-f", "json")), shape(t, peer("list", "-f", "json")); !slices.Equal(ours, theirs) {
		t.Errorf("list: %q, want %q", ours, theirs)
	}
}

// An error is one line of the log, in the form that containerd and podman parse: podman
// takes the whole file for one object.
func TestLogIsWhatCallersParse(t *testing.T) {
	s := newSite(t, func(spec *specs.Spec) { spec.Process.Args = []string{"missing"} })
	log := filepath.Join(t.TempDir(), "log.json")
	s.refused("no such file or directory", "--log", log, "--log-format", "json", "create", "c")
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var line struct{ Level, Msg, Time string }
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if line.Level != "error" || !strings.Contains(line.Msg, "no such file or directory") || !strings.Contains(line.Msg, "hint: ") || line.Time == "" {
		t.Errorf("%+v", line)
	}
}

// events --interval prints the counters again and again, and ends with the container.
func TestEventsInIntervals(t *testing.T) {
	s := newSite(t, nil)
	s.refused("not longer than nothing", "events", "--interval", "0s", "watched")
	s.must("run", "-d", "watched")
	defer s.run("delete", "--force", "watched")
	cmd := s.command("events", "--interval", "10ms", "watched")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := json.NewDecoder(out)
	for range 3 {
		var e struct {
			Type, ID string
			Data     map[string]any
		}
		if err := lines.Decode(&e); err != nil || e.Type != "stats" || e.ID != "watched" || e.Data["pids"] == nil {
			t.Fatalf("%+v, error %v", e, err)
		}
	}
	s.must("kill", "watched", "KILL")
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// What can be done about it stands below an error, and on the same line in the log.
func TestErrorsHaveHints(t *testing.T) {
	s := newSite(t, nil)
	s.must("create", "there")
	defer s.run("delete", "--force", "there")
	for _, c := range []struct {
		args []string
		hint string
	}{
		{[]string{"state", "nobody"}, "containr-runtime list shows"},
		{[]string{"exec", "nobody", "true"}, "containr-runtime list shows"},
		{[]string{"create", "there"}, "choose another id"},
		{[]string{"run", "--bundle", t.TempDir(), "new"}, "containr-runtime spec writes one"},
		{[]string{"exec", "--tty", "--detach", "there", "true"}, "--console-socket"},
		{[]string{"kill", "there", "NONSENSE"}, "kill -l"},
	} {
		s.refused("\nhint: ", c.args...)
		s.refused(c.hint, c.args...)
	}
	s.must("start", "there")
	s.refused("delete it with --force", "delete", "there")
}
