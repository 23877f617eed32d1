package probe

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// verbs are the flags that do something and take a value.
var verbs = []struct {
	name, usage string
	parse       func(string) (action, error)
}{
	{"stdout", "write `text` to standard output", func(s string) (action, error) {
		return func(p *prober) error { _, err := fmt.Fprint(p.stdout, s); return err }, nil
	}},
	{"stderr", "write `text` to standard error", func(s string) (action, error) {
		return func(p *prober) error { _, err := fmt.Fprint(p.stderr, s); return err }, nil
	}},
	{"exit", "exit with status `N`", func(s string) (action, error) {
		n, err := strconv.Atoi(s)
		return func(*prober) error { return exitStatus(n) }, err
	}},
	{"sleep", "wait `duration`", func(s string) (action, error) {
		d, err := time.ParseDuration(s)
		return func(*prober) error { time.Sleep(d); return nil }, err
	}},
	{"alloc", "take and touch `size` bytes (K, M, G: powers of 1024) and keep them", func(s string) (action, error) {
		n, err := bytes(s)
		return func(p *prober) error { return p.alloc(n) }, err
	}},
	{"spin", "burn one cpu for `duration` of wall time, then print {Spin:{Wall,CPU}} in nanoseconds", func(s string) (action, error) {
		d, err := time.ParseDuration(s)
		return func(p *prober) error { return p.spin(d) }, err
	}},
	{"sibling", "make a child of the parent, which waits until this process has ended, and ends with status `N`", func(s string) (action, error) {
		n, err := strconv.Atoi(s)
		return func(*prober) error { return sibling(n) }, err
	}},
	{"trace-me", "have the parent trace `WHO`, process or thread, and stop it", func(s string) (action, error) {
		if s != "process" && s != "thread" {
			return nil, fmt.Errorf("%s: use process or thread", s)
		}
		return func(*prober) error { return traceMe(s == "thread") }, nil
	}},
	{"fork", "make `N` processes that wait, print {Fork:{Asked,Made,Errno}}", func(s string) (action, error) {
		n, err := strconv.Atoi(s)
		return func(p *prober) error { return p.fork(n) }, err
	}},
	{"bomb", "make processes that go on forking, each into its successor, until the first byte of the file `PATH` is not 0, then print {Bomb}", func(path string) (action, error) {
		return func(p *prober) error { return p.bomb(path) }, nil
	}},
	{"signal", "send this process the signal `SIG` (TERM or 15)", func(s string) (action, error) {
		sig, err := signalNumber(s)
		return func(*prober) error { return unix.Kill(unix.Getpid(), sig) }, err
	}},
	{"wait-signal", "print {Waiting}, wait for one of `SIG[,SIG]`, print {Signal}", func(s string) (action, error) {
		sigs, err := signalList(s)
		return func(p *prober) error { return p.waitSignal(s, sigs) }, err
	}},
	{"count", "append {N, PID, Cwd, Env, Memory} to the file `PATH` every ten milliseconds, with N one more each time, until killed or told USR1", func(path string) (action, error) {
		return func(*prober) error { return count(path) }, nil
	}},
	{"hunt", "print {Hunted} when `PATH` is first reached through another process, by its root or a descriptor, or by one that it has opened to /probe, until killed", func(path string) (action, error) {
		return func(p *prober) error { return p.hunt(path) }, nil
	}},
	{"lock", "lock the file `PATH` with flock(2), and keep the lock", func(path string) (action, error) {
		return func(*prober) error { return lock(path) }, nil
	}},
	{"connect", "connect to `NETWORK:ADDRESS`, and keep the connection; tcp:ADDRESS is listened at before", func(s string) (action, error) {
		network, address, ok := strings.Cut(s, ":")
		if !ok {
			return nil, fmt.Errorf("no : in %q", s)
		}
		return func(p *prober) error { return p.connect(network, address) }, nil
	}},
	{"save", "append {Input, Report}, with what standard input says, to the file `PATH`", func(path string) (action, error) {
		return func(p *prober) error { return p.save(path) }, nil
	}},
	{"write", "write `PATH=TEXT`: open for writing (create, truncate), write, close", func(s string) (action, error) {
		path, text, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("no = in %q", s)
		}
		return func(*prober) error { return os.WriteFile(path, []byte(text), 0o644) }, nil
	}},
}

// Counted is a line that -count writes. Memory is the sum of a megabyte of random bytes that are nowhere but in the
// memory of the process.
type Counted struct {
	N, PID int
	Cwd    string
	Env    []string
	Memory uint32
}

func count(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	memory := make([]byte, 1<<20)
	rand.Read(memory)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGUSR1)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for c := (Counted{Env: os.Environ()}); ; c.N++ {
		if c.Cwd, err = os.Getwd(); err != nil {
			return err
		}
		c.PID, c.Memory = os.Getpid(), crc32.ChecksumIEEE(memory)
		line, err := json.Marshal(c)
		if err != nil {
			return err
		}
		if _, err := f.Write(append(line, '\n')); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
	}
}

// lock keeps the descriptor open, and with it the lock, until the process ends.
func lock(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
}

// connect keeps both ends of a TCP connection, and this end of any other.
func (p *prober) connect(network, address string) error {
	if network == "tcp" {
		var plain net.ListenConfig
		plain.SetMultipathTCP(false) // which CRIU does not know
		l, err := plain.Listen(context.Background(), network, address)
		if err != nil {
			return err
		}
		address = l.Addr().String()
		defer func() { p.ends = append(p.ends, l) }()
		c, err := net.Dial(network, address)
		if err != nil {
			return err
		}
		other, err := l.Accept()
		p.ends = append(p.ends, c, other)
		return err
	}
	c, err := net.Dial(network, address)
	p.ends = append(p.ends, c)
	return err
}

// Saved is what -save writes.
type Saved struct {
	Input  string
	Report Report
}

func (p *prober) save(path string) error {
	s := Saved{Report: collect(p.asked)}
	input, err := io.ReadAll(p.stdin)
	if err != nil {
		return err
	}
	s.Input = string(input)
	line, err := json.Marshal(&s)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// Event is what the acting flags print: one field is set.
type Event struct {
	Spin    *Spin    `json:",omitempty"`
	Fork    *Fork    `json:",omitempty"`
	Bomb    int      `json:",omitempty"` // how many lines of processes go on forking
	Waiting []string `json:",omitempty"` // the handlers for these signals are in place
	Signal  string   `json:",omitempty"` // the signal that came: "SIGTERM"
	Hunted  string   `json:",omitempty"` // how -hunt reached a file
}

// Spin is the outcome of -spin. CPU less than Wall means that the process was throttled or had to share.
type Spin struct{ Wall, CPU time.Duration }

// Fork is the outcome of -fork. Errno names what the first failed try was answered, such as "EAGAIN".
type Fork struct {
	Asked, Made int
	Errno       string `json:",omitempty"`
}

// alloc writes to every page, because untouched memory is not charged to anybody.
func (p *prober) alloc(n int) error {
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("mmap of %d bytes: %w", n, err)
	}
	for i := 0; i < n; i += 4096 {
		mem[i] = 1
	}
	p.held = append(p.held, mem)
	return nil
}

func (p *prober) spin(d time.Duration) error {
	start := time.Now()
	cpu := threadTime()
	for time.Since(start) < d {
	}
	return p.answer(Event{Spin: &Spin{Wall: time.Since(start), CPU: threadTime() - cpu}})
}

func threadTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// fork makes processes by plain clone. Go cannot run in such a child, which has but one thread of its parent; it
// does not try: three system calls, no Go function between them that could allocate or switch.
func (p *prober) fork(n int) error {
	f := Fork{Asked: n}
	for range n {
		pid, _, errno := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
		if errno != 0 {
			f.Errno = unix.ErrnoName(errno)
			break
		}
		if pid == 0 {
			unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
			for {
				unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0) // no descriptors, no time limit: wait for a signal
			}
		}
		p.forked = append(p.forked, int(pid))
		f.Made++
	}
	return p.answer(Event{Fork: &f})
}

// A bomb of so many lines, each of one process at a time, does no harm to the machine, and by itself ends after so many
// generations.
const (
	bombLines       = 4
	bombGenerations = 200_000
)

// bomb makes processes that fork faster than they can be listed: each lives until it has a successor.
func (p *prober) bomb(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	defused, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap of %s: %w", path, err)
	}
	p.held = append(p.held, defused)
	for range bombLines {
		pid, _, errno := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
		if errno != 0 {
			return fmt.Errorf("clone: %w", errno)
		}
		for generation := 0; pid == 0 && generation < bombGenerations && defused[0] == 0; generation++ {
			if successor, _, _ := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0); successor != 0 {
				break
			}
		}
		if pid == 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return p.answer(Event{Bomb: bombLines})
}

// sibling makes a child of the parent. It sees the end of this process as the end of a pipe.
func sibling(status int) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE, unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("clone", errno)
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_CLOSE, uintptr(p[1]), 0, 0)
		unix.RawSyscall(unix.SYS_READ, uintptr(p[0]), 0, 1) // nothing comes that would need a place
		unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(status), 0, 0)
	}
	return nil
}

// traceMe makes the parent the tracer of this thread, the first of the process, or of another that ends, and stops it:
// it goes on when the parent lets it.
func traceMe(other bool) error {
	ask := func() error {
		if _, _, errno := unix.RawSyscall(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0); errno != 0 {
			return os.NewSyscallError("ptrace", errno)
		}
		return unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGUSR1)
	}
	if !other {
		return ask()
	}
	asked := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		err := ask()
		if _, _, errno := unix.RawSyscall(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0); err == nil && errno != 0 { // it ends traced
			err = os.NewSyscallError("ptrace, again", errno)
		}
		asked <- err
	}()
	return <-asked
}

// end takes back what the actions made.
func (p *prober) end() {
	for _, pid := range p.forked {
		unix.Kill(pid, unix.SIGKILL)
		unix.Wait4(pid, nil, 0, nil)
	}
	for _, mem := range p.held {
		unix.Munmap(mem)
	}
}

// waitSignal tells that it is ready before it waits, so that a test need not guess when to send.
func (p *prober) waitSignal(names string, sigs []os.Signal) error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, sigs...)
	defer signal.Stop(c)
	if err := p.answer(Event{Waiting: strings.Split(names, ",")}); err != nil {
		return err
	}
	got := (<-c).(unix.Signal)
	return p.answer(Event{Signal: unix.SignalName(got)})
}

// signalNumber reads "TERM", "SIGTERM" or "15".
func signalNumber(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		return unix.Signal(n), nil
	}
	if n := unix.SignalNum("SIG" + strings.TrimPrefix(s, "SIG")); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("no signal %q", s)
}

func signalList(s string) ([]os.Signal, error) {
	var out []os.Signal
	for name := range strings.SplitSeq(s, ",") {
		n, err := signalNumber(name)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// bytes reads a size: digits and an optional K, M or G.
func bytes(s string) (int, error) {
	shift := 0
	if i := strings.IndexAny(s, "KMG"); i > 0 && i == len(s)-1 {
		shift = 10 * (1 + strings.IndexByte("KMG", s[i]))
		s = s[:i]
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("bad size %q", s)
	}
	return n << shift, nil
}
