package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// victimVar makes this test program play the container's process: its value is the
// part, and the program waits for a line on standard input before it acts.
const victimVar = "CONTAINR_TEST_VICTIM"

func TestMain(m *testing.M) {
	if part := os.Getenv(victimVar); part != "" {
		orders := bufio.NewReader(os.Stdin)
		orders.ReadString('\n')
		victim(part, orders)
		return
	}
	testkit.Main(m)
}

func victim(part string, orders *bufio.Reader) {
	verb, arg, _ := strings.Cut(part, " ")
	switch verb {
	case "eat": // touch so many megabytes
		n, _ := strconv.Atoi(arg)
		for range n {
			block, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				fmt.Println("mmap:", err)
				return
			}
			for i := 0; i < len(block); i += 4096 {
				block[i] = 1
			}
		}
		fmt.Println("ate")
		io.Copy(io.Discard, os.Stdin)
	case "spin":
		for i := 0; i >= 0; {
			i ^= 1
		}
	case "fork": // start so many processes
		n, _ := strconv.Atoi(arg)
		for i := range n {
			if _, err := forkSleeper(); err != nil {
				fmt.Println("refused after", i, err)
				return
			}
		}
		fmt.Println("forked")
		io.Copy(io.Discard, os.Stdin)
	case "open": // open device nodes
		for _, path := range strings.Fields(arg) {
			fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK, 0)
			if err == nil {
				unix.Close(fd)
			}
			fmt.Println(path, err)
		}
	case "reopen": // open a device node at every line
		for {
			fd, err := unix.Open(arg, unix.O_RDWR|unix.O_NONBLOCK, 0)
			if err == nil {
				unix.Close(fd)
			}
			fmt.Println(err)
			if _, err := orders.ReadString('\n'); err != nil {
				return
			}
		}
	case "sleep":
		fmt.Println("asleep")
		io.Copy(io.Discard, os.Stdin)
	case "affinity":
		var set unix.CPUSet
		unix.SchedGetaffinity(0, &set)
		fmt.Println(set.Count())
	}
}

// forkSleeper starts a process that lives until its standard input ends. It is not the
// one of the parent: that would end a test too early.
func forkSleeper() (*exec.Cmd, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimVar+"=sleep")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	io.WriteString(in, "\n")
	return cmd, nil
}

// executor makes host steps, as pkg/runtime does, without its journal.
type executor struct {
	pid   int
	files map[linux.FD]*os.File
}

func (e *executor) run(steps []plan.Step) error {
	head := error(nil)
	for i := range steps {
		s := &steps[i]
		if s.When == plan.Then && head != nil || s.When == plan.Else && head == nil {
			continue
		}
		err := e.call(s)
		if s.When == plan.Always {
			head = err
		}
		var errno syscall.Errno
		tolerated := s.TolerateAny || errors.As(err, &errno) && slices.Contains(s.Tolerate, plan.Errno(errno))
		if err != nil && !tolerated {
			return fmt.Errorf("%s: %w", s.String(), err)
		}
	}
	return nil
}

func (e *executor) call(s *plan.Step) error {
	switch c := s.Call.(type) {
	case linux.MakeDir:
		return os.Mkdir(c.Path, os.FileMode(c.Mode))
	case linux.WriteFile:
		return writeOnce(c.Path, c.Data)
	case linux.CopyFile:
		old, err := os.ReadFile(c.To)
		if err != nil || len(strings.TrimSpace(string(old))) > 0 {
			return err
		}
		data, err := os.ReadFile(c.From)
		if err != nil {
			return err
		}
		return writeOnce(c.To, strings.TrimSpace(string(data)))
	case linux.Attach:
		return writeOnce(c.Path, strconv.Itoa(e.pid))
	case linux.DeviceFilter:
		dir, err := os.Open(c.Cgroup)
		if err != nil {
			return err
		}
		defer dir.Close()
		if c.Replace {
			return sys.ReplaceDeviceFilter(int(dir.Fd()), []byte(c.Program))
		}
		return sys.AttachDeviceFilter(int(dir.Fd()), []byte(c.Program))
	case linux.OpenHost:
		fd, err := unix.Open(c.Path, int(c.Flags), 0)
		if err == nil {
			e.files[linux.FD(s.Result)] = os.NewFile(uintptr(fd), c.Path)
		}
		return err
	}
	return fmt.Errorf("unexpected action %s", s.Call.Name())
}

func writeOnce(path, data string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(data)
	return err
}

// box is a control group with a process in it.
type box struct {
	t     *testing.T
	facts *host.Facts
	group *Group
	paths []string
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
}

// facts are those of the machine; a test that asks for the unified hierarchy of a
// machine with version 1 gets that one.
func machineFacts(t *testing.T) *host.Facts {
	t.Helper()
	testkit.RequireRoot(t)
	f, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	if f.CgroupMode == host.NoCgroup {
		t.Skip("needs control groups: none are mounted on /sys/fs/cgroup")
	}
	return f
}

// unified returns facts for version 2: the machine's, or those of the hierarchy that a
// hybrid machine has beside version 1.
func unifiedFacts(t *testing.T) *host.Facts {
	t.Helper()
	f := machineFacts(t)
	if f.CgroupMode == host.CgroupV2 {
		return f
	}
	const mount = "/sys/fs/cgroup/unified"
	var st unix.Statfs_t
	if err := unix.Statfs(mount, &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Skip("needs cgroup version 2: nothing of that kind is mounted on " + mount)
	}
	offered, err := os.ReadFile(mount + "/cgroup.controllers")
	if err != nil {
		t.Fatal(err)
	}
	f.CgroupMode = host.CgroupV2
	f.Hierarchies = []host.Hierarchy{{Controllers: strings.Fields(string(offered)), Path: mount, Own: "/"}}
	return f
}

// eachMode runs the test for the machine's version and, on a hybrid one, for the
// unified hierarchy too.
func eachMode(t *testing.T, test func(t *testing.T, f *host.Facts)) {
	t.Run("machine", func(t *testing.T) { test(t, machineFacts(t)) })
	t.Run("unified", func(t *testing.T) {
		f := unifiedFacts(t)
		if f.Hierarchies[0].Path == "/sys/fs/cgroup" {
			t.Skip("this machine has version 2 alone, so that the other subtest was the same")
		}
		test(t, f)
	})
}

// testGroup is the absolute path of all groups that this test program makes.
func testGroup() string { return "/containr-test-" + strconv.Itoa(os.Getpid()) }

// newBox plans and makes a group, and starts the part inside it, waiting. Everything is
// gone at the end of the test.
func newBox(t *testing.T, f *host.Facts, res *specs.LinuxResources, part string) *box {
	t.Helper()
	p, err := Plan(specOf(testGroup()+"/box", res), f, "box")
	if err != nil {
		t.Fatal(err)
	}
	return startBox(t, f, p, part)
}

func startBox(t *testing.T, f *host.Facts, p *Placement, part string) *box {
	t.Helper()
	b := &box{t: t, facts: f, paths: p.Paths, group: Open(f.CgroupMode, p.Paths)}
	t.Cleanup(b.clean)
	e := &executor{files: map[linux.FD]*os.File{}}
	if err := e.run(p.Setup); err != nil {
		t.Fatal(err)
	}
	b.cmd = exec.Command("/proc/self/exe")
	b.cmd.Env = append(os.Environ(), victimVar+"="+part)
	b.cmd.Stderr = os.Stderr
	if dir := e.files[p.Into]; dir != nil {
		defer dir.Close()
		b.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	in, err := b.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	b.in, b.out = in, bufio.NewReader(out)
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e.pid = b.cmd.Process.Pid
	if err := e.run(p.Attach); err != nil {
		t.Fatal(err)
	}
	// The child cannot move itself by itself, and it has threads: it is moved as a whole.
	for _, s := range p.Join {
		if c, ok := s.Call.(linux.Openat); ok {
			if err := writeOnce(filepath.Join(filepath.Dir(c.Path), "cgroup.procs"), strconv.Itoa(e.pid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return b
}

// clean kills what runs, removes the groups, and the parents that the tests share.
func (b *box) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.group.Kill(ctx); err != nil {
		b.t.Errorf("kill: %v", err)
	}
	if b.cmd != nil && b.cmd.Process != nil {
		b.cmd.Process.Kill()
		b.cmd.Wait()
	}
	if err := b.group.Remove(); err != nil {
		b.t.Errorf("remove: %v", err)
	}
	for _, p := range b.paths {
		if parent := filepath.Dir(p); strings.HasSuffix(parent, testGroup()) {
			os.Remove(parent)
		}
	}
}

// act lets the process play its part.
func (b *box) act() { io.WriteString(b.in, "\n") }

// line reads a line of the process; "" after its end.
func (b *box) line() string {
	s, _ := b.out.ReadString('\n')
	return strings.TrimSpace(s)
}

// signal waits for the process and returns the signal that ended it, 0 for none.
func (b *box) signal() syscall.Signal {
	b.in.Close()
	b.cmd.Wait()
	if st, ok := b.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return st.Signal()
	}
	return 0
}

func (b *box) usage() *Usage {
	b.t.Helper()
	u, err := b.group.Usage()
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

// needs skips where the machine has no such controller.
func needs(t *testing.T, f *host.Facts, controllers ...string) {
	t.Helper()
	for _, c := range controllers {
		if _, ok := f.Hierarchy(c); !ok {
			t.Skipf("needs the controller %s: cgroup %s here does not offer it", c, f.CgroupMode)
		}
	}
}
