// Package guest runs a program, above all a test binary, as root on another kernel, in a small virtual machine.
//
// # Theory of operation
//
// A guest is a Debian kernel, emulated by QEMU, and a root file system in memory (an initramfs). Nothing is
// installed, no image is kept, no network is needed once the kernel is in the cache, and no root is needed:
//
//	kernels.go   which kernels there are; packages from the machine's Debian mirror, unpacked into a cache
//	modules.go   the modules that tests use, with what they need, from each module's own description
//	vmlinux.go   the kernel in the form that QEMU starts without unpacking it in the guest
//	cpio.go      the initramfs: init, modules, a shell, the program, the caller's files
//	qemu.go      the machine: started, watched, ended
//	wire/        what host and guest say to each other
//	cmd/guestinit  PID 1 of the guest
//	cmd/guestrun   the command line: go test -exec
//
// A guest boots in about two seconds, then runs at a tenth of the machine's speed or less. It has cgroup v2 alone,
// with every controller handed down from the root; overlay, veth, bridge and netfilter modules, loaded on demand;
// AppArmor; all namespaces; mount points as systemd leaves them, shared; one program as root, and busybox for a shell.
//
// The rules: one guest at a time on a machine, since each takes a core or two; two minutes for each; if a machine
// dies before its init has answered, one more try, which is printed; a machine that cannot be had is
// ErrUnavailable, for which tests skip, saying why. Nothing is left: the initramfs is a memfd, the channel a socket
// pair, and the kernel ends QEMU when the process that started it ends.
package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit"
)

// Var is set in the environment of every program in a guest, to the kernel's name.
const Var = "CONTAINR_GUEST"

// CoverVar names the environment variable that makes Run collect coverage data, in the directory that it names.
const CoverVar = "CONTAINR_TEST_COVERDIR"

// Options say what runs where. Kernel, and Binary or Package, are needed; the rest has defaults.
type Options struct {
	// Kernel is the name of one of Kernels.
	Kernel string
	// Package is the import path of a package whose test binary is compiled and run; or
	Package string
	// Binary is the path of a statically linked program for the kernel's architecture.
	Binary string
	// Args are the program's arguments. Flags of a test binary that name output files (-test.coverprofile, ...) hold
	// paths of the host: the files come back to there.
	Args []string
	// Run is a shorthand for the argument -test.run=Run.
	Run string
	// Env is the environment, added to PATH, HOME, TMPDIR, Var and testkit.ProbeVar.
	Env []string
	// Dir is the working directory, made if need be; default /root.
	Dir string
	// Files are what the guest has besides: guest path to host path of a file or a directory tree. Owners and modes
	// are kept. Not below /dev, /proc, /run and /sys, which are mount points.
	Files map[string]string
	// Programs are main packages to compile for the guest: guest path to import path.
	Programs map[string]string
	// CoverDir is a directory of the host for coverage data, as "go tool covdata" reads it: Package and Programs are
	// compiled with counters for the whole module. Run takes it from the environment: CoverVar.
	CoverDir string
	// Out are what to bring back: guest path to host path of a file or a directory. What is not there is left out.
	Out map[string]string
	// Packages are Debian packages to unpack into the guest, with all that they depend on. They are not configured.
	Packages []string
	// Memory in MiB, default 1024. CPUs, default 2.
	Memory, CPUs int
	// Timeout bounds boot and run, default two minutes. Waiting for another guest does not count.
	Timeout time.Duration
	// Stdout and Stderr receive what the program prints; nil discards it.
	Stdout, Stderr io.Writer
	// Log receives remarks on the guest itself, a line each; nil is os.Stderr.
	Log io.Writer

	// dirs are made in the guest, for the files of Out.
	dirs []string
}

// Result tells how the program ended.
type Result struct {
	Code    int    // exit code, or 128 and the signal number
	Release string // of the kernel: "6.1.0-50-cloud-amd64"
	// Console is the end of what the kernel printed.
	Console string
}

// withDefaults fills in what the caller left out.
func (o Options) withDefaults() Options {
	if o.Memory == 0 {
		o.Memory = 1024
	}
	if o.CPUs == 0 {
		o.CPUs = 2
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Dir == "" {
		o.Dir = "/root"
	}
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if o.Log == nil {
		o.Log = os.Stderr
	}
	return o
}

// Exec boots the kernel, runs the program and returns how it ended. The error is for what is not the program's own
// doing: ErrUnavailable, a file that cannot be read, a machine that died or took too long.
func Exec(ctx context.Context, o Options) (Result, error) {
	o = o.withDefaults()
	k, err := Find(o.Kernel)
	if err != nil {
		return Result{}, err
	}
	m := machine{kernel: k, memory: o.Memory, cpus: o.CPUs}
	if m.qemu, err = findQEMU(k.Arch); err != nil {
		return Result{}, err
	}
	if m.files, err = k.files(); err != nil {
		return Result{}, err
	}
	if err := compile(&o, k); err != nil {
		return Result{}, err
	}
	redirect(&o)
	m.initrd, err = writeInitrd(o, k, m.files)
	if err != nil {
		return Result{}, err
	}
	defer m.initrd.Close()
	lock, err := testkit.Lock(filepath.Join(os.TempDir(), "containr-guest.lock"))
	if err != nil {
		return Result{}, err
	}
	defer lock.Close()
	for first := true; ; first = false {
		result, err := m.run(ctx, o)
		if !first || !errors.Is(err, errNoAnswer) || ctx.Err() != nil {
			return result, err
		}
		fmt.Fprintf(o.Log, "guest %s: trying once more: %v\n", o.Kernel, err)
	}
}

// Run runs a test binary in a guest as a part of the test t, which fails if it fails. It skips t if the guest cannot
// be had, if t itself runs in a guest, and in short mode. What the test binary printed is logged.
//
//	for _, k := range []string{"debian-5.10", "debian-6.12"} {
//		t.Run(k, func(t *testing.T) { guest.Run(t, guest.Options{Kernel: k, Package: "example.org/mod/pkg"}) })
//	}
func Run(t testing.TB, o Options) Result {
	t.Helper()
	if k := os.Getenv(Var); k != "" {
		t.Skipf("this is a guest already (%s)", k)
	}
	if testing.Short() {
		t.Skip("guests are not for -short")
	}
	o, err := ForTest(o)
	if err != nil {
		t.Fatal(err)
	}
	if o.CoverDir == "" {
		o.CoverDir = os.Getenv(CoverVar)
	}
	var out, log bytes.Buffer
	o.Args = append([]string{"-test.v", "-test.timeout=" + o.withDefaults().Timeout.String()}, o.Args...)
	o.Stdout, o.Stderr, o.Log = &out, &out, &log
	result, err := Exec(t.Context(), o)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	t.Logf("%sguest %s, Linux %s:\n%s", &log, o.Kernel, result.Release, &out)
	switch {
	case err != nil:
		t.Fatal(err)
	case result.Code != 0:
		t.Errorf("test binary in guest %s: exit status %d", o.Kernel, result.Code)
	case strings.Contains(out.String(), "testing: warning: no tests to run"):
		t.Errorf("test binary in guest %s: -test.run=%q chose no test", o.Kernel, o.Run)
	}
	return result
}
