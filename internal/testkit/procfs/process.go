package procfs

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// CgroupEntry is one line of /proc/PID/cgroup; see cgroups(7).
type CgroupEntry struct {
	Hierarchy   int      // 0 is cgroup v2
	Controllers []string // empty for v2; "name=systemd" for a named v1 hierarchy
	Path        string   // as seen from the root of the reader's cgroup namespace
}

// Cgroups reads the cgroup memberships of the process pid; 0 is the calling process.
func Cgroups(pid int) ([]CgroupEntry, error) {
	b, err := os.ReadFile(Path(pid, "cgroup"))
	if err != nil {
		return nil, err
	}
	return ParseCgroups(string(b))
}

// ParseCgroups reads the text of a cgroup file.
func ParseCgroups(text string) ([]CgroupEntry, error) {
	var out []CgroupEntry
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		f := strings.SplitN(line, ":", 3)
		if len(f) != 3 {
			return nil, fmt.Errorf("cgroup line %q: not three fields", line)
		}
		n, err := strconv.Atoi(f[0])
		if err != nil {
			return nil, fmt.Errorf("cgroup line %q: %w", line, err)
		}
		e := CgroupEntry{Hierarchy: n, Path: f[2]}
		if f[1] != "" {
			e.Controllers = strings.Split(f[1], ",")
		}
		out = append(out, e)
	}
	return out, nil
}

// Namespaces reads the inode numbers of the namespaces of the process pid (0: the calling process), by the names of
// /proc/PID/ns: cgroup, ipc, mnt, net, pid, pid_for_children, time, time_for_children, user, uts. See namespaces(7).
// A namespace that this kernel lacks, or pid_for_children before its first process exists, is not in the map.
func Namespaces(pid int) (map[string]uint64, error) {
	dir := Path(pid, "ns")
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for _, e := range list {
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue
		}
		_, num, _ := strings.Cut(target, ":[")
		n, err := strconv.ParseUint(strings.TrimSuffix(num, "]"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("namespace link %s/%s: %q: %w", dir, e.Name(), target, err)
		}
		out[e.Name()] = n
	}
	return out, nil
}

// Stat is the part of /proc/PID/stat that tests ask for; see proc_pid_stat(5).
type Stat struct {
	PID   int
	Comm  string
	State string
	PPID  int
	PGID  int
	SID   int
	// TTY is the device number of the controlling terminal, 0 for none.
	TTY int
	// TPGID is the foreground process group of that terminal, -1 for none.
	TPGID int
	// Kernel is true for a thread of the kernel's own.
	Kernel bool
	// Exiting is true once it can do nothing but end.
	Exiting bool
	// Start is when the process began, in clock ticks since boot: with PID it names a process for good.
	Start uint64
}

// ReadStat reads the stat file of the process pid; 0 is the calling process.
func ReadStat(pid int) (Stat, error) {
	b, err := os.ReadFile(Path(pid, "stat"))
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(string(b))
}

// ParseStat reads the text of a stat file. The command name may hold any byte, brackets too: it ends at the last one.
func ParseStat(text string) (Stat, error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return Stat{}, fmt.Errorf("stat %q: no command name", text)
	}
	f := strings.Fields(text[end+1:])
	if len(f) < 20 {
		return Stat{}, fmt.Errorf("stat %q: %d fields after the name", text, len(f))
	}
	s := Stat{Comm: text[open+1 : end], State: f[0]}
	for _, x := range []struct {
		dst  *int
		text string
	}{{&s.PID, strings.TrimSpace(text[:open])}, {&s.PPID, f[1]}, {&s.PGID, f[2]}, {&s.SID, f[3]}, {&s.TTY, f[4]}, {&s.TPGID, f[5]}} {
		n, err := strconv.Atoi(x.text)
		if err != nil {
			return Stat{}, fmt.Errorf("stat %q: %w", text, err)
		}
		*x.dst = n
	}
	flags, err := strconv.ParseUint(f[6], 10, 64)
	if err != nil {
		return Stat{}, fmt.Errorf("stat %q: %w", text, err)
	}
	s.Kernel, s.Exiting = flags&kernelThread != 0, flags&exiting != 0
	s.Start, err = strconv.ParseUint(f[19], 10, 64)
	return s, err
}

// The flags PF_KTHREAD and PF_EXITING of Linux's include/linux/sched.h, the same in all versions.
const (
	kernelThread = 0x00200000
	exiting      = 0x00000004
)

// Processes reads the stat of every process that /proc shows, by pid. One that ends meanwhile is left out.
func Processes() (map[int]Stat, error) {
	list, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	out := map[int]Stat{}
	for _, e := range list {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := ReadStat(pid); err == nil {
			out[pid] = s
		}
	}
	return out, nil
}

// Descendants returns the pids of all children of pid in procs, their children and so on, in ascending order.
func Descendants(procs map[int]Stat, pid int) []int {
	children := map[int][]int{}
	for p, s := range procs {
		children[s.PPID] = append(children[s.PPID], p)
	}
	var out []int
	for todo := children[pid]; len(todo) > 0; {
		p := todo[0]
		out = append(out, p)
		todo = append(todo[1:len(todo):len(todo)], children[p]...)
	}
	slices.Sort(out)
	return out
}
