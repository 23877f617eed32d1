package runtime

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
)

// now reads a clock of the host.
func now(t *testing.T, clock int32) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// Clocks in a time namespace are shifted, for the first process and for further ones,
// with and without a user namespace.
func TestTimeOffsets(t *testing.T) {
	const day, half = 86400 * time.Second, 500 * time.Millisecond
	shift := func(spec *specs.Spec) *specs.Spec {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 86400, Nanosecs: 5e8}, "boottime": {Secs: -1}}
		return spec
	}
	check := func(t *testing.T, clocks map[string]time.Duration) {
		t.Helper()
		for name, want := range map[string]time.Duration{"monotonic": now(t, unix.CLOCK_MONOTONIC) + day + half, "boottime": now(t, unix.CLOCK_BOOTTIME) - time.Second} {
			if late := want - clocks[name]; late < 0 || late > 10*time.Second {
				t.Errorf("%s shows %v, want %v", name, clocks[name], want)
			}
		}
	}
	t.Run("first", func(t *testing.T) {
		testkit.Leftovers(t)
		check(t, probe(t, shift(exampleSpec("/probe"))).Clocks)
	})
	t.Run("user namespace", func(t *testing.T) {
		testkit.Leftovers(t)
		check(t, probe(t, shift(userSpec())).Clocks)
	})
	t.Run("exec", func(t *testing.T) {
		c := runWaiting(t, shift(exampleSpec()))
		check(t, c.probe(exampleSpec("/probe").Process).Clocks)
	})
}

func TestTimeOffsetsThatCannotBe(t *testing.T) {
	ns := specs.LinuxNamespace{Type: specs.TimeNamespace}
	for want, change := range map[string]func(*specs.Linux){
		"need a new time namespace": func(l *specs.Linux) { l.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {}} },
		"unknown clock": func(l *specs.Linux) {
			l.Namespaces = append(l.Namespaces, ns)
			l.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {}}
		},
		"nanosecs": func(l *specs.Linux) {
			l.Namespaces = append(l.Namespaces, ns)
			l.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Nanosecs: 1e9}}
		},
	} {
		spec := exampleSpec("/bin/sh")
		change(spec.Linux)
		wantRefusal(t, spec, want)
	}
}

// wantRefusal checks that a configuration is, with an error that holds a text.
func wantRefusal(t *testing.T, spec *specs.Spec, want string) {
	t.Helper()
	_, err := Compile(Input{ID: "x", Root: "/rootfs", Spec: spec, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 5, Minor: 10})})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v: want one with %q", err, want)
	}
}

// The kernel treats the process as the configuration says, and a further process too.
func TestScheduling(t *testing.T) {
	spec := exampleSpec("/probe")
	spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
	spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolInterleave, Nodes: "0"}
	check := func(t *testing.T, spec *specs.Spec) {
		t.Helper()
		process := *spec.Process
		c := runWaiting(t, spec)
		for range 2 {
			r := c.probe(&process)
			const batch, resetOnFork, bestEffort, linux32 = 3, 1, 2 << 13, 8
			// The probe is a Go program, whose first thread reports: SCHED_BATCH is its own.
			if s := r.Scheduling; s.Policy != batch || s.Flags&resetOnFork == 0 || s.IOPriority != bestEffort|6 || r.Nice != 7 || r.Personality&0xff != linux32 {
				t.Errorf("%+v, nice %d, personality %#x", s, r.Nice, r.Personality)
			}
			if m := r.Scheduling.Memory; m != "" && m != "interleave:0" {
				t.Errorf("memory policy %q", m)
			}
		}
	}
	check(t, spec)
}

// A terminal has the size that the configuration says, in lines and characters.
func TestConsoleSize(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	spec := exampleSpec("/probe")
	spec.Process.Terminal, spec.Process.ConsoleSize = true, &specs.Box{Height: 17, Width: 71}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	socket := os.NewFile(uintptr(pair[1]), "console")
	defer socket.Close()
	p := compileExample(t, spec)
	s, err := Start(p, StartOptions{Console: socket})
	if err != nil {
		t.Fatal(err)
	}
	out := readTerminal(t, pair[0])
	reap(s.PID)
	if err := (Actions{}).undoAll(p.Undo()); err != nil {
		t.Error(err)
	}
	if r := testkit.Report(t, out); r.TTY == nil || r.TTY.Rows != 17 || r.TTY.Cols != 71 {
		t.Errorf("terminal %+v: want 17 lines of 71 characters", r.TTY)
	}
}

// readTerminal takes a master end out of a socket and reads what is written to the
// terminal until nobody has it open.
func readTerminal(t *testing.T, socket int) []byte {
	t.Helper()
	oob := make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 64), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		t.Fatal("no descriptor", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal("no descriptor", err)
	}
	master := os.NewFile(uintptr(fds[0]), "master")
	defer master.Close()
	out, err := io.ReadAll(master)
	if err != nil && !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	return out
}

// The container's first process has all of it as well.
func TestSchedulingOfTheFirstProcess(t *testing.T) {
	testkit.Leftovers(t)
	spec := exampleSpec("/probe")
	spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedIdle}
	spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}
	spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
	spec.Domainname = "example.org"
	umask := uint32(0o27)
	spec.Process.User.Umask = &umask
	r := probe(t, spec)
	const idle, ioIdle = 5, 3 << 13
	if s := r.Scheduling; s.Policy != idle || s.IOPriority != ioIdle || s.Memory != "" && s.Memory != "bind=static:0" {
		t.Errorf("%+v", s)
	}
	if r.Domainname != "example.org" || r.Umask != 0o27 {
		t.Errorf("domain name %q, umask %o", r.Domainname, r.Umask)
	}
}

// A further process begins on the CPUs that initial says and goes on on those of final;
// its score and its CPUs are the container's unless it says something else.
func TestExecAffinityAndScore(t *testing.T) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	if !all.IsSet(0) || !all.IsSet(1) {
		t.Skip("needs the CPUs 0 and 1")
	}
	spec := exampleSpec()
	spec.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "1"}
	score := 100
	spec.Process.OOMScoreAdj = &score
	c := runWaiting(t, spec)
	process := *exampleSpec("/probe").Process
	if r := c.probe(&process); !slices.Equal(r.Scheduling.CPUs, []int{1}) || r.OOMScoreAdj != 100 {
		t.Errorf("CPUs %v, score %d: want those of the container, 1 and 100", r.Scheduling.CPUs, r.OOMScoreAdj)
	}
	own := 200
	process.ExecCPUAffinity, process.OOMScoreAdj = &specs.CPUAffinity{Final: "0-1"}, &own
	if r := c.probe(&process); !slices.Equal(r.Scheduling.CPUs, []int{0, 1}) || r.OOMScoreAdj != 200 {
		t.Errorf("CPUs %v, score %d: want its own, 0, 1 and 200", r.Scheduling.CPUs, r.OOMScoreAdj)
	}
	// Not for the first process.
	if s := testkit.Status(t, c.PID); s.PID == 0 {
		t.Fatal("no status")
	}
	var first unix.CPUSet
	if err := unix.SchedGetaffinity(c.PID, &first); err != nil || first.Count() < 2 {
		t.Errorf("the first process runs on %d CPUs, %v", first.Count(), err)
	}
}

func TestSchedulingThatCannotBe(t *testing.T) {
	for want, change := range map[string]func(*specs.Spec){
		"/process/scheduler/policy": func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_X"} },
		"/process/scheduler/nice":   func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 20} },
		"only SCHED_FIFO":           func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Priority: 1} },
		"0 is not between 1 and 99": func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedRR} },
		"only SCHED_DEADLINE":       func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Period: 1} },
		"/process/scheduler/flags": func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{"X"}}
		},
		"/process/ioPriority/class": func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Class: "X"} },
		"/process/ioPriority/priority": func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		},
		"/linux/memoryPolicy/mode": func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "X"} },
		"needs Linux 5.15":         func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolPreferredMany} },
		"needs Linux 6.9": func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolWeightedInterleave}
		},
		"needs Linux 5.12": func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Flags: []specs.MemoryPolicyFlagType{specs.MpolFNumaBalancing}}
		},
		"/linux/memoryPolicy/nodes": func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "3-1"}
		},
		"/linux/memoryPolicy/flags": func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Flags: []specs.MemoryPolicyFlagType{"X"}}
		},
		"/linux/personality/flags": func(s *specs.Spec) {
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux, Flags: []specs.LinuxPersonalityFlag{"X"}}
		},
		"/linux/personality/domain":  func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "X"} },
		"/process/consoleSize":       func(s *specs.Spec) { s.Process.ConsoleSize = &specs.Box{Height: 1 << 16, Width: 1} },
		"/process/oomScoreAdj: 1001": func(s *specs.Spec) { n := 1001; s.Process.OOMScoreAdj = &n },
	} {
		spec := exampleSpec("/bin/sh")
		change(spec)
		wantRefusal(t, spec, want)
	}
}

func TestParseList(t *testing.T) {
	for list, want := range map[string][]uint64{"": nil, "0": {1}, "0-3,7": {0x8f}, "64": {0, 1}, " 1 , 2 ": {6}, "63-64": {1 << 63, 1}} {
		if got, err := parseList(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %x, %v: want %x", list, got, err, want)
		}
	}
	for _, list := range []string{"a", "-1", "3-1", "8192", "1-", "0x1", "99999999999"} {
		if got, err := parseList(list); err == nil {
			t.Errorf("%q: %x: want an error", list, got)
		}
	}
}
