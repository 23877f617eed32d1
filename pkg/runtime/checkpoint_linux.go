package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/criu"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
)

// CheckpointRequest is what checkpoint is asked for.
type CheckpointRequest struct {
	ID string
	// Program is the path of criu, empty for the one in $PATH.
	Program string
	// Dump is the command line as far as the user has a say in it. Without a WorkDir it
	// is the ImageDir; both are made if they are not there.
	Dump criu.Dump
	// Timeout is how long criu may take before it is killed, and the container goes on; 0 is
	// for ever.
	Timeout time.Duration
	// Traced, if set, is told what the steps did.
	Traced func(p *plan.Plan, trace []child.Record)
}

// criuOutput is the file of a container's directory that a plan has as Output.
const criuOutput = "criu.out"

// Checkpoint freezes a running container to files. The container is then removed, unless
// it is to go on; it goes on too when it cannot be frozen.
func (r *Runtime) Checkpoint(req *CheckpointRequest) error {
	st, l, err := r.loadLocked(req.ID)
	if err != nil {
		return err
	}
	defer l.release()
	p, in, err := r.planCheckpoint(st, req)
	if err != nil {
		return err
	}
	if err := prepareDirs(&in.Dump.Options, 0); err != nil {
		return err
	}
	if err := writeDescriptors(in.Dump.ImageDir, in.Descriptors); err != nil {
		return err
	}
	before, err := r.present(st)
	if err != nil {
		return err
	}
	defer os.Remove(in.Output) // quoted by then
	s, err := Start(p, StartOptions{Trace: req.Traced != nil, PreserveFDs: max(0, in.Dump.StatusFD-2)})
	if err != nil {
		return err
	}
	if req.Traced != nil {
		req.Traced(p, s.Trace)
	}
	if err := waitCRIU(s.PID, "dump", filepath.Join(in.Dump.WorkDir, criu.DumpLog), in.Output, req.Timeout); err != nil {
		return fmt.Errorf("container %q: %w", req.ID, errors.Join(err, r.goOn(st, before)))
	}
	if in.Dump.Pre || in.Dump.LeaveRunning {
		return nil
	}
	// Who waited for the end of the container may have removed it by now.
	if err := r.remove(req.ID, true); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// goOn lets the container go on, unless it was paused before: a criu that was killed has
// left it frozen.
func (r *Runtime) goOn(st *state, before specs.ContainerState) error {
	if before == StatePaused || !st.ownGroup() {
		return nil
	}
	return r.group(st).Thaw()
}

// PlanCheckpoint returns the plan that Checkpoint would execute, without changing
// anything.
func (r *Runtime) PlanCheckpoint(req *CheckpointRequest) (*plan.Plan, error) {
	st, err := r.load(req.ID)
	if err != nil {
		return nil, err
	}
	p, _, err := r.planCheckpoint(st, req)
	return p, err
}

func (r *Runtime) planCheckpoint(st *state, req *CheckpointRequest) (*plan.Plan, *CheckpointInput, error) {
	switch s := r.status(st); {
	case s == specs.StateStopped:
		return nil, nil, fmt.Errorf("container %q: cannot freeze a container that has stopped: %w", st.ID, ErrNotRunning)
	case s == specs.StateCreated:
		return nil, nil, fmt.Errorf("container %q: cannot freeze a container that has not been started: %w", st.ID, ErrState)
	case host.Kind(filepath.Join(r.Root, st.ID, notifyDir)) == host.Directory:
		return nil, nil, fmt.Errorf("container %q: it has a notify socket of the runtime's, since NOTIFY_SOCKET was set when it was created: that would lead nowhere when it is brought back", st.ID)
	}
	program, err := host.LookCRIU(req.Program)
	if err != nil {
		return nil, nil, err
	}
	in, err := r.checkpointInput(st, req)
	if err != nil {
		return nil, nil, fmt.Errorf("container %q: %w", st.ID, err)
	}
	in.Program = program
	p, err := CompileCheckpoint(*in)
	if err != nil {
		return nil, nil, fmt.Errorf("container %q: %w", st.ID, err)
	}
	return p, in, nil
}

// checkpointInput looks at the container, and changes nothing.
func (r *Runtime) checkpointInput(st *state, req *CheckpointRequest) (*CheckpointInput, error) {
	in := &CheckpointInput{Facts: r.Facts, Dump: req.Dump, Path: programPath(), Output: filepath.Join(r.Root, st.ID, criuOutput)}
	var err error
	if in.Spec, _, err = loadSpec(st.Config); err != nil {
		return nil, err
	}
	if err := checkCheckpoint(in.Spec, in.Facts); err != nil {
		return nil, err
	}
	if err := complete(&in.Dump.Options, in.Spec); err != nil {
		return nil, err
	}
	in.Dump.PID = st.PID
	if st.ownGroup() {
		in.Dump.Freezer, _ = r.group(st).Freezer() // without one criu stops the processes one by one
	}
	proc := "/proc/" + strconv.Itoa(st.PID)
	if in.Mounts, err = readMounts(proc + "/mountinfo"); err != nil {
		return nil, err
	}
	if in.On, err = mountsOf(proc+"/root", criu.Places(in.Spec)); err != nil {
		return nil, err
	}
	in.Inodes = make(map[specs.LinuxNamespaceType]uint64)
	for _, ns := range criu.ExternalNamespaces(in.Spec) {
		var file unix.Stat_t
		path := proc + "/ns/" + criu.NamespaceFile(ns.Type)
		if err := unix.Stat(path, &file); err != nil {
			return nil, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		in.Inodes[ns.Type] = file.Ino
	}
	in.Descriptors, err = describeStdio(proc, in.Mounts)
	return in, err
}

// programPath is where the caller's programs are.
func programPath() string {
	if path := os.Getenv("PATH"); path != "" {
		return path
	}
	return defaultPath
}

// readMounts reads a table of mounts, proc_pid_mountinfo(5).
func readMounts(path string) ([]criu.Mount, error) {
	text, err := sys.ReadFile(path, maxConfig)
	if err != nil {
		return nil, err
	}
	var list []criu.Mount
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		f, fstype := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(fstype) == 0 {
			return nil, fmt.Errorf("%s: line %q has not the form of proc_pid_mountinfo(5)", path, line)
		}
		id, err := strconv.Atoi(f[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, criu.Mount{ID: id, Root: sys.UnescapeMount(f[3]), Point: sys.UnescapeMount(f[4]), Type: fstype[0]})
	}
	return list, nil
}

// mountsOf tells on which mount each path of a container is, whose root is root. Links
// are the container's, and lead nowhere else.
func mountsOf(root string, paths []string) (map[string]int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	on := make(map[string]int, len(paths))
	for _, p := range paths {
		fd, err := unix.Openat2(dir, p, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if err != nil {
			continue // it is not there, or somebody has covered the way
		}
		var st unix.Statx_t
		err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
		unix.Close(fd)
		if err != nil {
			return nil, &os.PathError{Op: "statx", Path: root + p, Err: err}
		}
		on[p] = int(st.Mnt_id)
	}
	return on, nil
}

// describeStdio names the first three descriptors of a process.
func describeStdio(proc string, mounts []criu.Mount) ([]string, error) {
	var names []string
	for i := range 3 {
		path := proc + "/fd/" + strconv.Itoa(i)
		name, err := os.Readlink(path)
		if errors.Is(err, os.ErrNotExist) {
			name, err = "closed", nil
		} else if err == nil && strings.HasPrefix(name, "/") {
			name, err = describeFile(proc, i, name, mounts)
		}
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

// describeFile names an open file: by its numbers if it is not in the container.
func describeFile(proc string, fd int, name string, mounts []criu.Mount) (string, error) {
	info := proc + "/fdinfo/" + strconv.Itoa(fd)
	text, err := sys.ReadFile(info, maxConfig)
	if err != nil {
		return "", err
	}
	mount := 0
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			mount, err = strconv.Atoi(strings.TrimSpace(rest))
		}
	}
	if err != nil || mount == 0 {
		return "", fmt.Errorf("%s does not tell the file's mount", info)
	}
	for i := range mounts {
		if mounts[i].ID == mount {
			return name, nil
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(proc+"/fd/"+strconv.Itoa(fd), &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: name, Err: err}
	}
	const unix98 = 136 // the first of eight major numbers of pseudoterminals
	if major := unix.Major(st.Rdev); st.Mode&unix.S_IFMT == unix.S_IFCHR && major >= unix98 && major < unix98+8 {
		return criu.Terminal(st.Rdev, st.Dev), nil
	}
	return criu.File(mount, st.Ino), nil
}

func writeDescriptors(dir string, names []string) error {
	text, err := quickjson.Append(nil, names)
	if err != nil {
		return err
	}
	return sys.WriteFile(filepath.Join(dir, criu.DescriptorsFile), text)
}
