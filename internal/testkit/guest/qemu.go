package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// errNoAnswer means that the machine ended before its init said hello. Emulated kernels rarely do that for no reason
// of ours (about once in fifty boots of Linux 6.12: a panic in an interrupt), so it is worth one more try.
var errNoAnswer = errors.New("the guest ended before it answered")

// machine is one virtual machine, ready to be started.
type machine struct {
	kernel Kernel
	files  files
	qemu   string
	initrd *os.File
	memory int // MiB
	cpus   int
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
	wireFD   = 3 // the virtio serial port
	initrdFD = 4 // the root file system
)

// command is the QEMU command line. Emulation, not KVM, on purpose: it works everywhere, inside containers and other
// virtual machines too, and everywhere alike.
func (m machine) command() *exec.Cmd {
	// Without cmpxchg16b: QEMU 7.2 leaves garbage in the flags that an interrupt right after it saves, which from
	// Linux 6.5 on, where the slab allocator uses it, ends in a double fault.
	board, console := []string{"-M", "q35", "-cpu", "max,cx16=off"}, "ttyS0"
	if m.kernel.Arch == "arm64" {
		// "max" would spend seconds in pointer authentication.
		board, console = []string{"-M", "virt", "-cpu", "cortex-a72"}, "ttyAMA0"
	}
	args := append(board,
		"-accel", "tcg,thread=multi", "-smp", fmt.Sprint(m.cpus), "-m", fmt.Sprint(m.memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
		"-chardev", fmt.Sprintf("socket,id=wire,fd=%d", wireFD), "-device", "virtserialport,chardev=wire,name="+wire.Port,
		"-kernel", m.files.kernel(), "-initrd", fmt.Sprintf("/proc/self/fd/%d", initrdFD),
		"-append", "console="+console+" quiet panic=-1 cgroup_no_v1=all swapaccount=1")
	return exec.Command(m.qemu, args...)
}

// panicTime is what a kernel gets to print its last words.
const panicTime = 2 * time.Second

// run boots the machine, passes on what the program prints, and ends the machine when the program has ended.
func (m machine) run(ctx context.Context, o Options) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Result{}, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "wire"), os.NewFile(uintptr(pair[1]), "wire")
	defer ours.Close()
	cmd := m.command()
	console := &tail{max: 32 << 10, word: "Kernel panic"}
	// A kernel that panics should restart, which ends QEMU; with a lock held it may hang instead.
	console.seen = func() { time.AfterFunc(panicTime, func() { cmd.Process.Kill() }) }
	cmd.ExtraFiles = []*os.File{theirs, m.initrd}
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	ended, err := start(cmd)
	theirs.Close()
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// Whatever ends the conversation, its end is the end of the machine, and the other way round: reading below
	// stops when QEMU closes its side.
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	result, err := converse(ours, o)
	stop()
	cmd.Process.Kill()
	<-ended
	result.Console = console.String()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("guest %s: %w after %v: %w", m.kernel.Name, ctx.Err(), o.Timeout, err)
	}
	if err != nil {
		return result, fmt.Errorf("%w\nconsole:\n%s", err, result.Console)
	}
	return result, nil
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

// converse reads frames until the program's end.
func converse(r io.Reader, o Options) (Result, error) {
	var result Result
	var archive bytes.Buffer
	for {
		kind, payload, err := wire.Read(r)
		if err != nil && result.Release == "" {
			return result, fmt.Errorf("%w (%v)", errNoAnswer, err)
		}
		if err != nil {
			return result, fmt.Errorf("the guest ended before the program did: %w", err)
		}
		switch kind {
		case wire.Hello:
			var hello wire.Greeting
			if err := json.Unmarshal(payload, &hello); err != nil {
				return result, err
			}
			result.Release = hello.Release
			for _, w := range hello.Warnings {
				fmt.Fprintf(o.Log, "guest %s: %s\n", o.Kernel, w)
			}
		case wire.Stdout:
			o.Stdout.Write(payload)
		case wire.Stderr:
			o.Stderr.Write(payload)
		case wire.Tar:
			archive.Write(payload)
		case wire.Exit:
			var status wire.Status
			if err := json.Unmarshal(payload, &status); err != nil {
				return result, err
			}
			if status.Error != "" {
				return result, fmt.Errorf("in the guest: %s", status.Error)
			}
			result.Code = status.Code
			return result, deliver(archive.Bytes(), o.Out)
		default:
			return result, fmt.Errorf("guest frame of unknown kind %q", kind)
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
