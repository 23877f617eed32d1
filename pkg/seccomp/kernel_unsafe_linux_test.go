package seccomp_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/seccomp"
)

// These tests give filters to the kernel. Each runs this test binary again as a
// child, because a filter cannot be taken off; childEnv says what the child is
// to do. No privilege is needed: the child sets no_new_privs.

const childEnv = "SECCOMP_TEST_CHILD"

// children are what a child can do after it has loaded kernelPolicy.
var children = map[string]func(){
	"probe": probe,
	"kill":  func() { syscall.Getppid() },
	"exec": func() {
		err := syscall.Exec(os.Getenv("SECCOMP_TEST_EXEC"), []string{"32"}, nil)
		fmt.Println(err)
		os.Exit(exitNoExec)
	},
}

const exitNoExec = 125

func init() {
	what, ok := os.LookupEnv(childEnv)
	if !ok {
		return
	}
	if err := load(kernelPolicy()); err != nil {
		fmt.Println("load the filter:", err)
		os.Exit(1)
	}
	children[what]()
	os.Exit(0)
}

// kernelPolicy is docker's default and two rules that no default has.
func kernelPolicy() *specs.LinuxSeccomp {
	native, err := seccomp.ArchOf(runtime.GOARCH)
	if err != nil {
		panic(err)
	}
	policy := dockerPolicy(native)
	for i := range policy.Syscalls {
		names := &policy.Syscalls[i].Names
		*names = strings.Fields(strings.NewReplacer(" getppid ", " ", " getsid ", " ").Replace(" " + strings.Join(*names, " ") + " "))
	}
	policy.Syscalls = append(policy.Syscalls,
		specs.LinuxSyscall{Names: []string{"getsid"}, Action: specs.ActErrno, ErrnoRet: uintp(uint(unix.EXDEV))},
		rule(specs.ActKillProcess, "getppid"))
	return policy
}

// load puts a policy on all threads of this process, for good.
func load(policy *specs.LinuxSeccomp) error {
	native, err := seccomp.ArchOf(runtime.GOARCH)
	if err != nil {
		return err
	}
	program, err := seccomp.Compile(policy, native)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	code := program.AppendTo(nil)
	fprog := unix.SockFprog{
		Len:    uint16(len(program.Instructions)),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(code))),
	}
	flags := program.Flags | seccomp.FlagTSync
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return errno
	}
	return nil
}

const minusOne = 1<<32 - 1 // as an int

// kernelProbes are calls that do no harm, and what the filter makes of them.
// Without it none of them gives this result, but for the allowed ones.
var kernelProbes = []struct {
	name string
	nr   uintptr
	args [3]uint64
	want syscall.Errno
}{
	{"getpid", unix.SYS_GETPID, [3]uint64{}, 0},
	{"mount", unix.SYS_MOUNT, [3]uint64{}, unix.EPERM},
	{"unshare(-1)", unix.SYS_UNSHARE, [3]uint64{minusOne}, unix.EPERM},
	{"keyctl(-1)", unix.SYS_KEYCTL, [3]uint64{minusOne}, unix.EPERM},
	{"clone3(NULL)", unix.SYS_CLONE3, [3]uint64{}, unix.ENOSYS},
	{"open_tree_attr(-1)", unix.SYS_OPEN_TREE_ATTR, [3]uint64{minusOne}, unix.ENOSYS},
	{"getsid", unix.SYS_GETSID, [3]uint64{}, unix.EXDEV},
	{"personality(0xffffffff)", unix.SYS_PERSONALITY, [3]uint64{0xffffffff}, 0},
	{"personality(1<<32|0xffffffff)", unix.SYS_PERSONALITY, [3]uint64{1<<32 | 0xffffffff}, unix.EPERM},
	{"personality(1)", unix.SYS_PERSONALITY, [3]uint64{1}, unix.EPERM},
	{"socket(AF_UNIX)", unix.SYS_SOCKET, [3]uint64{unix.AF_UNIX, unix.SOCK_STREAM}, 0},
	{"socket(AF_ALG)", unix.SYS_SOCKET, [3]uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}, unix.EPERM},
	{"socket(AF_VSOCK)", unix.SYS_SOCKET, [3]uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
	{"socket(41)", unix.SYS_SOCKET, [3]uint64{41, minusOne}, unix.EINVAL},
}

// probe makes all calls and prints their results.
func probe() {
	for _, p := range kernelProbes {
		if uint64(uintptr(p.args[0])) != p.args[0] {
			fmt.Printf("%s %d\n", p.name, int(p.want)) // a call that 32 bits cannot make
			continue
		}
		_, _, errno := unix.RawSyscall(p.nr, uintptr(p.args[0]), uintptr(p.args[1]), uintptr(p.args[2]))
		fmt.Printf("%s %d\n", p.name, int(errno))
	}
	if runtime.GOARCH == "amd64" {
		_, _, errno := unix.RawSyscall(x32Bit|unix.SYS_MOUNT, 0, 0, 0)
		fmt.Printf("x32 mount %d\n", int(errno))
	}
}

// child returns a command that runs this binary as a child.
func child(t *testing.T, what string) *exec.Cmd {
	t.Helper()
	if _, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail"); err != nil {
		t.Skipf("this kernel has no seccomp filters: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	return cmd
}

func TestKernelDeniesAndAllows(t *testing.T) {
	out, err := child(t, "probe").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var want strings.Builder
	for _, p := range kernelProbes {
		fmt.Fprintf(&want, "%s %d\n", p.name, int(p.want))
	}
	if runtime.GOARCH == "amd64" {
		fmt.Fprintf(&want, "x32 mount %d\n", int(unix.EPERM))
	}
	if string(out) != want.String() {
		t.Errorf("got\n%swant\n%s", out, want.String())
	}
}

func TestKernelKills(t *testing.T) {
	err := child(t, "kill").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGSYS {
		t.Errorf("got %v, want a death by SIGSYS", err)
	}
}

// elf32 is a static 32-bit x86 program: mount(0, ...) by int 0x80; its exit
// status is the errno.
var elf32 = []byte("\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x02\x00\x03\x00\x01\x00\x00\x00\x54\x80\x04\x08\x34\x00\x00\x00" + // executable, 386, entry
	"\x00\x00\x00\x00\x00\x00\x00\x00\x34\x00\x20\x00\x01\x00\x00\x00\x00\x00\x00\x00" +
	"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x80\x04\x08\x00\x80\x04\x08" + // load all of the file
	"\x70\x00\x00\x00\x70\x00\x00\x00\x05\x00\x00\x00\x00\x10\x00\x00" +
	"\xb8\x15\x00\x00\x00\x31\xdb\x31\xc9\x31\xd2\x31\xf6\x31\xff" + // mov eax, 21; clear arguments
	"\xcd\x80\xf7\xd8\x89\xc3\x31\xc0\x40\xcd\x80\x90\x90") // int 0x80; exit(-eax)

func TestKernelFilters32BitPrograms(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the program is for x86")
	}
	file := filepath.Join(t.TempDir(), "elf32")
	if err := os.WriteFile(file, elf32, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "exec")
	cmd.Env = append(cmd.Env, "SECCOMP_TEST_EXEC="+file)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("got %v, want an exit status", err)
	}
	switch exit.ExitCode() {
	case exitNoExec:
		t.Skipf("this kernel runs no 32-bit programs: %s", out)
	case int(unix.EPERM):
	default:
		t.Errorf("got %v\n%s, want status %d", exit, out, int(unix.EPERM))
	}
}

// BenchmarkKernelLoad loads docker's filter, each time into a thread of its
// own that ends with it: what a container start pays. The interesting figure is
// ns/load; the rest is the thread.
func BenchmarkKernelLoad(b *testing.B) {
	program := mustCompile(b, dockerPolicy(seccomp.AMD64), seccomp.AMD64)
	code := program.AppendTo(nil)
	fprog := unix.SockFprog{
		Len:    uint16(len(program.Instructions)),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(code))),
	}
	var total time.Duration
	for b.Loop() {
		result := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlock: the thread ends here
			unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
			start := time.Now()
			_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog)))
			total += time.Since(start)
			result <- errno
		}()
		if err := <-result; err != syscall.Errno(0) {
			b.Fatal(err)
		}
	}
	runtime.KeepAlive(code)
	b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/load")
}
