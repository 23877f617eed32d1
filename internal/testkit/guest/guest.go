// Package guest runs a program, above all a test binary, as root on another kernel, in a small virtual machine.
//
// # Theory of operation
//
// A guest is a Debian kernel, emulated by QEMU, and a userland. Nothing is installed on the machine, and no network is
// needed once the kernel is in the cache:
//
//	kernels.go   which kernels there are; packages from the machine's Debian mirror, unpacked into a cache
//	modules.go   the modules that tests use, with what they need, from each module's own description
//	vmlinux.go   the kernel in the form that QEMU starts without unpacking it in the guest
//	policy.cil   the SELinux policy of guests with SELinux, compiled and loaded by their init
//	userland.go  a whole Debian with systemd, built from packages by root, once, and kept as a disk image
//	initrd.go    the initramfs: init, modules, and a shell where there is no disk (cpio.go)
//	job.go       what runs: the program, its files, its environment
//	qemu.go      the machine: started, watched, ended
//	saved.go     the machine as it was when it had come up, from which others are resumed (qmp.go)
//	wire/        what host and guest say to each other
//	cmd/guestinit  PID 1 of the guest, or the agent in it
//	cmd/guestrun   the command line: go test -exec
//
// A guest boots in about two seconds, a Debian in ten or twenty. When it is up and waits for its job, its memory is
// written to the cache, some 100 MB; each later run resumes from there and has a fresh machine in half a second. It then
// runs at a tenth of the machine's speed or less.
//
// In the userland Memory, which is the default and needs no root, a guest has cgroup v2 alone, with every controller
// handed down from the root; overlay, veth, bridge and netfilter modules, loaded on demand; AppArmor; all namespaces;
// mount points as systemd leaves them, shared; one program as root, and busybox for a shell.
//
// In the userland Systemd it is a Debian machine as it is installed: systemd, which has the control groups, D-Bus,
// AppArmor and apparmor_parser, udev, and further packages that a test names. The program is a part of a service:
//
//	guest.Run(t, guest.Options{
//		Kernel: "debian-6.1", Userland: guest.Systemd, Packages: []string{"podman", "conmon"},
//		Package:  "example.org/mod/pkg", Run: "^TestInside",
//		Programs: map[string]string{"/usr/local/bin/tool": "example.org/mod/cmd/tool"},
//	})
//
// In the userland SELinux it is as in Memory, but SELinux enforces a small policy (policy.cil), in which containers may
// touch nothing of the machine's and nothing of each other's.
//
// The rules: one guest at a time for a user, since each takes a core; if a machine dies before its agent has
// answered, or its kernel panics, one more try, which is printed, but never for a test that fails; a machine that
// cannot be had is ErrUnavailable, for which tests skip, saying why. Nothing is left but the cache: the initramfs is a
// memfd, the channels are socket pairs, and the kernel ends QEMU when the process that started it ends.
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
const Var = testkit.GuestVar

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
	// are kept.
	Files map[string]string
	// Programs are main packages to compile for the guest: guest path to import path.
	Programs map[string]string
	// CoverDir is a directory of the host for coverage data, as "go tool covdata" reads it: Package and Programs are
	// compiled with counters for the whole module. Run takes it from the environment: CoverVar.
	CoverDir string
	// Out are what to bring back: guest path to host path of a file or a directory. What is not there is left out.
	Out map[string]string
	// Userland is what there is besides the kernel: Memory, or a whole Debian.
	Userland Userland
	// Packages are Debian packages for the guest, with all that they depend on. In a userland on a disk they are
	// installed, which makes an image of its own (kept, a minute each); in memory they are only unpacked.
	Packages []string
	// Memory in MiB, default 3072, which is enough for every daemon that tests start, so that they share a saved machine;
	// what a guest does not touch costs nothing. CPUs, default 2.
	Memory, CPUs int
	// Timeout bounds the run, default two minutes. Waiting for another guest and booting do not count.
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
		o.Memory = 3072
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
	if err := o.Userland.check(); err != nil {
		return Result{}, err
	}
	m, err := newMachine(o, k)
	if err != nil {
		return Result{}, err
	}
	defer m.initrd.Close()
	if err := compile(&o, k); err != nil {
		return Result{}, err
	}
	redirect(&o)
	j, err := newJob(o, k)
	if err != nil {
		return Result{}, err
	}
	defer j.files.Close()
	lock, err := lockMachine()
	if err != nil {
		return Result{}, err
	}
	defer lock.Close()
	result, err := m.run(ctx, o, j, false)
	if ctx.Err() == nil && (errors.Is(err, errNoAnswer) || errors.Is(err, errPanic)) {
		fmt.Fprintf(o.Log, "guest %s: trying once more: %v\n", o.Kernel, err)
		result, err = m.run(ctx, o, j, true)
	}
	return result, err
}

// newMachine gathers what the machine is made of.
func newMachine(o Options, k Kernel) (machine, error) {
	m := machine{kernel: k, userland: o.Userland, memory: o.Memory, cpus: o.CPUs}
	var err error
	if m.qemu, err = findQEMU(k.Arch); err != nil {
		return m, err
	}
	if m.files, err = k.files(); err != nil {
		return m, err
	}
	if m.userland.disk() {
		if m.root, err = m.userland.image(k.Arch, o.Packages); err != nil {
			return m, err
		}
	}
	m.initrd, err = writeInitrd(k, m.files, m.userland)
	return m, err
}

// lockMachine waits until no other guest of this user runs.
func lockMachine() (*os.File, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	return testkit.Lock(filepath.Join(cache, "guest.lock"))
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
	// Go's garbage collector is a tenth of all that an emulated processor does in a test.
	o.Env = append([]string{"GOGC=400"}, o.Env...)
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
