package child

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// randomSteps makes a program of calls that succeed, or fail in known ways, with
// random tolerance and dependence. It ends in exit_group.
func randomSteps(r *rand.Rand) []plan.Step {
	b := plan.Build(plan.Child, plan.ProgramChapter)
	for range 3 + r.IntN(30) {
		var call plan.Call
		switch r.IntN(5) {
		case 0:
			call = linux.Chdir{Path: "/"}
		case 1:
			call = linux.Chdir{Path: "/nowhere"}
		case 2:
			call = linux.Close{FD: "-1"}
		case 3:
			call = linux.Umask{Mask: 0o22}
		case 4:
			call = linux.Mkdirat{Dir: linux.CWD, Path: "/", Mode: 0o755}
		}
		s := b.Do("a random step", call)
		for _, e := range []plan.Errno{plan.ENOENT, plan.EBADF, plan.EEXIST, plan.EPERM} {
			if r.IntN(3) > 0 {
				s.Ok(e)
			}
		}
		if r.IntN(6) == 0 {
			s.Try()
		}
		if n := len(b.Steps); n > 1 {
			switch r.IntN(4) {
			case 0:
				if b.Steps[n-2].When != plan.Else {
					s.Then()
				}
			case 1:
				s.Else()
			}
		}
	}
	b.Do("the end", linux.ExitGroup{Code: 0})
	return b.Steps
}

// knownKernel answers the calls of randomSteps as Linux does.
func knownKernel(nr uint32, args [6]uint64, mem []byte) int64 {
	text := func(a uint64) string {
		s, _, _ := bytes.Cut(mem[a-dataBase:], []byte{0})
		return string(s)
	}
	name := func(n string) uint32 { v, _ := linux.SyscallNumber(n, linux.Arch(runtime.GOARCH)); return v }
	switch {
	case nr == name("chdir") && text(args[0]) != "/":
		return -int64(plan.ENOENT)
	case nr == name("close"):
		return -int64(plan.EBADF)
	case nr == name("mkdirat"):
		return -int64(plan.EEXIST)
	case nr == name("umask"):
		return 0o22
	}
	return 0
}

// The assembly and the Go loop make the same decisions.
func TestInterpreterEqualsReference(t *testing.T) {
	exit, _ := linux.SyscallNumber("exit_group", linux.Arch(runtime.GOARCH))
	for seed := range uint64(200) {
		steps := randomSteps(rand.New(rand.NewPCG(seed, 1)))
		p := &plan.Plan{Steps: steps}
		prog, err := Lower(p, Options{Arch: linux.Arch(runtime.GOARCH), FirstFD: 3, Trace: true})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		want, err := prog.Simulate(knownKernel, func(nr uint32, _ int64) bool { return nr == exit })
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		made, failed := execute(t, prog)
		want.Made = slices.DeleteFunc(want.Made, func(i int) bool { return i < 0 })
		if !slices.Equal(made, want.Made) || failed != want.Failed {
			t.Fatalf("seed %d: made %v, failed %d; the reference made %v, failed %d", seed, made, failed, want.Made, want.Failed)
		}
	}
}

// execute runs a traced program and returns the steps it made and the one that failed.
func execute(t *testing.T, prog *Program) (made []int, failed int) {
	t.Helper()
	proc, err := Start(prog, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	failed = -1
	for {
		e, err := proc.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == Failed {
			failed = e.Step
		}
		if e.Kind == Closed {
			break
		}
	}
	if _, err := unix.Wait4(proc.PID, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	for i, r := range proc.Trace() {
		if r.Made {
			made = append(made, i)
		}
	}
	return made, failed
}

// Programs of several goroutines at once do not disturb each other, nor does the
// garbage collector, nor do signals to this process.
func TestManyLaunchesUnderStress(t *testing.T) {
	b := plan.Build(plan.Child, plan.ProgramChapter)
	b.Do("a string to look at", linux.Chdir{Path: strings.Repeat("/.", 100)})
	b.Do("the end", linux.ExitGroup{Code: 42})
	p := &plan.Plan{Steps: b.Steps}
	stop := make(chan struct{})
	var noise sync.WaitGroup
	noise.Go(func() {
		for keep := [][]byte{}; ; {
			select {
			case <-stop:
				return
			default:
				keep = append(keep, make([]byte, 1<<16))
				if len(keep) > 100 {
					keep = nil
					runtime.GC()
				}
				_ = unix.Kill(os.Getpid(), unix.SIGURG) // the runtime ignores it
			}
		}
	})
	var launches sync.WaitGroup
	for range 4 {
		launches.Go(func() {
			for range 50 {
				if code := launchOnce(t, p); code != 42 {
					t.Errorf("exit code %d, want 42", code)
				}
			}
		})
	}
	launches.Wait()
	close(stop)
	noise.Wait()
}

func launchOnce(t *testing.T, p *plan.Plan) int {
	prog, err := Lower(p, Options{Arch: linux.Arch(runtime.GOARCH), FirstFD: 3})
	if err != nil {
		t.Error(err)
		return -1
	}
	proc, err := Start(prog, nil, nil)
	if err != nil {
		t.Error(err)
		return -1
	}
	defer proc.Close()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(proc.PID, &ws, 0, nil)
		if err == nil {
			return ws.ExitStatus()
		}
		if err != unix.EINTR {
			t.Error(err)
			return -1
		}
	}
}

// A waiting program is small, and nothing of this process is in it: no memory, no
// environment, no descriptors, no arguments (launcher hazards 5 and 6).
func TestWaitingProgramIsSmallAndClean(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	b := plan.Build(plan.Child, plan.ProgramChapter)
	b.Do("nothing else stays open", linux.CloseRange{First: 5})
	b.Do("ready", linux.Write{FD: linux.FD(Sync), Data: MessageReady})
	b.Do("wait", linux.Read{FD: "pipe", Size: 1}).OrGone()
	b.Do("the end", linux.ExitGroup{})
	values := map[plan.Reg]int{"pipe": pipe[0]}
	prog, err := Lower(&plan.Plan{Steps: b.Steps}, Options{Arch: linux.Arch(runtime.GOARCH), FirstFD: 3, Values: values, Order: []plan.Reg{"pipe"}})
	if err != nil {
		t.Fatal(err)
	}
	proc, err := Start(prog, nil, values)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	if e, err := proc.Next(); err != nil || e.Kind != Ready {
		t.Fatalf("event %v, %v", e, err)
	}
	checkClean(t, proc.PID)
	unix.Close(pipe[1])
	if e, err := proc.Next(); err != nil || e.Kind != Failed || e.Errno != plan.EPIPE {
		t.Errorf("when the pipe closed: event %v, %v; want EPIPE", e, err)
	}
	if _, err := unix.Wait4(proc.PID, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
}

func checkClean(t *testing.T, pid int) {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile("/proc/" + itoa(pid) + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if env := read("environ"); env != "" {
		t.Errorf("environment %q", env)
	}
	if args := read("cmdline"); args != "containr-init\x00" {
		t.Errorf("arguments %q", args)
	}
	maps := strings.Count(read("maps"), "\n")
	if maps > 8 {
		t.Errorf("%d mappings:\n%s", maps, read("maps"))
	}
	exe, err := os.Readlink("/proc/" + itoa(pid) + "/exe")
	if err != nil || !strings.HasPrefix(exe, "/memfd:containr-init") {
		t.Errorf("executable %q, %v", exe, err)
	}
	for line := range strings.Lines(read("status")) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" && len(f[1]) > 2 {
			t.Errorf("resident memory %s kB, want less than 100", f[1])
		}
	}
	fds, err := os.ReadDir("/proc/" + itoa(pid) + "/fd")
	if err != nil || len(fds) != 5 {
		t.Errorf("descriptors %v, %v: want 0, 1, 2, sync, pipe", fds, err)
	}
	// Nobody can make the program write to its own image.
	f, err := os.OpenFile("/proc/"+itoa(pid)+"/exe", os.O_WRONLY, 0)
	if err == nil {
		if _, err = f.Write([]byte("x")); err == nil {
			t.Error("the program's image could be written to")
		}
		f.Close()
	}
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func TestZeroByteInStringIsRefused(t *testing.T) {
	b := plan.Build(plan.Child, plan.ProgramChapter)
	b.Do("a path with a zero byte ends early", linux.Chdir{Path: "/a\x00b"})
	if _, err := Lower(&plan.Plan{Steps: b.Steps}, Options{Arch: linux.AMD64, FirstFD: 3}); err == nil {
		t.Error("lowered a string with a zero byte")
	}
}

const resolveCached linux.ResolveFlags = 0x20 // RESOLVE_CACHED

// A path is looked up again when something is renamed meanwhile, and not for ever.
func TestRenamesElsewhereDoNotStopALookup(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "x"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	renamed, stop := 0, make(chan struct{})
	var noise sync.WaitGroup
	noise.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := unix.Rename(filepath.Join(dir, "x"), filepath.Join(dir, "y")); err != nil {
				t.Error(err)
			}
			if err := unix.Rename(filepath.Join(dir, "y"), filepath.Join(dir, "x")); err != nil {
				t.Error(err)
			}
			renamed++
		}
	})
	b := plan.Build(plan.Child, plan.ProgramChapter)
	b.Do("a root", linux.Openat{Dir: linux.CWD, Path: dir, Flags: linux.OPath | linux.ODirectory}).As("root")
	for range 200 {
		b.Do("a path with dots", linux.Openat2{Dir: "root", Path: strings.Repeat("a/../", 40) + "a", Flags: linux.OPath, Resolve: linux.ResolveInRoot}).As("at")
		b.Do("done", linux.Close{FD: "at"})
	}
	b.Do("the end", linux.ExitGroup{Code: 42})
	p := &plan.Plan{Steps: b.Steps}
	for range 20 {
		if code := launchOnce(t, p); code != 42 {
			t.Errorf("exit code %d, want 42", code)
		}
	}
	close(stop)
	noise.Wait()
	t.Logf("%d times renamed meanwhile", 2*renamed)
	// Never: to make a file is what RESOLVE_CACHED refuses, with EAGAIN.
	never := plan.Build(plan.Child, plan.ProgramChapter)
	never.Do("a root", linux.Openat{Dir: linux.CWD, Path: dir, Flags: linux.OPath | linux.ODirectory}).As("root")
	never.Do("in vain", linux.Openat2{Dir: "root", Path: "new", Flags: linux.OCreat, Mode: 0o600, Resolve: linux.ResolveInRoot | resolveCached}).As("at")
	never.Do("the end", linux.ExitGroup{Code: 42})
	if code := launchOnce(t, &plan.Plan{Steps: never.Steps}); code != FailureCode {
		t.Errorf("exit code %d, want %d", code, FailureCode)
	}
	again := make(map[uint32]int)
	nr, _ := linux.SyscallNumber("openat2", linux.Arch(runtime.GOARCH))
	prog, err := Lower(p, Options{Arch: linux.Arch(runtime.GOARCH), FirstFD: 3})
	if err != nil {
		t.Fatal(err)
	}
	out, err := prog.Simulate(func(n uint32, _ [6]uint64, _ []byte) int64 {
		again[n]++
		if n == nr {
			return -int64(plan.EAGAIN)
		}
		return 0
	}, func(uint32, int64) bool { return false })
	if err != nil || out.Errno != plan.EAGAIN || again[nr] != 1001 {
		t.Errorf("%d lookups, then %v, %v", again[nr], out.Errno, err)
	}
}
