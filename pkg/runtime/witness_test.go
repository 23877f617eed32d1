package runtime

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// strace is the witness: it records every call of the container's first process,
// from the execution of its program to that of the user's. The plan's program,
// simulated with the recorded results in the place of the kernel, must ask for
// exactly those calls, in that order, with those strings.
func TestWitness(t *testing.T) {
	testkit.RequireRoot(t)
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skipf("strace is not installed: %v", err)
	}
	testkit.Leftovers(t)
	bundle := t.TempDir()
	spec := exampleSpec("/probe", "-exit", "3")
	spec.Root.Path = testkit.Rootfs(t)
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, filepath.Join(bundle, "config.json"), string(text), 0o644)
	binary := runtimeBinary(t)
	traces := filepath.Join(bundle, "trace")
	var cmd *exec.Cmd
	out, err := testkit.Strace(t, func() ([]byte, error) {
		removeTraces(t, traces)
		cmd = exec.Command("strace", "-ff", "-s", "4096", "-o", traces, binary, "--root", filepath.Join(bundle, "root"), "run", "--bundle", bundle, "witness")
		return cmd.CombinedOutput()
	})
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	calls := childCalls(t, traces)
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(Input{ID: "witness", Spec: spec, Facts: facts, Root: spec.Root.Path})
	if err != nil {
		t.Fatal(err)
	}
	compareWithWitness(t, p, calls)
}

// removeTraces removes the files of an earlier attempt, whose names begin with this path.
func removeTraces(t *testing.T, prefix string) {
	t.Helper()
	files, err := filepath.Glob(prefix + ".*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// runtimeBinary returns the path of the command line: the one that the environment
// names, for machines without a Go toolchain, or one that is built here.
func runtimeBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CONTAINR_TEST_RUNTIME"); path != "" {
		return path
	}
	path, err := testkit.Build("github.com/containr/containr/cmd/containr-runtime", "")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// witnessed is one line of strace.
type witnessed struct {
	line, name string
	result     int64
}

// childCalls finds the trace of the container's first process and returns what lies
// between its program's execveat and the user's execve, that included.
func childCalls(t *testing.T, prefix string) []witnessed {
	t.Helper()
	files, err := filepath.Glob(prefix + ".*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, own, found := strings.Cut(string(text), "execveat(")
		if !found {
			continue
		}
		_, own, _ = strings.Cut(own, "\n")
		var calls []witnessed
		for line := range strings.Lines(own) {
			c := parseStrace(t, line)
			calls = append(calls, c)
			if c.name == "execve" && c.result == 0 {
				return calls
			}
		}
	}
	t.Fatalf("no process in %v executed the program", files)
	return nil
}

func parseStrace(t *testing.T, line string) witnessed {
	t.Helper()
	name, _, ok := strings.Cut(line, "(")
	i := strings.LastIndex(line, ") = ")
	if i < 0 {
		i = strings.LastIndex(line, "= ") - 2 // the result is in a column of its own
	}
	if !ok || i < 0 {
		t.Fatalf("strace line %q", line)
	}
	result := strings.Fields(strings.TrimLeft(line[i+2:], "= "))
	w := witnessed{line: line, name: name}
	n, err := strconv.ParseInt(result[0], 0, 64)
	if err != nil {
		t.Fatalf("strace line %q: %v", line, err)
	}
	w.result = n
	if n == -1 {
		for e := plan.Errno(1); e < 134; e++ {
			if len(result) > 1 && e.Name() == result[1] {
				w.result = -int64(e)
			}
		}
		if w.result == -1 && result[1] != "EPERM" {
			t.Fatalf("strace line %q: unknown errno", line)
		}
	}
	return w
}

func compareWithWitness(t *testing.T, p *plan.Plan, calls []witnessed) {
	t.Helper()
	prog, err := child.Lower(p, child.Options{Arch: goarch, FirstFD: 3, Values: map[plan.Reg]int{"cgroup": 9}, Hold: true, Beside: true})
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	kernel := func(nr uint32, args [6]uint64, mem []byte) int64 {
		if at == len(calls) {
			t.Fatalf("the plan goes on with %s after the last call", linux.SyscallName(nr, goarch))
		}
		c := calls[at]
		at++
		if name := linux.SyscallName(nr, goarch); name != c.name {
			t.Fatalf("call %d: the plan asks for %s, strace saw %s", at, name, c.line)
		}
		return c.result
	}
	execve, _ := linux.SyscallNumber("execve", goarch)
	out, err := prog.Simulate(kernel, func(nr uint32, result int64) bool { return nr == execve && result == 0 })
	if err != nil {
		t.Fatal(err)
	}
	if at != len(calls) || out.Failed >= 0 {
		t.Errorf("the plan ends after %d of %d calls (failed step %d)", at, len(calls), out.Failed)
	}
	checkStrings(t, p, out.Made, calls)
	t.Logf("%d calls witnessed", len(calls))
}

// checkStrings compares the strings of every step with its line.
func checkStrings(t *testing.T, p *plan.Plan, made []int, calls []witnessed) {
	t.Helper()
	for i, step := range made {
		if step < 0 {
			continue
		}
		for _, a := range p.Steps[step].Call.AppendArgs(nil) {
			if a.Kind == plan.Text && !strings.Contains(calls[i].line, `"`+a.Text+`"`) {
				t.Errorf("step %d, %s: strace saw %s", step+1, p.Steps[step].String(), calls[i].line)
			}
		}
	}
}
