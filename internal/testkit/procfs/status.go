package procfs

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Caps is a set of capabilities as the kernel prints it: bit N is capability number N of capabilities(7).
type Caps uint64

// Signals is a set of signals as the kernel prints it: bit N-1 is signal N.
type Signals uint64

// capNames are the capabilities by number, from include/uapi/linux/capability.h (Linux 6.12: 41 of them).
var capNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// Has reports whether the set holds the capability with this full upper-case name.
// It panics on a name that does not exist: a test with a typing error must not pass.
func (c Caps) Has(name string) bool {
	for n, s := range capNames {
		if s == name {
			return c&(1<<n) != 0
		}
	}
	panic("procfs: no capability " + name)
}

// Names lists the set in the order of the capability numbers; a number without a name prints as "CAP_41".
func (c Caps) Names() []string {
	var out []string
	for n := range 64 {
		switch {
		case c&(1<<n) == 0:
		case n < len(capNames):
			out = append(out, capNames[n])
		default:
			out = append(out, fmt.Sprintf("CAP_%d", n))
		}
	}
	return out
}

// Has reports whether the set holds signal number sig.
func (s Signals) Has(sig int) bool { return s&(1<<(sig-1)) != 0 }

// CapSets are the five capability sets of a thread, capabilities(7).
type CapSets struct {
	Inheritable, Permitted, Effective, Bounding, Ambient Caps
}

// IDs are the four user or group ids of a thread, credentials(7).
type IDs struct{ Real, Effective, Saved, FS int }

// Status is /proc/PID/status; see proc_pid_status(5).
type Status struct {
	// Fields is the whole file: name to value, blanks trimmed. What has no typed field below is read from here.
	Fields map[string]string `json:"-"`

	Name       string
	State      string // one letter: R, S, D, Z, T, t, X
	PID, PPID  int
	TracerPID  int
	NSpid      []int // its pid in each pid namespace, outermost (of the reader) first
	UID, GID   IDs
	Groups     []int
	Threads    int
	Caps       CapSets
	NoNewPrivs bool
	// Seccomp is the mode: 0 none, 1 strict, 2 filter.
	Seccomp int
	// SeccompFilters counts the attached filters; -1 where the kernel does not tell (before Linux 5.9).
	SeccompFilters int
	Pending        Signals // of the thread and of the process
	Blocked        Signals
	Ignored        Signals
	Caught         Signals
	Umask          int // -1 where the kernel does not tell (before Linux 4.7)
	CPUsAllowed    string
	MemsAllowed    string
}

// ReadStatus reads the status of the process pid; 0 is the calling thread group's leader.
func ReadStatus(pid int) (Status, error) {
	b, err := os.ReadFile(Path(pid, "status"))
	if err != nil {
		return Status{}, err
	}
	return ParseStatus(string(b))
}

// ParseStatus reads the text of a status file. A missing field that every supported kernel has is an error.
func ParseStatus(text string) (Status, error) {
	p := statusParser{fields: map[string]string{}}
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		name, value, ok := strings.Cut(sc.Text(), ":")
		if !ok {
			return Status{}, fmt.Errorf("status line %q: no colon", sc.Text())
		}
		p.fields[name] = strings.TrimSpace(value)
	}
	s := Status{
		Fields: p.fields, Name: p.text("Name"), State: p.text("State")[:1],
		PID: p.number("Pid", 10), PPID: p.number("PPid", 10), TracerPID: p.number("TracerPid", 10),
		UID: p.ids("Uid"), GID: p.ids("Gid"), Groups: p.list("Groups"), Threads: p.number("Threads", 10),
		Caps: CapSets{Inheritable: Caps(p.mask("CapInh")), Permitted: Caps(p.mask("CapPrm")),
			Effective: Caps(p.mask("CapEff")), Bounding: Caps(p.mask("CapBnd")), Ambient: Caps(p.mask("CapAmb"))},
		NoNewPrivs: p.number("NoNewPrivs", 10) == 1, Seccomp: p.number("Seccomp", 10), SeccompFilters: -1, Umask: -1,
		Pending: Signals(p.mask("SigPnd") | p.mask("ShdPnd")), Blocked: Signals(p.mask("SigBlk")),
		Ignored: Signals(p.mask("SigIgn")), Caught: Signals(p.mask("SigCgt")),
		CPUsAllowed: p.text("Cpus_allowed_list"), MemsAllowed: p.text("Mems_allowed_list"),
	}
	if _, ok := p.fields["NSpid"]; ok {
		s.NSpid = p.list("NSpid")
	}
	if _, ok := p.fields["Seccomp_filters"]; ok {
		s.SeccompFilters = p.number("Seccomp_filters", 10)
	}
	if _, ok := p.fields["Umask"]; ok {
		s.Umask = p.number("Umask", 8)
	}
	return s, p.err
}

// statusParser keeps the first error, so that the field list above reads as a list.
type statusParser struct {
	fields map[string]string
	err    error
}

func (p *statusParser) fail(name string, err error) {
	if p.err == nil {
		p.err = fmt.Errorf("status field %s: %w", name, err)
	}
}

// text returns a field that must be there and not be empty.
func (p *statusParser) text(name string) string {
	v := p.fields[name]
	if v == "" {
		p.fail(name, fmt.Errorf("missing"))
		return "?"
	}
	return v
}

func (p *statusParser) number(name string, base int) int {
	n, err := strconv.ParseInt(p.fields[name], base, 64)
	if err != nil {
		p.fail(name, err)
	}
	return int(n)
}

func (p *statusParser) mask(name string) uint64 {
	n, err := strconv.ParseUint(p.fields[name], 16, 64)
	if err != nil {
		p.fail(name, err)
	}
	return n
}

// list reads decimal numbers between blanks; an empty list (no supplementary groups) is fine.
func (p *statusParser) list(name string) []int {
	out := []int{}
	for _, s := range strings.Fields(p.fields[name]) {
		n, err := strconv.Atoi(s)
		if err != nil {
			p.fail(name, err)
		}
		out = append(out, n)
	}
	return out
}

func (p *statusParser) ids(name string) IDs {
	l := p.list(name)
	if len(l) != 4 {
		p.fail(name, fmt.Errorf("%d ids instead of 4", len(l)))
		return IDs{}
	}
	return IDs{Real: l[0], Effective: l[1], Saved: l[2], FS: l[3]}
}
