package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
)

// ExecRequest is what exec is asked for.
type ExecRequest struct {
	ID string
	// Process is the new process. If it is nil, it is the container's own as
	// Change leaves it.
	Process     *specs.Process
	Change      func(*specs.Process) error
	Console     *os.File
	OpenConsole func() (*os.File, error)
	Stdio       [3]*os.File
	PreserveFDs int
	// Cgroups are control groups below the container's for the process to be in,
	// which exist: a path on version 2; on version 1 each as "controller:path", or
	// "first,second:path".
	Cgroups []string
	// Apart, if set, is where the process is to be, so that it can be ended with all that it
	// has started. Cgroups is not used then.
	Apart *Apart
	// IgnorePaused lets a process be made in a paused container. It is paused too,
	// before it has become the program, and Exec returns when it goes on.
	IgnorePaused bool
	// Trace and Replace: see StartOptions.
	Trace   bool
	Replace map[string]string
	// OwnHome: see CreateRequest.
	OwnHome bool
	// Starting: see CreateRequest.
	Starting func()
}

// process returns the process to run.
func (req *ExecRequest) process(own *specs.Process) (*specs.Process, error) {
	if req.Process != nil || req.Change == nil {
		return req.Process, nil
	}
	if own == nil {
		own = new(specs.Process)
	}
	return own, req.Change(own)
}

// Exec runs a further process in a running container. The process is a child of the
// caller.
func (r *Runtime) Exec(req *ExecRequest) (*Started, error) {
	if err := checkPreserved(req.PreserveFDs); err != nil {
		return nil, err
	}
	st, err := r.load(req.ID)
	if err != nil {
		return nil, err
	}
	l, err := r.lock(req.ID, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer l.release()
	if err := r.takesProcesses(st, req.IgnorePaused); err != nil {
		return nil, err
	}
	in, err := r.execInput(st, req)
	if err != nil {
		return nil, err
	}
	return startExec(in, req)
}

// takesProcesses refuses a container that cannot have further processes now.
func (r *Runtime) takesProcesses(st *state, ignorePaused bool) error {
	switch s, err := r.present(st); {
	case err != nil:
		return err
	case s == specs.StateStopped:
		return fmt.Errorf("container %q: cannot exec in a stopped container: %w", st.ID, ErrNotRunning)
	case s == StatePaused && !ignorePaused:
		return fmt.Errorf("container %q: cannot exec in a paused container (use --ignore-paused to override): %w", st.ID, ErrState)
	}
	return nil
}

func (r *Runtime) execInput(st *state, req *ExecRequest) (ExecInput, error) {
	in := ExecInput{ID: req.ID, Target: st.PID, TargetStart: st.Start, Facts: r.Facts, PreserveFDs: req.PreserveFDs, Bundle: st.Bundle, Root: st.Rootfs, Tasks: st.Tasks}
	var err error
	kept := filterStore{root: r.filters()}
	if in.Spec, _, err = kept.load(st.Config); err != nil {
		return in, err
	}
	in.Filter = kept.steps
	if in.Process, err = req.process(in.Spec.Process); err != nil {
		return in, err
	}
	if p := in.Process; p != nil {
		if p.Env, err = environment(p.Env, "/proc/"+strconv.Itoa(st.PID)+"/root", req.OwnHome, p.User.UID); err != nil {
			return in, fmt.Errorf("exec: %w", err)
		}
		r.warnOf(p)
	}
	if req.Console, err = consoleFor(in.Process, req.Console, req.OpenConsole); err != nil {
		return in, err
	}
	if req.Apart != nil {
		in.Cgroups = req.Apart.entrance
		return in, nil
	}
	if len(req.Cgroups) == 0 {
		in.Cgroups = r.group(st).Entrance(st.PID)
		return in, nil
	}
	in.Cgroups, err = subgroups(r.Facts, st.Cgroups, req.Cgroups)
	return in, err
}

func startExec(in ExecInput, req *ExecRequest) (*Started, error) {
	p, err := CompileExec(in)
	if err != nil {
		return nil, err
	}
	if req.Starting != nil {
		req.Starting()
	}
	s, err := Start(p, StartOptions{Console: req.Console, Stdio: req.Stdio, PreserveFDs: req.PreserveFDs, Trace: req.Trace, Replace: req.Replace})
	if s != nil && s.Parent != 0 {
		reap(s.Parent) // the runner has ended
	}
	return s, err
}

// subgroups finds the directories of control groups below a container's.
func subgroups(f *host.Facts, dirs, asked []string) ([]string, error) {
	if len(dirs) == 0 {
		return nil, errors.New("exec: the container has no control groups")
	}
	if f.CgroupMode == host.CgroupV2 {
		if len(asked) != 1 || strings.Contains(asked[0], ":") {
			return nil, fmt.Errorf("exec: control group %q: on version 2 it is one path", strings.Join(asked, " "))
		}
		return []string{path.Join(dirs[0], path.Clean("/"+asked[0]))}, nil
	}
	below := slices.Clone(dirs)
	named := make(map[string]bool)
	for _, a := range asked {
		controllers, sub, ok := strings.Cut(a, ":")
		if !ok {
			return nil, fmt.Errorf("exec: control group %q: on version 1 it begins with the controllers that it is for: cpu,memory:path", a)
		}
		for c := range strings.SplitSeq(controllers, ",") {
			i := slices.IndexFunc(dirs, func(dir string) bool { return hierarchyOf(f, dir, c) })
			if i < 0 || named[c] {
				return nil, fmt.Errorf("exec: control group %q: the container has no group of controller %q, or it is named twice", a, c)
			}
			named[c] = true
			below[i] = path.Join(dirs[i], path.Clean("/"+sub))
		}
	}
	return below, nil
}

// hierarchyOf reports whether a directory is in the hierarchy of a controller.
func hierarchyOf(f *host.Facts, dir, controller string) bool {
	h, ok := f.Hierarchy(controller)
	return ok && strings.HasPrefix(dir, h.Path+"/")
}
