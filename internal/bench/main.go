// Command bench measures containr beside its peers and writes the figures down.
//
// # Theory of operation
//
// What is measured are whole processes, from fork to wait, as somebody who types the
// command meets them. A comparison is a race (race.go): in every round each program
// takes its turn, in an order that changes from round to round, so that what else the
// machine does meets all of them alike. A round's times are compared pair by pair, and
// the tables show the medians of times and of ratios (report.go).
//
// All programs run in a mount namespace of the benchmark's own (private.go), where the
// empty unified hierarchy of a hybrid layout of control groups is unmounted, because
// crun refuses such a layout. The host's mounts stay as they are.
//
// There are eleven sections, each in its file: runtimes.go compares containr-runtime with
// runc and crun, account.go says what of that is the kernel's, engines.go containr with docker and containerd, images.go the pulling
// and unpacking of an image, network.go what networks cost and traffic.go what goes through them, rootless.go what ordinary users have, large.go pulls of large images, store.go a store of many, life.go many containers that live for a while,
// podman.go containr and podman in a virtual machine, and programs.go start-up times and sizes. A peer that is
// not installed is left out and named as such.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// bench is one run of the benchmark.
type bench struct {
	ctx context.Context
	// bin has our programs; dir is the benchmark's own, on disk, and state a
	// directory in it that is in memory.
	bin, dir, state string
	// crun is a crun besides the one in PATH; empty for none.
	crun string
	// runc is a runc besides the one in PATH; empty for none.
	runc string
	// nerdctl is its path, or empty.
	nerdctl string
	// podmanPath is that of a podman that works on this machine, or empty; podman measures another in a virtual machine.
	podmanPath string
	// debian is an archive with the root file system of Debian.
	debian string
	// divisor makes the numbers of rounds smaller, to try the benchmark out.
	divisor int
	missing []string
}

// section is a part of the document.
type section struct {
	name string
	run  func(*bench) ([]table, error)
}

var sections = []section{
	{"runtimes", (*bench).runtimes},
	{"account", (*bench).account},
	{"engines", (*bench).engines},
	{"network", (*bench).network},
	{"rootless", (*bench).rootless},
	{"images", (*bench).images},
	{"pulls", (*bench).pullsOfLarge},
	{"store", (*bench).store},
	{"life", (*bench).life},
	{"podman", (*bench).podman},
	{"programs", (*bench).programs},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	b := &bench{}
	doc := flag.String("doc", "", "write the tables into `FILE`, between its markers, in the place of those of the same sections, instead of printing them")
	only := flag.String("only", "", "measure these `SECTIONS` only, with commas between: runtimes, account, engines, network, rootless, images, pulls, store, life, podman or programs")
	flag.StringVar(&b.bin, "bin", "bin", "`DIR` with containr and containr-runtime")
	flag.StringVar(&b.crun, "crun", os.Getenv("CONTAINR_BENCH_CRUN"), "a further crun to compare with")
	flag.StringVar(&b.runc, "runc", os.Getenv("CONTAINR_BENCH_RUNC"), "a further runc to compare with")
	flag.StringVar(&b.podmanPath, "podman", os.Getenv("CONTAINR_BENCH_PODMAN"), "a podman to compare with, which works without CAP_SYS_RESOURCE and on version 1 of control groups")
	flag.StringVar(&b.nerdctl, "nerdctl", os.Getenv("CONTAINR_BENCH_NERDCTL"), "a nerdctl to compare with")
	flag.StringVar(&b.debian, "debian", "", "root file system of Debian, a tar `FILE`")
	flag.IntVar(&b.divisor, "divisor", 1, "divide the number of rounds by `N`, to try it out")
	inside := flag.Bool("guest", false, "measure containr and podman here, which is a virtual machine, and print that as JSON")
	flag.Parse()
	if os.Geteuid() != 0 {
		return errors.New("containers of root are measured: run it as root")
	}
	if *inside {
		b.ctx = context.Background() // the machine ends with its starter
		return b.inGuest()
	}
	if os.Getenv(privateVariable) == "" {
		return enterPrivate()
	}
	if err := makePrivate(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	b.ctx = ctx
	parts, err := b.measure(*only)
	if err != nil {
		return err
	}
	return b.writeReport(*doc, parts)
}

// measure runs the sections in a fresh directory and leaves nothing behind.
func (b *bench) measure(only string) (parts []part, err error) {
	wanted, err := chosen(only)
	if err != nil {
		return nil, err
	}
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("/var/tmp", "containr-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.state = filepath.Join(b.dir, "state")
	if err := errors.Join(os.Mkdir(b.state, 0o755), unix.Mount("tmpfs", b.state, "tmpfs", 0, "mode=755")); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.Unmount(b.state, unix.MNT_DETACH), removeGroups()) }()
	for _, s := range wanted {
		fmt.Fprintf(os.Stderr, "%s ...\n", s.name)
		tables, err := s.run(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		parts = append(parts, b.part(s.name, tables))
	}
	return parts, nil
}

// chosen returns the sections of a list with commas; all of them for none.
func chosen(only string) (list []section, err error) {
	if only == "" {
		return sections, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(sections, func(s section) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only %q: there is no such section", name)
		}
		list = append(list, sections[i])
	}
	return list, nil
}

// rounds is how often something is measured that is measured n times in earnest.
func (b *bench) rounds(n int) int { return max(n/b.divisor, 2) }

// path returns the path of one of our programs.
func (b *bench) path(program string) string { return filepath.Join(b.bin, program) }

// lacks notes that a peer is not there.
func (b *bench) lacks(peer string) { b.missing = append(b.missing, peer) }

// privateVariable is set in the environment of the benchmark's second process.
const privateVariable = "CONTAINR_BENCH_PRIVATE"

// enterPrivate runs this program again in a mount namespace of its own, in which Go
// makes all mounts private, and ends with its exit status.
func enterPrivate() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGINT, unix.SIGTERM) // they reach the whole process group, and it is the other who cleans up
	pid, err := syscall.ForkExec(self, os.Args, &syscall.ProcAttr{
		Env: append(os.Environ(), privateVariable+"=1"), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS},
	})
	if err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	status, _, err := wait(pid)
	if err == nil && status != 0 {
		os.Exit(status)
	}
	return err
}

// makePrivate takes an empty unified hierarchy away from beside those of version 1.
func makePrivate() error {
	const unified = groupRoot + "/unified"
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !strings.Contains(string(mounts), " "+unified+" ") {
		return err
	}
	if err := unix.Unmount(unified, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("umount %s: %w", unified, err)
	}
	return nil
}
