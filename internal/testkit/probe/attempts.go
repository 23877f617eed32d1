package probe

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Try is the outcome of one attempt.
type Try struct {
	Attempt string // the words it was asked with: "open:/proc/kcore"
	OK      bool
	Errno   string `json:",omitempty"` // the name, such as "EPERM"; "?" for an error that is no errno
	Error   string `json:",omitempty"`
	Value   string `json:",omitempty"` // what was read, for those that read
}

// attempts are the things to try, by the word before the colon. Each leaves the process as it was: what changes a
// process for good (unshare, setuid, chroot) is tried by a child of the probe.
var attempts = map[string]struct {
	usage string
	run   func(arg string) (value string, err error)
}{
	"mount":       {"mount a tmpfs on `dir` (default /tmp) and take it away", tryMount},
	"remount-rw":  {"remount `dir` writable, and read-only again", tryRemount},
	"umount":      {"detach the mount at `dir` (stays so if it works)", func(a string) (string, error) { return "", unix.Unmount(a, unix.MNT_DETACH) }},
	"open":        {"open `path` for reading", func(a string) (string, error) { return "", tryOpen(a, unix.O_RDONLY) }},
	"open-rw":     {"open `path` for reading and writing", func(a string) (string, error) { return "", tryOpen(a, unix.O_RDWR) }},
	"read":        {"read `path`, 4 kB at most", tryRead},
	"write":       {"write to an existing file: `path=text`; without = nothing is written", tryWrite},
	"create":      {"create `path` and remove it", tryCreate},
	"exec":        {"execute `path` without arguments", func(a string) (string, error) { return "", exec.Command(a).Run() }},
	"mkdir":       {"make the directory `dir` (stays if it works)", func(a string) (string, error) { return "", unix.Mkdir(a, 0o755) }},
	"mknod":       {"make a node for device 1:3 at `path` and remove it", tryMknod},
	"chown":       {"give `path` to uid 1 and back to 0", tryChown},
	"unshare":     {"unshare(2) of `ns,ns` in a child: mnt uts ipc net pid user cgroup time", tryUnshare},
	"chroot":      {"chroot to `dir` in a child", tryChroot},
	"setuid":      {"become uid `N` in a child", trySetuid},
	"sethostname": {"set the host name to itself", trySethostname},
	"connect":     {"connect to `network:address`: tcp:10.0.0.1:80, unix:/run/x", tryConnect},
	"listen":      {"listen on `network:address`", tryListen},
	"socket":      {"socket(2) with `family,type,protocol` as numbers", trySocket},
	"kill":        {"send signal 0 to `pid`", tryKill},
	"ptrace":      {"attach to `pid` and detach", tryPtrace},
	"syscall":     {"call number `N` with `N[,arg...]`, missing arguments 0", trySyscall},
	"add-key":     {"add a key to the session keyring and unlink it", tryAddKey},
}

// attemptNames lists the words, sorted.
func attemptNames() []string {
	var out []string
	for name := range attempts {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// attempt carries out "word" or "word:argument".
func attempt(words string) Try {
	t := Try{Attempt: words}
	name, arg, _ := strings.Cut(words, ":")
	a, ok := attempts[name]
	if !ok {
		t.Errno, t.Error = "?", "no attempt of this name: "+strings.Join(attemptNames(), " ")
		return t
	}
	value, err := a.run(arg)
	t.Value = value
	if err == nil {
		t.OK = true
		return t
	}
	t.Errno, t.Error = "?", err.Error()
	var errno unix.Errno
	if errors.As(err, &errno) {
		t.Errno = unix.ErrnoName(errno)
	}
	return t
}

func tryMount(dir string) (string, error) {
	if dir == "" {
		dir = "/tmp"
	}
	if err := unix.Mount("probe", dir, "tmpfs", 0, ""); err != nil {
		return "", err
	}
	return "", unix.Unmount(dir, unix.MNT_DETACH)
}

func tryRemount(dir string) (string, error) {
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
		return "", err
	}
	return "", unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}

func tryOpen(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// tryRead reads no more than a page: /dev/zero and /proc/kcore have no end.
func tryRead(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func tryWrite(arg string) (string, error) {
	path, text, write := strings.Cut(arg, "=")
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if !write {
		return "", nil
	}
	_, err = unix.Write(fd, []byte(text))
	return "", err
}

func tryCreate(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return "", err
	}
	unix.Close(fd)
	return "", unix.Unlink(path)
}

func tryMknod(path string) (string, error) {
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		return "", err
	}
	return "", unix.Unlink(path)
}

func tryChown(path string) (string, error) {
	if err := unix.Lchown(path, 1, -1); err != nil {
		return "", err
	}
	return "", unix.Lchown(path, 0, -1)
}

var cloneFlags = map[string]uintptr{
	"mnt": unix.CLONE_NEWNS, "uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "net": unix.CLONE_NEWNET,
	"pid": unix.CLONE_NEWPID, "user": unix.CLONE_NEWUSER, "cgroup": unix.CLONE_NEWCGROUP, "time": unix.CLONE_NEWTIME,
}

func tryUnshare(list string) (string, error) {
	var flags uintptr
	for name := range strings.SplitSeq(list, ",") {
		f, ok := cloneFlags[name]
		if !ok {
			return "", fmt.Errorf("no namespace %q", name)
		}
		flags |= f
	}
	return "", child(&unix.SysProcAttr{Unshareflags: flags})
}

// tryChroot looks for the directory first: below, ENOENT would count as success.
func tryChroot(dir string) (string, error) {
	if _, err := os.Stat(dir); err != nil {
		return "", err
	}
	return "", child(&unix.SysProcAttr{Chroot: dir})
}

func trySetuid(arg string) (string, error) {
	uid, err := strconv.ParseUint(arg, 10, 32)
	if err != nil {
		return "", err
	}
	return "", child(&unix.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), NoSetGroups: true}})
}

// child does the attributes' system calls in a forked process, which then has nothing to execute: ENOENT for the
// missing program is how it says that all of them worked.
func child(attr *unix.SysProcAttr) error {
	attr.Pdeathsig = unix.SIGKILL
	const nothing = "/nonexistent/probe"
	cmd := &exec.Cmd{Path: nothing, Args: []string{nothing}, SysProcAttr: attr}
	err := cmd.Run()
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func trySethostname(string) (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return "", unix.Sethostname([]byte(name))
}

func tryConnect(arg string) (string, error) {
	network, addr, _ := strings.Cut(arg, ":")
	conn, err := net.Dial(network, addr)
	if err != nil {
		return "", err
	}
	return conn.RemoteAddr().String(), conn.Close()
}

func tryListen(arg string) (string, error) {
	network, addr, _ := strings.Cut(arg, ":")
	l, err := net.Listen(network, addr)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func trySocket(arg string) (string, error) {
	n, err := numbers(arg, 3)
	if err != nil {
		return "", err
	}
	fd, err := unix.Socket(int(n[0]), int(n[1]), int(n[2]))
	if err != nil {
		return "", err
	}
	return "", unix.Close(fd)
}

func tryKill(arg string) (string, error) {
	pid, err := strconv.Atoi(arg)
	if err != nil {
		return "", err
	}
	return "", unix.Kill(pid, 0)
}

func tryPtrace(arg string) (string, error) {
	pid, err := strconv.Atoi(arg)
	if err != nil {
		return "", err
	}
	if err := unix.PtraceSeize(pid); err != nil {
		return "", err
	}
	return "", unix.PtraceDetach(pid)
}

func trySyscall(arg string) (string, error) {
	n, err := numbers(arg, 7)
	if err != nil {
		return "", err
	}
	r, _, errno := unix.Syscall6(n[0], n[1], n[2], n[3], n[4], n[5], n[6])
	if errno != 0 {
		return "", errno
	}
	return strconv.FormatUint(uint64(r), 10), nil
}

func tryAddKey(string) (string, error) {
	id, err := unix.AddKey("user", "probe", []byte("x"), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		return "", err
	}
	_, err = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_SESSION_KEYRING, 0, 0)
	return strconv.Itoa(id), err
}

// numbers reads up to n numbers between commas (0x for hexadecimal); the missing ones are 0.
func numbers(s string, n int) ([]uintptr, error) {
	fields := strings.Split(s, ",")
	if len(fields) > n {
		return nil, fmt.Errorf("%q: more than %d numbers", s, n)
	}
	out := make([]uintptr, n)
	for i, f := range fields {
		v, err := strconv.ParseUint(f, 0, 64)
		if err != nil {
			return nil, err
		}
		out[i] = uintptr(v)
	}
	return out, nil
}
