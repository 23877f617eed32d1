package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

// What makes a machine worth one more try: an emulated kernel rarely dies for no reason of ours (see command for those
// that are known).
var (
	errNoAnswer = errors.New("the guest ended before it answered")
	errPanic    = errors.New("the kernel of the guest panicked")
)

// machine describes a virtual machine: what decides how it is when its agent has said hello.
type machine struct {
	kernel   Kernel
	files    files
	qemu     string
	userland Userland
	root     string   // disk image of the userland, if it has one
	initrd   *os.File // what the kernel unpacks first
	memory   int      // MiB
	cpus     int
}

// findQEMU returns the emulator for the architecture, or an ErrUnavailable that says what to install.
func findQEMU(arch string) (string, error) {
	for _, q := range []struct{ arch, program, pkg string }{
		{"amd64", "qemu-system-x86_64", "qemu-system-x86"}, {"arm64", "qemu-system-aarch64", "qemu-system-arm"},
	} {
		if q.arch != arch {
			continue
		}
		path, err := exec.LookPath(q.program)
		if err != nil {
			return "", fmt.Errorf("%w: no %s in PATH (Debian package %s)", ErrUnavailable, q.program, q.pkg)
		}
		return path, nil
	}
	return "", fmt.Errorf("%w: no emulator for %s", ErrUnavailable, arch)
}

// Descriptors of QEMU, after the standard three.
const (
	wireFD    = 3 // the virtio serial port
	initrdFD  = 4 // the root file system
	monitorFD = 5
)

// args is the QEMU command line. Emulation, not KVM, on purpose: it works everywhere, inside containers and other
// virtual machines too, and everywhere alike.
func (m machine) args() []string {
	// Without cmpxchg16b: QEMU 7.2 leaves garbage in the flags that an interrupt right after it saves, which from
	// Linux 6.5 on, where the slab allocator uses it, ends in a double fault. And with one thread for all processors:
	// when a kernel patches its own code (static keys), a processor with a thread of its own may still run into the
	// breakpoint that stands there meanwhile, after the kernel has forgotten it: "Oops: int3".
	// And without erms: a kernel that is told that "rep stosb" is fast clears each page with it, which the emulator does byte
	// by byte. Without it a page fault takes a quarter of the time.
	// The kernel is told that the processors' clocks agree, as they do: Linux 5.10 often finds otherwise, and each look at the
	// time is then a system call and a register of a device, a tenth of what tests of containers take.
	board, console := []string{"-M", "q35", "-cpu", "max,cx16=off,erms=off", "-accel", "tcg,thread=single"}, "ttyS0 tsc=reliable"
	if m.kernel.Arch == "arm64" {
		// A processor that Meltdown and Spectre do not concern, as "max" says of itself: on a Cortex-A72 the kernel keeps its page
		// tables apart from the program's, and each call of it throws away what the emulator has found out about memory, which
		// doubles the time. Without pauth, which would take seconds to boot, and without vector registers that nobody uses.
		// One thread, as two take a seventh more in waiting for each other.
		board, console = []string{"-M", "virt", "-cpu", "max,pauth=off,sve=off,sme=off", "-accel", "tcg,thread=single"}, "ttyAMA0"
	}
	args := append(board, "-smp", fmt.Sprint(m.cpus), "-m", fmt.Sprint(m.memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", monitorFD), "-mon", "chardev=monitor,mode=control",
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
		"-chardev", fmt.Sprintf("socket,id=wire,fd=%d", wireFD), "-device", "virtserialport,chardev=wire,name="+wire.Port,
		"-kernel", m.files.kernel(), "-initrd", fmt.Sprintf("/proc/self/fd/%d", initrdFD),
		"-append", "console="+console+" quiet panic=-1 oops=panic cgroup_no_v1=all swapaccount=1"+m.userland.kernelArgs())
	if m.root != "" {
		args = append(args, "-drive", "if=none,id=root,format=raw,readonly=on,file="+m.root, "-device", "virtio-blk-pci,drive=root")
	}
	return args
}

// panicTime is what a kernel gets to print its last words.
const panicTime = 2 * time.Second

// panicWord is what every kernel prints that panics.
const panicWord = "Kernel panic"

// niceness is that of the emulator: it gets a processor nearly for itself, whatever else runs.
const niceness = -5

// vm is a machine that runs.
type vm struct {
	machine
	cmd      *exec.Cmd
	wire     *os.File
	mon      *monitor
	console  *tail
	ended    <-chan struct{}
	greeting wire.Greeting
}

// launch starts QEMU, with more arguments if the machine is not to boot.
func (m machine) launch(more ...string) (*vm, error) {
	ours, theirs, err := socketPairs(2)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(m.qemu, append(m.args(), more...)...)
	v := &vm{machine: m, cmd: cmd, wire: ours[0], console: &tail{max: 32 << 10, word: panicWord}}
	// A kernel that panics should restart, which ends QEMU; with a lock held it may hang instead.
	v.console.seen = func() { time.AfterFunc(panicTime, v.kill) }
	cmd.ExtraFiles = []*os.File{theirs[0], m.initrd, theirs[1]}
	cmd.Stdout, cmd.Stderr = v.console, v.console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	v.ended, err = start(cmd)
	closeAll(theirs) // or an emulator that ends before it greets would leave us waiting for it
	if err != nil {
		closeAll(ours)
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// All who test in guests wait for this one, and nobody waits for a certain one of the tests beside it. Who may not (an
	// ordinary user) does without.
	_ = unix.Setpriority(unix.PRIO_PROCESS, cmd.Process.Pid, niceness)
	if v.mon, err = newMonitor(ours[1]); err != nil {
		v.end()
		ours[1].Close()
		return nil, fmt.Errorf("%w: %w\n%s", errNoAnswer, err, v.console)
	}
	return v, nil
}

func (v *vm) kill() { v.cmd.Process.Kill() }

// processorTime is what emulating the machine took, once it has ended.
func (v *vm) processorTime() time.Duration {
	return v.cmd.ProcessState.UserTime() + v.cmd.ProcessState.SystemTime()
}

// end ends the machine. Its console is complete afterwards.
func (v *vm) end() {
	v.kill()
	<-v.ended
	v.wire.Close()
	if v.mon != nil {
		v.mon.conn.Close()
	}
}

// socketPairs makes n connections and returns the ends of each.
func socketPairs(n int) (ours, theirs []*os.File, err error) {
	for range n {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			closeAll(append(ours, theirs...))
			return nil, nil, fmt.Errorf("socketpair: %w", err)
		}
		ours, theirs = append(ours, os.NewFile(uintptr(pair[0]), "ours")), append(theirs, os.NewFile(uintptr(pair[1]), "theirs"))
	}
	return ours, theirs, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// bootTime is the limit for a machine to come up.
const bootTime = 4 * time.Minute

// run brings the machine up, lets it do the job, passes on what the program prints, and ends the machine. With fresh
// it boots, even if it has been saved.
func (m machine) run(ctx context.Context, o Options, j job, fresh bool) (Result, error) {
	began := time.Now()
	v, err := m.up(ctx, fresh, o.Log)
	if err != nil {
		return Result{}, fmt.Errorf("guest %s: %w", m.kernel.Name, err)
	}
	resumed := time.Now()
	for _, w := range v.greeting.Warnings {
		fmt.Fprintf(o.Log, "guest %s: %s\n", o.Kernel, w)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	// Whatever ends the conversation, its end is the end of the machine, and the other way round: reading stops when
	// QEMU closes its side.
	stop := context.AfterFunc(ctx, v.kill)
	result := Result{Release: v.greeting.Release}
	if err = j.send(v.wire); err == nil {
		err = v.converse(o, &result)
	}
	stop()
	v.end()
	fmt.Fprintf(o.Log, "guest %s: up in %.1f s, ran for %.1f s, which took %.1f s of a processor\n", m.kernel.Name,
		resumed.Sub(began).Seconds(), time.Since(resumed).Seconds(), v.processorTime().Seconds())
	result.Console = v.console.String()
	switch {
	case err == nil:
		return result, nil
	case ctx.Err() != nil:
		err = fmt.Errorf("guest %s: %w after %v: %w", m.kernel.Name, ctx.Err(), o.Timeout, err)
	case strings.Contains(result.Console, panicWord):
		err = fmt.Errorf("guest %s: %w: %w", m.kernel.Name, errPanic, err)
	}
	return result, fmt.Errorf("%w\nconsole:\n%s", err, result.Console)
}

// start starts the command and waits for it in the background; the channel is closed when it has ended. One thread
// does both: the kernel kills a process with a parent death signal when the thread that made it ends.
func start(cmd *exec.Cmd) (<-chan struct{}, error) {
	ended := make(chan struct{})
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // that it was killed is no news
		}
	}()
	return ended, <-started
}

// hello waits until the machine has come up.
func (v *vm) hello() error {
	kind, payload, err := wire.Read(v.wire)
	if err == nil && kind != wire.Hello {
		err = fmt.Errorf("frame %q comes first", kind)
	}
	if err != nil {
		return fmt.Errorf("%w (%v)", errNoAnswer, err)
	}
	return json.Unmarshal(payload, &v.greeting)
}

// converse reads frames until the program's end.
func (v *vm) converse(o Options, result *Result) error {
	var archive bytes.Buffer
	for {
		kind, payload, err := wire.Read(v.wire)
		if err != nil {
			return fmt.Errorf("the guest ended before the program did: %w", err)
		}
		switch kind {
		case wire.Stdout:
			o.Stdout.Write(payload)
		case wire.Stderr:
			o.Stderr.Write(payload)
		case wire.Tar:
			archive.Write(payload)
		case wire.Exit:
			var status wire.Status
			if err := json.Unmarshal(payload, &status); err != nil {
				return err
			}
			if status.Error != "" {
				return fmt.Errorf("in the guest: %s", status.Error)
			}
			result.Code = status.Code
			return deliver(archive.Bytes(), o.Out)
		default:
			return fmt.Errorf("guest frame of unknown kind %q", kind)
		}
	}
}

// deliver unpacks what came back to where the caller wants it.
func deliver(archive []byte, out map[string]string) error {
	for inside, host := range out {
		inside = strings.TrimPrefix(inside, "/")
		tmp, err := os.MkdirTemp("", "containr-guest-")
		if err != nil {
			return err
		}
		err = untar(bytes.NewReader(archive), tmp, func(name string) bool {
			return name == inside || strings.HasPrefix(name, inside+"/")
		})
		if err == nil {
			err = replace(filepath.Join(tmp, inside), host)
		}
		if err = errors.Join(err, os.RemoveAll(tmp)); err != nil {
			return err
		}
	}
	return nil
}

// replace copies a file to host, or the files of a directory into the directory host, over what is there. That there
// is nothing to copy is fine.
func replace(from, host string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(host, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
	if errors.Is(err, fs.ErrNotExist) {
		_, missing := os.Lstat(from)
		if missing != nil {
			return nil
		}
	}
	return err
}

// tail keeps the end of what is written to it, and tells when it has seen a word for the first time.
type tail struct {
	mu   sync.Mutex
	buf  []byte
	max  int
	word string
	seen func()
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	if t.seen != nil && bytes.Contains(t.buf, []byte(t.word)) {
		t.seen()
		t.seen = nil
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
