package probe

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/procfs"
)

// Report is all that the probe sees. What could not be read is left at its zero value and named in Errors: a
// container without /proc still gets a report.
type Report struct {
	PID, PPID, PGID, SID int
	Argv, Env            []string
	Cwd                  string
	Exe                  string
	// Status is /proc/self/status. Its signal sets and thread count are those of a running Go program: use Signals.
	Status  procfs.Status
	UID     procfs.IDs
	GID     procfs.IDs
	Groups  []int
	Signals InheritedSignals
	// Securebits is the word that prctl(PR_GET_SECUREBITS) returns, capabilities(7).
	Securebits int
	Dumpable   int
	Umask      int

	Namespaces     map[string]uint64 // as procfs.Namespaces
	UIDMap, GIDMap string            // the raw files
	Setgroups      string
	Mounts         procfs.Mounts
	Cgroups        []procfs.CgroupEntry
	// Label is /proc/self/attr/current (AppArmor profile or SELinux context).
	Label string

	Hostname, Domainname string
	Release, Machine     string
	Links                []Link
	Rlimits              map[string]Rlimit // "RLIMIT_NOFILE"; the value before Go raised its own
	OOMScoreAdj          int
	Nice                 int
	// Scheduling is how the kernel treats the process; Clocks are monotonic and
	// boottime, as it reads them.
	Scheduling Scheduling
	Clocks     map[string]time.Duration
	// Personality is the persona word of personality(2).
	Personality uint64
	// Keyring is the serial of the session keyring, 0 when there is none or it is hidden; KeyringDesc is its
	// description: "keyring;0;0;3f130000;name".
	Keyring     int
	KeyringDesc string

	FDs []FD // only what was inherited: all without close-on-exec
	// TTY describes the controlling terminal; nil without one.
	TTY *TTY

	Sysctls map[string]string
	Dirs    map[string][]Node
	Tries   []Try
	Errors  []string
}

// InheritedSignals is what execve handed over, before the Go runtime changed it.
type InheritedSignals struct {
	Blocked, Ignored procfs.Signals
}

// Rlimit is one resource limit; see getrlimit(2). All bits set is no limit.
type Rlimit struct{ Soft, Hard uint64 }

// FD is an open file descriptor.
type FD struct {
	Num    int
	Target string // the link in /proc/self/fd: a path, or "pipe:[123]"
	Flags  int    // the O_ flags of fcntl(F_GETFL)
	// TTY is set on a terminal.
	TTY bool
}

// TTY is a terminal's state.
type TTY struct {
	Device     string // "major:minor" of the controlling terminal
	Rows, Cols uint16
	Foreground int // process group
}

// Link is a network interface.
type Link struct {
	Name, HardwareAddr string
	MTU                int
	Up                 bool
	Addrs              []string
}

// Node is a directory entry.
type Node struct {
	Name string
	// Mode has the type and permission bits in Go's notation: "Dcrw-rw-rw-".
	Mode         string
	UID, GID     int
	Major, Minor uint32 // of a device node
	Link         string // of a symbolic link
}

// collector fills a report and notes what failed.
type collector struct{ r Report }

// note keeps err; a nil error is nothing.
func (c *collector) note(what string, err error) {
	if err != nil {
		c.r.Errors = append(c.r.Errors, fmt.Sprintf("%s: %v", what, err))
	}
}

// file returns the content of a small file without its last newline.
func (c *collector) file(path string) string {
	b, err := os.ReadFile(path)
	c.note("read", err)
	return strings.TrimSuffix(string(b), "\n")
}

// collect makes the report. File descriptors come first, before anything here opens one.
func collect(q questions) Report {
	var c collector
	c.descriptors()
	c.identity()
	c.process()
	c.scheduling()
	c.world()
	c.limits()
	c.keyring()
	c.terminal()
	c.questions(q)
	return c.r
}

func (c *collector) identity() {
	r := &c.r
	r.PID, r.PPID, r.PGID = os.Getpid(), os.Getppid(), unix.Getpgrp()
	r.SID, _ = unix.Getsid(0)
	r.Argv, r.Env = os.Args, os.Environ()
	var err error
	r.Cwd, err = unixGetwd()
	c.note("getcwd", err)
	r.Exe, err = os.Readlink("/proc/self/exe")
	c.note("exe", err)
	r.UID.Real, r.UID.Effective, r.UID.Saved = unix.Getresuid()
	r.GID.Real, r.GID.Effective, r.GID.Saved = unix.Getresgid()
	r.Groups, err = os.Getgroups()
	c.note("getgroups", err)
}

// unixGetwd asks the kernel; os.Getwd would believe $PWD.
func unixGetwd() (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Getcwd(buf)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(buf[:n]), "\x00"), nil
}

func (c *collector) process() {
	r := &c.r
	var err error
	r.Status, err = procfs.ReadStatus(0)
	c.note("status", err)
	r.UID.FS, r.GID.FS = r.Status.UID.FS, r.Status.GID.FS
	r.Signals, err = inheritedSignals(r.Status.Ignored)
	c.note("inherited signals", err)
	r.Securebits, err = unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	c.note("securebits", err)
	r.Dumpable, err = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	c.note("dumpable", err)
	r.Umask = unix.Umask(0)
	unix.Umask(r.Umask)
	r.Nice, err = unix.Getpriority(unix.PRIO_PROCESS, 0)
	r.Nice = 20 - r.Nice // the system call returns 20-nice, so that it is never negative
	c.note("getpriority", err)
	persona, _, errno := unix.Syscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
	r.Personality = uint64(persona)
	if errno != 0 {
		c.note("personality", errno)
	}
	_, err = fmt.Sscan(c.file("/proc/self/oom_score_adj"), &r.OOMScoreAdj)
	c.note("oom_score_adj", err)
	r.UIDMap, r.GIDMap, r.Setgroups = c.file("/proc/self/uid_map"), c.file("/proc/self/gid_map"), c.file("/proc/self/setgroups")
	// No security module answers EINVAL here, which is no error of ours.
	label, _ := os.ReadFile("/proc/self/attr/current")
	r.Label = strings.TrimRight(string(label), "\n\x00")
}

// world reads what the namespaces show.
func (c *collector) world() {
	r := &c.r
	var err error
	r.Namespaces, err = procfs.Namespaces(0)
	c.note("namespaces", err)
	r.Mounts, err = procfs.Mountinfo(0)
	c.note("mountinfo", err)
	r.Cgroups, err = procfs.Cgroups(0)
	c.note("cgroup", err)
	var u unix.Utsname
	c.note("uname", unix.Uname(&u))
	r.Hostname, r.Domainname = unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Domainname[:])
	r.Release, r.Machine = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
	links, err := net.Interfaces()
	c.note("interfaces", err)
	for _, l := range links {
		link := Link{Name: l.Name, HardwareAddr: l.HardwareAddr.String(), MTU: l.MTU, Up: l.Flags&net.FlagUp != 0}
		addrs, err := l.Addrs()
		c.note("addresses of "+l.Name, err)
		for _, a := range addrs {
			link.Addrs = append(link.Addrs, a.String())
		}
		r.Links = append(r.Links, link)
	}
}

// rlimitNames are the limits by number, the same on all architectures that containr serves.
var rlimitNames = []string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
	"RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE",
	"RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

func (c *collector) limits() {
	c.r.Rlimits = map[string]Rlimit{}
	for n, name := range rlimitNames {
		var l unix.Rlimit
		c.note(name, unix.Getrlimit(n, &l))
		c.r.Rlimits[name] = Rlimit{Soft: l.Cur, Hard: l.Max}
	}
	soft, err := inheritedNofile()
	c.note("inherited RLIMIT_NOFILE", err)
	if soft != nil {
		c.r.Rlimits["RLIMIT_NOFILE"] = Rlimit{Soft: *soft, Hard: c.r.Rlimits["RLIMIT_NOFILE"].Hard}
	}
}

// keyring asks without creating: a process that has no session keyring gets ENOKEY.
func (c *collector) keyring() {
	id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err == unix.ENOKEY || err == unix.ENOSYS {
		return
	}
	c.note("session keyring", err)
	c.r.Keyring = id
	c.r.KeyringDesc, err = unix.KeyctlString(unix.KEYCTL_DESCRIBE, id)
	c.note("describe keyring", err)
	c.r.KeyringDesc = strings.TrimSuffix(c.r.KeyringDesc, "\x00")
}

// descriptors lists what is open without close-on-exec. The Go runtime opens all of its own with the flag, and
// nothing can have been inherited with it.
func (c *collector) descriptors() {
	for _, num := range openNumbers() {
		flags, err := unix.FcntlInt(uintptr(num), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		fd := FD{Num: num}
		fd.Flags, _ = unix.FcntlInt(uintptr(num), unix.F_GETFL, 0)
		fd.Target, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", num))
		_, err = unix.IoctlGetTermios(num, unix.TCGETS)
		fd.TTY = err == nil
		c.r.FDs = append(c.r.FDs, fd)
	}
}

// openNumbers returns the candidates: /proc/self/fd, or the first thousand numbers where there is no /proc.
func openNumbers() []int {
	var out []int
	list, err := os.ReadDir("/proc/self/fd")
	for _, e := range list {
		var n int
		if _, err := fmt.Sscan(e.Name(), &n); err == nil {
			out = append(out, n)
		}
	}
	for n := 0; err != nil && n < 1024; n++ {
		out = append(out, n)
	}
	return out
}

func (c *collector) terminal() {
	st, err := procfs.ReadStat(0)
	c.note("stat", err)
	if st.TTY == 0 {
		return
	}
	c.r.TTY = &TTY{Device: fmt.Sprintf("%d:%d", unix.Major(uint64(st.TTY)), unix.Minor(uint64(st.TTY))), Foreground: st.TPGID}
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		c.note("controlling terminal", err)
		return
	}
	defer f.Close()
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		c.note("terminal size", err)
		return
	}
	c.r.TTY.Rows, c.r.TTY.Cols = size.Row, size.Col
}

func (c *collector) questions(q questions) {
	c.r.Sysctls = map[string]string{}
	for _, name := range q.sysctls {
		path := name
		if !strings.Contains(name, "/") {
			path = strings.ReplaceAll(name, ".", "/")
		}
		c.r.Sysctls[name] = strings.Join(strings.Fields(c.file("/proc/sys/"+path)), " ")
	}
	c.r.Dirs = map[string][]Node{}
	for _, dir := range q.dirs {
		list, err := os.ReadDir(dir)
		c.note("ls", err)
		for _, e := range list {
			n, err := node(filepath.Join(dir, e.Name()))
			c.note("ls", err)
			c.r.Dirs[dir] = append(c.r.Dirs[dir], n)
		}
	}
	for _, t := range q.tries {
		c.r.Tries = append(c.r.Tries, attempt(t))
	}
}

func node(path string) (Node, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return Node{}, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Node{}, err
	}
	n := Node{Name: fi.Name(), Mode: fi.Mode().String(), UID: int(st.Uid), GID: int(st.Gid),
		Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev))}
	if fi.Mode()&os.ModeSymlink != 0 {
		n.Link, err = os.Readlink(path)
	}
	return n, err
}

// Try returns the outcome of an attempt by the words it was asked with; ok is false if it was not asked.
func (r Report) Try(words string) (t Try, ok bool) {
	for _, t := range r.Tries {
		if t.Attempt == words {
			return t, true
		}
	}
	return Try{}, false
}

// FD returns the open descriptor num.
func (r Report) FD(num int) (fd FD, ok bool) {
	for _, fd := range r.FDs {
		if fd.Num == num {
			return fd, true
		}
	}
	return FD{}, false
}
