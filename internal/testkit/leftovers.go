package testkit

import (
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/containr/containr/internal/testkit/procfs"
)

// RunDir is containr's directory for what does not outlive a boot; Leftovers always watches it.
const RunDir = "/run/containr"

// settleTime is how long Leftovers waits for the kernel to finish what it does in the background: reaping, freeing a
// network namespace with its links, removing a dying cgroup.
const settleTime = 3 * time.Second

// Leftovers notes the state of the machine now and compares it with the state at the end of the test. What is new
// then, or has gone, fails the test with a list. It watches
//
//   - mounts of this mount namespace (new and lost),
//   - processes: new descendants of the test process, new ones that carry its mark in their environment, keepers of
//     containers below its temporary directories, and new ones in a mount, pid or network namespace that did not exist
//     before, unless another test process is their ancestor,
//   - cgroup directories of every mounted hierarchy (new),
//   - files below RunDir and below each of dirs (new and lost); dirs themselves may come to be,
//   - network links and their addresses (new and lost),
//   - file descriptors of the test process (new).
//
// Call it first, so that its check comes after all other clean-up. In a world (see World) that is the whole machine for the test.
// Elsewhere, to keep tests of other processes from being taken for leftovers, it holds a lock of the machine until the test ends:
// tests with Leftovers then run one at a time, also across packages. The test and its subtests may call it again. It gives background work of the kernel three seconds to end.
func Leftovers(t testing.TB, dirs ...string) {
	t.Helper()
	lockMachine(t)
	dirs = append([]string{RunDir}, dirs...)
	// The mark must be in the environment of what the test starts, and be new for each test.
	mark := fmt.Sprintf("%d/%s", os.Getpid(), t.Name())
	old, had := os.LookupEnv(markVar)
	os.Setenv(markVar, mark)
	before, err := snapshot(dirs, mark)
	if err != nil {
		t.Fatalf("noting the state of the machine: %v", err)
	}
	t.Cleanup(func() {
		if had {
			os.Setenv(markVar, old)
		} else {
			os.Unsetenv(markVar)
		}
		left, err := settle(before, dirs, mark)
		if err != nil {
			t.Errorf("comparing the state of the machine: %v", err)
		}
		if len(left) > 0 {
			t.Errorf("left behind by %s (+ new, - lost):\n  %s", t.Name(), strings.Join(left, "\n  "))
		}
	})
}

// markVar is the environment variable by which a process of a test is known after it has lost its parent.
const markVar = "CONTAINR_TEST_MARK"

// HeldVar, when it is in the environment of a test binary, says that the test that started it has the machine's lock and
// keeps it until the binary ends.
const HeldVar = "CONTAINR_TEST_MACHINE_HELD"

// WorldVar is set in a world and in the environment of everything in it, to the inode of its PID namespace.
const WorldVar = "CONTAINR_TEST_WORLD"

// machine is the lock that Leftovers holds, and the test that holds it in this process.
var machine struct {
	sync.Mutex
	holder string
}

// lockMachine takes the lock for t, unless t has it, or a test that t is a part of, or that started this process.
func lockMachine(t testing.TB) {
	machine.Lock()
	inside := machine.holder != "" && strings.HasPrefix(t.Name()+"/", machine.holder+"/")
	machine.Unlock()
	if inside || os.Getenv(HeldVar) != "" || InWorld() {
		return
	}
	f, err := LockMachine()
	if err != nil {
		t.Fatal(err)
	}
	machine.Lock()
	machine.holder = t.Name()
	machine.Unlock()
	t.Cleanup(func() {
		machine.Lock()
		machine.holder = ""
		machine.Unlock()
		f.Close()
	})
}

// LockMachine waits until no test watches what is left on the machine, and keeps others from it until the file is
// closed. It is for tests that leave things for a while without watching, such as daemons that run containers. The
// machine has one such lock, wherever $TMPDIR has its files.
func LockMachine() (*os.File, error) {
	return Lock("/tmp/containr-kernel-test.lock")
}

// settle compares until nothing is left or settleTime is over, and returns the last comparison.
func settle(before state, dirs []string, mark string) ([]string, error) {
	deadline := time.Now().Add(settleTime)
	for {
		after, err := snapshot(dirs, mark)
		if err != nil {
			return nil, err
		}
		left := before.diff(after)
		if len(left) == 0 || time.Now().After(deadline) {
			return left, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// state is what a snapshot saw, as printable lines by kind.
type state struct {
	mounts, files, links map[string]bool
	cgroups, fds         map[string]bool
	// processes are by pid and start time; the value is the line.
	processes map[string]process
	// namespaces are the inodes of the namespaces in which any process was.
	namespaces map[uint64]bool
}

// process is a live process as Leftovers prints it, with what decides whose it is.
type process struct {
	line       string
	ours       bool // a descendant, or it carries the mark
	other      bool // another test process, or a descendant of one
	namespaces map[string]uint64
}

func snapshot(dirs []string, mark string) (state, error) {
	s := state{mounts: map[string]bool{}, files: map[string]bool{}, links: map[string]bool{}, cgroups: map[string]bool{},
		fds: map[string]bool{}, processes: map[string]process{}, namespaces: map[uint64]bool{}}
	mounts, err := procfs.Mountinfo(0)
	if err != nil {
		return s, err
	}
	for _, m := range mounts {
		s.mounts[fmt.Sprintf("mount %d: %s", m.ID, m)] = true
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			addDirs(s.cgroups, m.Point)
		}
	}
	for _, dir := range dirs {
		addFiles(s.files, dir)
	}
	if err := s.addLinks(); err != nil {
		return s, err
	}
	s.addDescriptors()
	return s, s.addProcesses(mark)
}

// addDirs lists the directories below a cgroup mount, without the worlds that other test processes have. One that vanishes meanwhile
// is none.
func addDirs(set map[string]bool, root string) {
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), worldPrefix) && !InWorld() {
			return filepath.SkipDir
		}
		if d.IsDir() && path != root {
			set["cgroup "+path] = true
		}
		return nil
	})
}

// addFiles lists what is below dir. In RunDir the fixed directories of the first level are no leftovers.
func addFiles(set map[string]bool, dir string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return nil
		}
		if filepath.Dir(path) == RunDir && d.IsDir() {
			return nil
		}
		set[fmt.Sprintf("file %s %s", d.Type(), path)] = true
		return nil
	})
}

func (s *state) addLinks() error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		s.links[fmt.Sprintf("link %d: %s", l.Index, l.Name)] = true
		addrs, _ := l.Addrs() // the link may have gone
		for _, a := range addrs {
			s.links[fmt.Sprintf("link %d: %s address %s", l.Index, l.Name, a)] = true
		}
	}
	return nil
}

// addDescriptors lists the descriptors of this process but for the one it lists with, and those of the Go runtime,
// which makes its poller when the first socket is opened and keeps it.
func (s *state) addDescriptors() {
	list, _ := os.ReadDir("/proc/self/fd")
	for _, e := range list {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]" {
			continue
		}
		s.fds["descriptor "+e.Name()+" -> "+target] = true
	}
}

func (s *state) addProcesses(mark string) error {
	procs, err := procfs.Processes()
	if err != nil {
		return err
	}
	descendants := procfs.Descendants(procs, os.Getpid())
	others := otherTests(procs)
	for pid, st := range procs {
		// One that has ended: init will hear of it in its own time. Threads of the kernel are nobody's.
		if pid == os.Getpid() || st.State == "Z" && st.PPID == 1 || st.Kernel {
			continue
		}
		ns, _ := procfs.Namespaces(pid) // nil for a zombie
		for _, inode := range ns {
			s.namespaces[inode] = true
		}
		_, child := slices.BinarySearch(descendants, pid)
		s.processes[fmt.Sprintf("%d@%d", pid, st.Start)] = process{
			line:       fmt.Sprintf("process %d (parent %d, state %s): %s", pid, st.PPID, st.State, commandLine(pid, st)),
			ours:       child || carries(pid, mark) || keeps(pid, mark),
			other:      others[pid],
			namespaces: ns,
		}
	}
	return nil
}

// otherTests returns the processes that belong to the test processes of other packages, which go test runs at the same
// time: those without Leftovers do not wait for the lock, and may make namespaces of their own.
func otherTests(procs map[int]procfs.Stat) map[int]bool {
	others := map[int]bool{}
	for pid, st := range procs {
		if st.Kernel {
			continue // there are a hundred of them, and they have no program
		}
		exe, err := os.Readlink(procfs.Path(pid, "exe"))
		if err != nil || pid == os.Getpid() || !strings.HasSuffix(exe, ".test") {
			continue
		}
		others[pid] = true
		for _, d := range procfs.Descendants(procs, pid) {
			others[d] = true
		}
	}
	return others
}

// carries reports whether the process was started with the mark in its environment.
func carries(pid int, mark string) bool {
	b, err := os.ReadFile(procfs.Path(pid, "environ"))
	return err == nil && strings.Contains("\x00"+string(b), "\x00"+markVar+"="+mark+"\x00")
}

// keeps reports whether a process is the keeper of a container in a state root of the test that the mark names. A keeper
// has no environment, is in the host's namespaces, and is a child of process 1 once who started the container has ended;
// but it has the file open that it will write the exit status to.
func keeps(pid int, mark string) bool {
	exe, err := os.Readlink(procfs.Path(pid, "exe"))
	if err != nil || !strings.HasPrefix(exe, "/memfd:containr-init") {
		return false
	}
	_, name, _ := strings.Cut(mark, "/")
	files, _ := filepath.Glob(procfs.Path(pid, "fd") + "/*")
	return slices.ContainsFunc(files, func(fd string) bool {
		path, err := os.Readlink(fd)
		below, found := strings.CutPrefix(path, os.TempDir()+"/")
		return err == nil && found && (strings.HasPrefix(below, tempName(name)) || strings.HasPrefix(below, "go-test-script"))
	})
}

// tempName is how the name of a test begins the names of its temporary directories, and those of its subtests.
func tempName(test string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("!#$%&()+,-.=@^_{}~ ", r) || unicode.IsLetter(r) || unicode.IsNumber(r) {
			return r
		}
		return -1
	}, test)
}

func commandLine(pid int, st procfs.Stat) string {
	b, _ := os.ReadFile(procfs.Path(pid, "cmdline"))
	if len(b) == 0 {
		return "[" + st.Comm + "]"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}

// diff lists, sorted within each kind, what is new in after and what was lost.
func (before state) diff(after state) []string {
	var out []string
	out = append(out, added("+ ", before.mounts, after.mounts)...)
	out = append(out, added("- ", after.mounts, before.mounts)...)
	out = append(out, before.newProcesses(after)...)
	out = append(out, added("+ ", before.cgroups, after.cgroups)...)
	out = append(out, added("+ ", before.files, after.files)...)
	out = append(out, added("- ", after.files, before.files)...)
	out = append(out, added("+ ", before.links, after.links)...)
	out = append(out, added("- ", after.links, before.links)...)
	return append(out, added("+ ", before.fds, after.fds)...)
}

// added returns the sorted members of b that a lacks, each with the sign in front.
func added(sign string, a, b map[string]bool) []string {
	var out []string
	for _, line := range slices.Sorted(maps.Keys(b)) {
		if !a[line] {
			out = append(out, sign+line)
		}
	}
	return out
}

func (before state) newProcesses(after state) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(after.processes)) {
		p := after.processes[id]
		if _, old := before.processes[id]; old {
			continue
		}
		contained := false
		for _, kind := range []string{"mnt", "pid", "net"} {
			inode, ok := p.namespaces[kind]
			contained = contained || ok && !before.namespaces[inode]
		}
		if p.ours || contained && !p.other {
			out = append(out, "+ "+p.line)
		}
	}
	return out
}
