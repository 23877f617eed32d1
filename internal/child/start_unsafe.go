//go:build linux && (amd64 || arm64)

package child

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/timerslack"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Process is a started program, seen from the host.
type Process struct {
	program *Program
	// PID is the process that Start made: the container, or its keeper.
	PID int
	// Pidfd is open on it.
	Pidfd *os.File
	sock  int
	trace []byte
	// begin is clock() and epoch the time at the program's start.
	begin uint64
	epoch time.Time
}

// Start writes the program to memory and runs it. files are the descriptors of
// p.FDs, except sync, by register. clone is the host's own clone step, or nil when
// the program begins as the keeper.
//
// The caller must call Next until Closed or Failed, and Close. Start fails with
// the errno of the call that refused: clone3 when a namespace cannot be made.
func Start(p *Program, clone *linux.Clone, files map[plan.Reg]int) (*Process, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[1])
	proc := &Process{program: p, sock: pair[0], begin: clock()}
	if err := proc.launch(clone, pair[1], files); err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	return proc, nil
}

func (proc *Process) launch(clone *linux.Clone, sync int, files map[plan.Reg]int) error {
	p := proc.program
	fds := make([]int, len(p.FDs))
	for i, r := range p.FDs {
		switch r {
		case Sync:
			fds[i] = sync
		case TraceFD:
			fd, err := proc.makeTrace()
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			fds[i] = fd
		default:
			fd, ok := files[r]
			if !ok {
				return fmt.Errorf("start: register %q has no descriptor", r)
			}
			fds[i] = fd
		}
	}
	page, err := p.firstPage(Interpreter())
	if err != nil {
		return err
	}
	memfd, err := writeImage(page, p.Data)
	if err != nil {
		return err
	}
	defer unix.Close(memfd)
	return proc.vfork(clone, preamble(p, memfd, fds, clone), files)
}

// writeImage puts the program into a memfd. MFD_EXEC is needed where the sysctl
// vm.memfd_noexec is 1 and unknown before Linux 6.3.
func writeImage(parts ...[]byte) (int, error) {
	fd, err := unix.MemfdCreate(processName, unix.MFD_CLOEXEC|unix.MFD_EXEC|unix.MFD_ALLOW_SEALING)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(processName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if _, err := unix.Writev(fd, parts); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("write program: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("seal program: %w", err)
	}
	return fd, nil
}

// vfork makes the process. The preamble's memory is not Go's, so it stays where
// it is; it is unmapped when the new process has executed its program and no
// longer looks at it.
func (proc *Process) vfork(clone *linux.Clone, pre *preambleCode, files map[plan.Reg]int) error {
	// The kernel leaves the pidfd here too: Go moves what is on a stack, and does not know of the kernel's pointer to it.
	pidfdAt := pre.reserve(8)
	mem, err := pre.load()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(mem) }()
	args := &cloneArgs{
		flags: uint64(linux.CloneVM | linux.CloneVfork | linux.ClonePidfd | linux.CloneClearSighand),
		pidfd: uint64(uintptr(unsafe.Pointer(&mem[pidfdAt]))), exitSignal: uint64(unix.SIGCHLD),
	}
	if clone != nil {
		args.flags |= uint64(clone.Flags)
		if clone.Cgroup != "" {
			args.flags |= uint64(linux.CloneIntoCgroup)
			args.cgroup = uint64(files[plan.Reg(clone.Cgroup)])
		}
	}
	pid, err := pre.launch(args, mem)
	if err != nil {
		return err
	}
	proc.PID, proc.Pidfd = pid, os.NewFile(uintptr(binary.LittleEndian.Uint32(mem[pidfdAt:])), "pidfd")
	return nil
}

// load puts the code into memory of its own.
func (c *preambleCode) load() ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, len(c.data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mmap preamble: %w", err)
	}
	c.relocate(uint64(uintptr(unsafe.Pointer(&mem[0]))))
	copy(mem, c.data)
	return mem, nil
}

// launch makes a process that runs the code in mem.
func (c *preambleCode) launch(args *cloneArgs, mem []byte) (int, error) {
	base := uintptr(unsafe.Pointer(&mem[0]))
	all, old := ^uint64(0), uint64(0)
	pid := launch(args, base+uintptr(c.entry), base+uintptr(c.status), &all, &old, timerslack.Original())
	if pid < 0 {
		return 0, fmt.Errorf("clone3: %w", unix.Errno(-pid))
	}
	return pid, nil
}

// WithUsers calls use with the number of a process in a new user namespace, and ends the process. The
// namespace lasts as long as use has left something that holds it, as a descriptor does.
//
// The process has this one's memory and descriptors, so that nothing is copied and nothing executed for
// it; it does nothing but wait, without a stack, and it ends as well when this process is killed.
// WithUsers fails with the errno of clone3 when a namespace cannot be made.
func WithUsers(use func(pid int) error) error {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(self)
	pre := waiter(self, linux.Arch(runtime.GOARCH))
	mem, err := pre.load()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(mem) }()
	pid, err := pre.launch(&cloneArgs{flags: uint64(linux.CloneVM | linux.CloneFiles | linux.CloneClearSighand | linux.CloneNewuser),
		exitSignal: uint64(unix.SIGCHLD)}, mem)
	if err != nil {
		return err
	}
	defer end(pid)
	return use(pid)
}

// end kills a process of ours and waits until it is gone. It is not reaped yet, so the number is its own.
func end(pid int) {
	_ = unix.Kill(pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
