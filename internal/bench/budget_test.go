package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containr/containr/internal/testkit"
)

// What one run of a full container may cost, in numbers that are the same on a busy
// machine: who adds to them should know that, and say what for. Both count the runtime
// and the container until its program ends, the page faults Go's own start as well.
const (
	systemCallBudget = 430
	pageFaultBudget  = 400
)

// ofGo are system calls that Go's runtime makes, some of them as often as the machine
// lets it wait.
var ofGo = []string{"arch_prctl", "clone", "epoll_pwait", "futex", "getpid", "gettid", "madvise", "mmap", "nanosleep", "restart_syscall", "rt_sigaction",
	"rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield", "sigaltstack", "tgkill"}

func TestRunKeepsToItsBudget(t *testing.T) {
	run := budgetRun(t)
	faults := make([]int64, 5)
	for i := range faults {
		attr := &syscall.ProcAttr{Env: run.env, Files: []uintptr{0, 1, 2}}
		pid, err := syscall.ForkExec(run.argv[0], run.argv, attr)
		if err != nil {
			t.Fatal(err)
		}
		status, usage, err := wait(pid)
		if err != nil || status != 0 {
			t.Fatalf("exit status %d, %v", status, err)
		}
		faults[i] = int64(usage.Minflt)
	}
	if least := slices.Min(faults); least > pageFaultBudget {
		t.Errorf("a run takes %d page faults, its budget is %d", least, pageFaultBudget)
	} else {
		t.Logf("%d page faults, of %d", least, pageFaultBudget)
	}
}

func TestRunMakesFewSystemCalls(t *testing.T) {
	run := budgetRun(t)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	if out, err := testkit.Strace(t, func() ([]byte, error) {
		return exec.Command(strace, append([]string{"-f", "-o", trace}, run.argv...)...).CombinedOutput()
	}); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	begun := regexp.MustCompile(`(?m)^\d+ +(\w+)\(`)
	counts, sum := map[string]int{}, 0
	for _, m := range begun.FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(ofGo, m[1]) {
			counts[m[1]]++
			sum++
		}
	}
	t.Logf("%d system calls, of %d", sum, systemCallBudget)
	if sum > systemCallBudget {
		t.Errorf("a run takes %d system calls, its budget is %d: %v", sum, systemCallBudget, counts)
	}
}

// budgetRun is a run of a full container by the runtime that make has built.
func budgetRun(t *testing.T) command {
	if os.Geteuid() != 0 {
		t.Skip("skipped: containers of root are measured")
	}
	program, err := filepath.Abs(filepath.Join("..", "..", "bin", "containr-runtime"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("skipped: %v: run make first", err)
	}
	testkit.Leftovers(t)
	b := &bench{dir: t.TempDir()}
	bundle, err := b.makeBundle("budget", "/true", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeGroups(); err != nil {
			t.Error(err)
		}
	})
	run := cmd(program, "--root", filepath.Join(b.dir, "state"), "run", "--bundle", bundle, "budget")
	if said, err := exec.Command(run.argv[0], run.argv[1:]...).CombinedOutput(); err != nil { // the first has files to read
		t.Fatalf("%s: %v: %s", strings.Join(run.argv, " "), err, said)
	}
	return run
}
