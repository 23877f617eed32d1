package runtime

import (
	"errors"
	"fmt"
	"io/fs"
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

// RestoreRequest is what restore is asked for.
type RestoreRequest struct {
	// CreateRequest is that of a new container. Console, PreserveFDs, Env, Notify,
	// ExitFile and Wait have no meaning here.
	CreateRequest
	// Program is the path of criu, empty for the one in $PATH.
	Program string
	// Restore is the command line as far as the user has a say in it. Without a WorkDir
	// it is the ImageDir.
	Restore criu.Restore
	// Timeout is how long criu may take before it is killed, and all that it has made is
	// removed; 0 is for ever.
	Timeout time.Duration
	// Traced, if set, is told what the steps did.
	Traced func(p *plan.Plan, trace []child.Record)
}

// Names in a container's directory while it is brought back.
const (
	criuRoot = "root"
	criuPID  = "criu.pid"
)

// Restore brings a container back from its checkpoint, with the configuration of the
// bundle. It runs when Restore returns, as a child of the caller.
func (r *Runtime) Restore(req *RestoreRequest) (*Started, error) {
	if err := ValidateID(req.ID); err != nil {
		return nil, err
	}
	b, err := loadBundle(&req.CreateRequest, "")
	if err != nil {
		return nil, err
	}
	p, in, err := r.planRestore(req, b)
	if err != nil {
		return nil, err
	}
	group := uint32(0)
	if in.Restore.EmptyNetwork {
		group, _ = criu.Mapped(in.Spec.Linux.GIDMappings, 0)
	}
	if err := prepareDirs(&in.Restore.Options, int(group)); err != nil {
		return nil, err
	}
	dir, l, err := r.makeDir(&req.CreateRequest, "")
	if err != nil {
		return nil, err
	}
	defer l.release()
	if err := os.Mkdir(in.Restore.Root, 0o700); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if req.Starting != nil {
		req.Starting()
	}
	s, err := Start(p, StartOptions{Journal: filepath.Join(dir, journalFile), Stdio: req.Stdio, Trace: req.Traced != nil, Warn: r.Warn,
		Inside: &ExecInput{ID: req.ID, Spec: in.Spec, Facts: r.Facts, Cgroups: cgroupPaths(p), Bundle: b.dir},
		Born: func(s *Started) error { // until criu has done its work, it is the container
			return writeState(dir, newState(&req.CreateRequest, b, &in.Input, p, s), b)
		}})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if req.Traced != nil {
		req.Traced(p, s.Trace)
	}
	if err := r.restored(req, b, in, p, s); err != nil {
		return nil, errors.Join(fmt.Errorf("container %q: %w", req.ID, err), r.remove(req.ID, true))
	}
	return s, nil
}

// restored waits for criu, and makes a container of what it has brought back.
func (r *Runtime) restored(req *RestoreRequest, b *bundle, in *RestoreInput, p *plan.Plan, s *Started) error {
	if err := waitCRIU(s.PID, "restore", filepath.Join(in.Restore.WorkDir, criu.RestoreLog), in.Output, req.Timeout); err != nil {
		return err
	}
	text, err := sys.ReadFile(in.Restore.PIDFile, maxConfig)
	if err != nil {
		return err
	}
	if s.PID, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("criu says that the process id is %q: %w", text, err)
	}
	if in.Restore.EmptyNetwork {
		if err := userNamespaceBack(in.Spec.Linux, s.PID); err != nil {
			return err
		}
	}
	own, err := withTimeNamespace(b, s.PID)
	if err != nil {
		return err
	}
	dir := filepath.Join(r.Root, req.ID)
	st := newState(&req.CreateRequest, own, &in.Input, p, s)
	if err := writeState(dir, st, own); err != nil {
		return err
	}
	for _, path := range []string{in.Output, in.Restore.PIDFile, in.Restore.Root} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	s.id, s.loose = req.ID, st.loose()
	file := filepath.Join(dir, stateFile)
	return os.Rename(file+newSuffix, file)
}

// withTimeNamespace returns the bundle as the container is now: criu gives it a time
// namespace, in which its clocks go on from where they were, and who joins it must join
// that too.
func withTimeNamespace(b *bundle, pid int) (*bundle, error) {
	theirs, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/time")
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil // a kernel without
	}
	if err != nil {
		return nil, err
	}
	ours, err := os.Readlink("/proc/self/ns/time")
	if err != nil || ours == theirs || hasNamespace(b.spec, specs.TimeNamespace) {
		return b, err
	}
	spec, l := *b.spec, *b.spec.Linux
	l.Namespaces = append(l.Namespaces[:len(l.Namespaces):len(l.Namespaces)], specs.LinuxNamespace{Type: specs.TimeNamespace})
	spec.Linux = &l
	return &bundle{dir: b.dir, spec: &spec}, nil
}

// PlanRestore returns the plan that Restore would execute, without changing anything.
func (r *Runtime) PlanRestore(req *RestoreRequest) (*plan.Plan, error) {
	b, err := loadBundle(&req.CreateRequest, "")
	if err != nil {
		return nil, err
	}
	p, _, err := r.planRestore(req, b)
	return p, err
}

func (r *Runtime) planRestore(req *RestoreRequest, b *bundle) (*plan.Plan, *RestoreInput, error) {
	input, err := r.input(&req.CreateRequest, b)
	if err != nil {
		return nil, nil, err
	}
	if err := checkSpec(input.Spec); err != nil {
		return nil, nil, err
	}
	if err := checkCheckpoint(input.Spec, input.Facts); err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(r.Root, req.ID)
	in := &RestoreInput{Input: input, Restore: req.Restore, Path: programPath(), Output: filepath.Join(dir, criuOutput)}
	in.Restore.Root, in.Restore.PIDFile = filepath.Join(dir, criuRoot), filepath.Join(dir, criuPID)
	if err := complete(&in.Restore.Options, in.Spec); err != nil {
		return nil, nil, err
	}
	if err := checkImageDir(in.Restore.ImageDir, 0); err != nil {
		return nil, nil, err
	}
	for _, name := range criu.ImageFiles {
		if host.Kind(filepath.Join(in.Restore.ImageDir, name)) != host.File {
			return nil, nil, fmt.Errorf("%s: %w: it has no %s", in.Restore.ImageDir, errNoCheckpoint, name)
		}
	}
	if in.Program, err = host.LookCRIU(req.Program); err != nil {
		return nil, nil, err
	}
	if in.Descriptors, err = readDescriptors(in.Restore.ImageDir); err != nil {
		return nil, nil, err
	}
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, nil, err
	}
	for i := range mounts {
		in.Points = append(in.Points, mounts[i].Point)
	}
	if in.Unified, err = in.Facts.BesideV1(); err != nil {
		return nil, nil, err
	}
	p, err := CompileRestore(*in)
	return p, in, err
}

// maxDescriptors bounds the list of descriptors of a checkpoint, in bytes.
const maxDescriptors = 64 << 10

// readDescriptors reads what the first three descriptors were.
func readDescriptors(dir string) ([]string, error) {
	path := filepath.Join(dir, criu.DescriptorsFile)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, maxDescriptors)
	n, err := unix.Read(fd, text)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	var names []string
	if err := quickjson.Decode(string(text[:n]), &names); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(names) > 3 {
		return nil, fmt.Errorf("%s: %d descriptors, there can be three", path, len(names))
	}
	return names, nil
}
