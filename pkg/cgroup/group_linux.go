package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
)

// ErrNotCgroup means that a path which should be a control group is on another file
// system.
var ErrNotCgroup = errors.New("not a control group")

// Group is a container's control group, as directories that exist. It holds no
// descriptor and no state, so that there is nothing to close.
type Group struct {
	mode  host.CgroupMode
	paths []string
	// magic is the file system type that the paths must have.
	magic int64
	// patience is how long Remove waits for the kernel.
	patience time.Duration
}

// Open returns the group with these directories, which Placement.Paths named. It
// does not look at them yet.
func Open(mode host.CgroupMode, paths []string) *Group {
	magic := int64(unix.CGROUP_SUPER_MAGIC)
	if mode == host.CgroupV2 {
		magic = unix.CGROUP2_SUPER_MAGIC
	}
	return &Group{mode: mode, paths: paths, magic: magic, patience: removePatience}
}

// path finds the directory of a controller; on version 2 it is the only one. The
// element after the mount directory of all hierarchies names the controllers.
func (g *Group) path(controller string) (string, bool) {
	if g.mode == host.CgroupV2 && len(g.paths) > 0 {
		return g.paths[0], true
	}
	for _, p := range g.paths {
		_, inner, _ := strings.Cut(p, "/sys/fs/cgroup/")
		mount, _, _ := strings.Cut(inner, "/")
		if slices.Contains(strings.Split(mount, ","), controller) {
			return p, true
		}
	}
	return "", false
}

// open opens a file or directory and makes sure that it is in a cgroup file system.
func (g *Group) open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "fstatfs", Path: path, Err: err}
	}
	if int64(st.Type) != g.magic {
		f.Close()
		return nil, &os.PathError{Op: "open", Path: path, Err: ErrNotCgroup}
	}
	return f, nil
}

func (g *Group) write(path, data string) error {
	f, err := g.open(path, os.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(data)
	return err
}

// maxControlFile is more than any control file of one group holds: a process number
// takes 8 bytes, and there are at most 4 million.
const maxControlFile = 64 << 20

func (g *Group) read(path string) (string, error) {
	f, err := g.open(path, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, 0, 4096)
	for len(buf) < maxControlFile {
		n, err := unix.Read(int(f.Fd()), buf[len(buf):cap(buf)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return string(buf), nil
		default:
			buf = slices.Grow(buf[:len(buf)+n], 4096)
		}
	}
	return "", fmt.Errorf("read %s: more than %d bytes", path, maxControlFile)
}

// Procs lists the processes of the group and of the groups below it, as this process
// numbers them, each once. Processes that have no number here are left out. A group
// that is gone has none.
func (g *Group) Procs() ([]int, error) {
	var list []int
	for _, dir := range g.tree(g.main()) {
		text, err := g.read(dir + "/cgroup.procs")
		if isGone(err) || errors.Is(err, unix.EOPNOTSUPP) {
			// A threaded group of version 2 leaves its processes to the
			// group above, which lists them.
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("processes of the control group: %w", err)
		}
		for line := range strings.Lines(text) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
				list = append(list, pid)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// Entrance is where a further process of the container is to go, given the number of
// one that is in it: the group's directories, but on version 2, where a group that hands
// controllers to others below takes no processes (a container that runs an init system
// has divided itself), the group of that process.
func (g *Group) Entrance(pid int) []string {
	if g.mode != host.CgroupV2 || len(g.paths) == 0 {
		return g.paths
	}
	divided, err := g.read(g.paths[0] + "/cgroup.subtree_control")
	if err != nil || strings.TrimSpace(divided) == "" {
		return g.paths
	}
	for _, dir := range g.tree(g.paths[0]) {
		procs, err := g.read(dir + "/cgroup.procs")
		if err == nil && slices.Contains(strings.Fields(procs), strconv.Itoa(pid)) {
			return []string{dir}
		}
	}
	return g.paths
}

// main is the directory that stands for all when processes are looked for. The
// freezer comes first, so that who is listed and who is frozen are the same.
func (g *Group) main() string {
	for _, c := range [...]string{"freezer", "pids", "memory", "devices"} {
		if p, ok := g.path(c); ok {
			return p
		}
	}
	if len(g.paths) > 0 {
		return g.paths[0]
	}
	return ""
}

// tree lists dir and everything below it, from the bottom up. What cannot be read is
// taken for empty: rmdir or the next reader says what is wrong.
func (g *Group) tree(dir string) []string {
	if dir == "" {
		return nil
	}
	f, err := g.open(dir, os.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return []string{dir}
	}
	entries, _ := f.ReadDir(-1)
	f.Close()
	var list []string
	for _, e := range entries {
		if e.IsDir() {
			list = append(list, g.tree(dir+"/"+e.Name())...)
		}
	}
	return append(list, dir)
}

// isGone reports whether the error says that a group was removed meanwhile: no such
// file, or, from a file that is still open, no such device.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// The kernel finishes with a dead process some time after its parent has heard of its
// end. Until then rmdir fails with EBUSY.
const (
	removePatience  = 2 * time.Second
	removePause     = time.Millisecond
	removePauseMost = 64 * time.Millisecond
)

// Remove removes the group's directories and all groups that the container made below
// them. Directories that are gone already are no error. It waits for the kernel for
// up to 2 seconds; if processes live on, the error is EBUSY. The remaining directories
// are removed even if one fails.
func (g *Group) Remove() error {
	deadline := time.Now().Add(g.patience)
	var errs []error
	for _, p := range slices.Backward(g.paths) {
		errs = append(errs, g.removeTree(p, deadline))
	}
	return errors.Join(errs...)
}

func (g *Group) removeTree(dir string, deadline time.Time) error {
	for pause := removePause; ; pause = min(2*pause, removePauseMost) {
		err := g.removeOnce(dir)
		if err == nil || !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) || !time.Now().Before(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// removeOnce tries the directory alone first, because nearly always nothing is below
// it. The kernel answers EBUSY for processes and for directories below alike.
func (g *Group) removeOnce(dir string) error {
	err := g.rmdir(dir)
	if err == nil || !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	for _, d := range g.tree(dir) {
		if err := g.rmdir(d); err != nil {
			return err
		}
	}
	return nil
}

// rmdir does not check the file system first: it removes nothing but an empty
// directory, and an ordinary one is told by ENOTEMPTY, or is no loss.
func (g *Group) rmdir(dir string) error {
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// Fits reports, as an error, that res asks (checkBeforeUpdate) not to be applied when
// the container uses more memory than the new limits give. Version 1 kernels refuse
// such a limit by themselves; version 2 would kill. Between this look and the write
// the container may still grow.
func (g *Group) Fits(res *specs.LinuxResources) error {
	m := res.Memory
	if g.mode != host.CgroupV2 || m == nil || m.CheckBeforeUpdate == nil || !*m.CheckBeforeUpdate {
		return nil
	}
	u, err := g.Usage()
	if err != nil {
		return err
	}
	if u.Memory == nil {
		return nil
	}
	if limit := number(m.Limit); limit > 0 && u.Memory.Current > uint64(limit) {
		return invalid("memory.limit", strconv.FormatInt(limit, 10)+" is below the present usage "+strconv.FormatUint(u.Memory.Current, 10))
	}
	if swap := number(m.Swap); swap > 0 && u.Memory.Current+u.Memory.Swap > uint64(swap) {
		return invalid("memory.swap", strconv.FormatInt(swap, 10)+" is below the present usage of memory and swap "+
			strconv.FormatUint(u.Memory.Current+u.Memory.Swap, 10))
	}
	return nil
}

// Freezer is the directory whose files stop all processes of the group at once; false if
// there is none: on version 1, without that controller.
func (g *Group) Freezer() (string, bool) { return g.path("freezer") }

// Freeze stops all processes of the group, and returns when they have stopped. When
// ctx ends before that, they are let go again and the error is that of ctx. The
// caller must not be in the group.
func (g *Group) Freeze(ctx context.Context) error {
	dir, ok := g.path("freezer")
	if !ok {
		return fmt.Errorf("freeze: %w: freezer", ErrNoController)
	}
	var err error
	if g.mode == host.CgroupV2 {
		err = g.freezeV2(ctx, dir)
	} else {
		err = g.freezeV1(ctx, dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("freeze: %w", err), g.Thaw())
	}
	return nil
}

// Thaw lets the processes go on. It returns before they all do. A group that is gone meanwhile has none.
func (g *Group) Thaw() error {
	dir, ok := g.path("freezer")
	if !ok {
		return fmt.Errorf("thaw: %w: freezer", ErrNoController)
	}
	file, data := "/freezer.state", "THAWED"
	if g.mode == host.CgroupV2 {
		file, data = "/cgroup.freeze", "0"
	}
	if err := g.write(dir+file, data); err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}

// Frozen reports whether all processes of the group have stopped.
func (g *Group) Frozen() (bool, error) {
	dir, ok := g.path("freezer")
	if !ok {
		return false, nil
	}
	if g.mode == host.CgroupV2 {
		return g.event(dir, "frozen")
	}
	state, err := g.read(dir + "/freezer.state")
	return strings.TrimSpace(state) == "FROZEN", err
}

// event reads a flag of cgroup.events.
func (g *Group) event(dir, key string) (bool, error) {
	text, err := g.read(dir + "/cgroup.events")
	if err != nil {
		return false, err
	}
	return keyed(text)[key] == 1, nil
}

// freezeV2 waits for the kernel's notice: cgroup.events becomes readable with
// exceptional data (POLLPRI) when one of its flags changes.
func (g *Group) freezeV2(ctx context.Context, dir string) error {
	if err := g.write(dir+"/cgroup.freeze", "1"); err != nil {
		return err
	}
	return g.await(ctx, dir, "frozen", true)
}

// await waits until a flag of cgroup.events has the value.
func (g *Group) await(ctx context.Context, dir, key string, value bool) error {
	f, err := g.open(dir+"/cgroup.events", os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 256)
	for {
		n, err := unix.Pread(int(f.Fd()), buf, 0)
		if err != nil && err != unix.EINTR {
			return &os.PathError{Op: "read", Path: f.Name(), Err: err}
		}
		if n > 0 && (keyed(string(buf[:n]))[key] == 1) == value {
			return nil
		}
		if err := pollUntil(ctx, []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}); err != nil {
			return err
		}
	}
}

// pollUntil waits for one of the events, or for the end of ctx, which it looks for
// ten times a second.
func pollUntil(ctx context.Context, fds []unix.PollFd) error {
	for {
		n, err := unix.Poll(fds, 100)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		if n > 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// freezeV1 asks again and again: version 1 has no notice, and a process that is born
// while others freeze may slip through until the state is written anew.
func (g *Group) freezeV1(ctx context.Context, dir string) error {
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if err := g.write(dir+"/freezer.state", "FROZEN"); err != nil {
			return err
		}
		frozen, err := g.Frozen()
		if err != nil || frozen {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
