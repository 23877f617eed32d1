package runtime

import (
	"bytes"
	"context"
	"encoding/binary"
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

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/rootfs"
)

// Runtime does the verbs for the containers below one state root.
type Runtime struct {
	// Root is the directory that holds one directory for each container.
	Root  string
	Facts *host.Facts
	// Warn, if set, is told of what went wrong without stopping anything: poststop
	// hooks that failed.
	Warn func(error)
}

// Names of the files in a container's directory.
const (
	configFile  = "config.json"
	stateFile   = "state.json"
	journalFile = "journal"
	startFile   = "start"
)

// maxConfig bounds a configuration that is read, in bytes.
const maxConfig = 16 << 20

// CreateRequest is what create and run are asked for.
type CreateRequest struct {
	ID, Bundle string
	// Spec replaces the bundle's config.json when it is not nil. SpecFile may name
	// a file that holds it as JSON as long as the container lives; else one is
	// written.
	Spec     *specs.Spec
	SpecFile string
	// Console receives the terminal's master end.
	Console     *os.File
	Stdio       [3]*os.File
	PreserveFDs int
	NoPivot     bool
	NoKeyring   bool
	// Systemd asks systemd for the control group.
	Systemd bool
	// ExitFile: see Input.
	ExitFile string
	// Wait makes a container that waits for Start.
	Wait   bool
	Trace  bool
	Before func(index int, step *plan.Step) error
	// Starting, if set, is called when all is planned, just before the first step.
	Starting func()
}

// ValidateID reports an id that could not be a directory's name or a journal's
// word: runc's rule, letters, digits, "_", "+", "-" and ".", not "." and "..".
func ValidateID(id string) error {
	ok := id != "" && id != "." && id != ".." && len(id) <= 1024
	for _, c := range id {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_+-.", c))
	}
	if !ok {
		return fmt.Errorf("container id %q: only letters, digits and the characters _+-. are allowed", id)
	}
	return nil
}

// Probe looks at the host paths that a configuration binds, for Input.Sources.
func Probe(spec *specs.Spec) map[string]host.Source {
	var sources map[string]host.Source
	look := func(path string) {
		if sources == nil {
			sources = make(map[string]host.Source)
		}
		sources[path] = host.Look(path)
	}
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		bound := m.Type == "bind"
		for _, o := range m.Options {
			bound = bound || o == "bind" || o == "rbind"
		}
		if bound {
			look(m.Source)
		}
	}
	if spec.Linux != nil && hasNamespace(spec, specs.UserNamespace) {
		for _, path := range rootfs.BoundDevices(spec) {
			look(path)
		}
	}
	return sources
}

// ProbeLinks looks at the network devices that a configuration names, for Input.Links.
func ProbeLinks(spec *specs.Spec) (map[string]host.Link, error) {
	if spec.Linux == nil || len(spec.Linux.NetDevices) == 0 {
		return nil, nil
	}
	var names []string
	for name := range spec.Linux.NetDevices {
		names = append(names, name)
	}
	return host.LookLinks(names)
}

// Input returns what Compile needs for a request; it looks at the host, and changes
// nothing.
func (r *Runtime) Input(req *CreateRequest) (Input, error) {
	b, err := loadBundle(req)
	if err != nil {
		return Input{}, err
	}
	return r.input(req, b)
}

func (r *Runtime) input(req *CreateRequest, b *bundle) (Input, error) {
	spec := b.spec
	in := Input{ID: req.ID, Spec: spec, Facts: r.Facts, Bundle: b.dir, ExitFile: req.ExitFile, PreserveFDs: req.PreserveFDs,
		NoPivot: req.NoPivot, NoKeyring: req.NoKeyring, Systemd: req.Systemd}
	if req.Systemd {
		facts, err := r.managerFacts()
		if err != nil {
			return in, err
		}
		in.Facts = facts
	}
	if cgroup.WantsOwner(spec, in.Facts) {
		facts := *in.Facts
		facts.ProbeDelegatable()
		in.Facts = &facts
	}
	if spec.Root == nil || spec.Root.Path == "" {
		return in, errors.New("configuration: /root/path is missing")
	}
	in.Root = spec.Root.Path
	if !filepath.IsAbs(in.Root) {
		in.Root = filepath.Join(b.dir, in.Root)
	}
	switch host.Kind(in.Root) {
	case host.Missing:
		return in, fmt.Errorf("root file system %s: %w", in.Root, fs.ErrNotExist)
	case host.File:
		return in, fmt.Errorf("root file system %s: not a directory", in.Root)
	}
	in.Sources = resolveSources(spec, b.dir)
	if !r.Facts.HasMountSetattr() {
		in.RootMount = host.MountOf(in.Root)
	}
	var err error
	if in.Links, err = ProbeLinks(spec); err != nil {
		return in, err
	}
	if err := probeResctrl(&in); err != nil {
		return in, err
	}
	if req.Wait {
		in.StartFifo = filepath.Join(r.Root, req.ID, startFile)
	}
	return in, nil
}

// resolveSources makes relative sources of binds absolute, as the specification
// wants them: they count from the bundle.
func resolveSources(spec *specs.Spec, bundle string) map[string]host.Source {
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if m.Type == "bind" && !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(bundle, m.Source)
		}
	}
	return Probe(spec)
}

var errConsole = errors.New("a terminal needs a console socket to send it to, and a console socket needs a terminal")

// Create makes a container. With req.Wait it has done everything but execute its
// program when Create returns; without, the program runs.
func (r *Runtime) Create(req *CreateRequest) (*Started, error) {
	if err := ValidateID(req.ID); err != nil {
		return nil, err
	}
	b, err := loadBundle(req)
	if err != nil {
		return nil, err
	}
	in, err := r.input(req, b)
	if err != nil {
		return nil, err
	}
	if in.Spec.Process != nil && in.Spec.Process.Terminal != (req.Console != nil) {
		return nil, errConsole
	}
	p, err := Compile(in)
	if err != nil {
		return nil, err
	}
	dir, err := r.makeDir(req, in.StartFifo)
	if err != nil {
		return nil, err
	}
	if req.ExitFile != "" {
		if err := sys.WriteFile(req.ExitFile, noStatus); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	if req.Starting != nil {
		req.Starting()
	}
	s, err := Start(p, StartOptions{Journal: filepath.Join(dir, journalFile), Console: req.Console, Stdio: req.Stdio,
		PreserveFDs: req.PreserveFDs, Trace: req.Trace, Before: req.Before, Warn: r.Warn,
		Inside: &ExecInput{ID: req.ID, Spec: in.Spec, Facts: r.Facts, Cgroups: cgroupPaths(p), Bundle: b.dir},
		Born:   func(s *Started) error { return writeState(dir, newState(req, b, &in, p, s), b) }})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	file := filepath.Join(dir, stateFile)
	if err := os.Rename(file+newSuffix, file); err != nil {
		_ = unix.Kill(s.PID, unix.SIGKILL)
		return nil, errors.Join(err, r.Delete(req.ID, true))
	}
	s.id = req.ID
	return s, nil
}

// checkRoot refuses a state root that another user could have filled: what a
// container's directory says is killed, joined and removed.
func (r *Runtime) checkRoot() error {
	var st unix.Stat_t
	switch err := unix.Stat(r.Root, &st); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("state root %s: %w", r.Root, err)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("state root %s: it belongs to another user (uid %d)", r.Root, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("state root %s: other users may write to it (mode %#o)", r.Root, st.Mode&0o7777)
	}
	return nil
}

// makeDir makes the container's directory; its existence is the claim on the id.
func (r *Runtime) makeDir(req *CreateRequest, fifo string) (string, error) {
	if err := os.MkdirAll(r.Root, 0o700); err != nil {
		return "", err
	}
	if err := r.checkRoot(); err != nil {
		return "", err
	}
	dir := filepath.Join(r.Root, req.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("container %q: %w", req.ID, ErrExists)
		}
		return "", err
	}
	if fifo != "" {
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			return "", errors.Join(fmt.Errorf("mkfifo %s: %w", fifo, err), os.RemoveAll(dir))
		}
	}
	return dir, nil
}

// startTime reads field 22 of /proc/PID/stat: the process's start in clock ticks
// since boot, which tells it from a later one with the same number.
func startTime(pid int) (uint64, byte) {
	text, err := sys.ReadFile("/proc/"+strconv.Itoa(pid)+"/stat", maxConfig)
	if err != nil {
		return 0, 0
	}
	_, rest, ok := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, 0
	}
	var t uint64
	for _, c := range fields[19] {
		t = t*10 + uint64(c-'0')
	}
	return t, fields[0][0]
}

// status asks the kernel.
func (r *Runtime) status(st *state) specs.ContainerState {
	t, kind := startTime(st.PID)
	switch {
	case t == 0 || t != st.Start || kind == 'Z' || kind == 'X':
		return specs.StateStopped
	case host.Kind(filepath.Join(r.Root, st.ID, startFile)) != host.Missing:
		return specs.StateCreated
	}
	return specs.StateRunning
}

// State returns the OCI state of a container.
func (r *Runtime) State(id string) (*specs.State, error) {
	st, err := r.load(id)
	if err != nil {
		return nil, err
	}
	s := &specs.State{Version: st.Version, ID: st.ID, Status: r.status(st), Pid: st.PID, Bundle: st.Bundle, Annotations: st.Annotations}
	if s.Status == specs.StateStopped {
		s.Pid = 0
	}
	return s, nil
}

// Info is a line of list.
type Info struct {
	specs.State
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
	Owner   int       `json:"-"`
}

// List returns all containers, by id. One that vanishes meanwhile is left out.
func (r *Runtime) List() ([]Info, error) {
	entries, err := os.ReadDir(r.Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []Info
	for _, e := range entries {
		st, err := r.load(e.Name())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info := Info{State: specs.State{Version: st.Version, ID: st.ID, Status: r.status(st), Pid: st.PID, Bundle: st.Bundle, Annotations: st.Annotations},
			Rootfs: st.Rootfs, Created: st.Created, Owner: st.Owner}
		if info.Status == specs.StateStopped {
			info.Pid = 0
		}
		list = append(list, info)
	}
	return list, nil
}

// Start lets a created container execute its program.
func (r *Runtime) Start(id string) error {
	st, err := r.load(id)
	if err != nil {
		return err
	}
	if s := r.status(st); s != specs.StateCreated {
		return fmt.Errorf("container %q: cannot start a container that is %s: %w", id, s, ErrState)
	}
	fifo := filepath.Join(r.Root, id, startFile)
	fd, err := unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("container %q: %w: nobody waits for the start", id, ErrNotRunning)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", fifo, err)
	}
	defer unix.Close(fd)
	release := func() error {
		if err := unix.Unlink(fifo); err != nil {
			return fmt.Errorf("unlink %s: %w", fifo, err)
		}
		if _, err := unix.Write(fd, []byte{1}); err != nil {
			return fmt.Errorf("write %s: %w", fifo, err)
		}
		return nil
	}
	if st.Hooks {
		return r.startWithHooks(st, release, fd)
	}
	return release()
}

// Kill sends a signal to the container's first process, or with all to every
// process in its control groups.
func (r *Runtime) Kill(id string, signal unix.Signal, all bool) error {
	st, err := r.load(id)
	if err != nil {
		return err
	}
	if all && len(st.Cgroups) > 0 {
		return r.killAll(st, signal)
	}
	if r.status(st) == specs.StateStopped {
		return fmt.Errorf("container %q: %w", id, ErrNotRunning)
	}
	return signalProcess(st.PID, st.Start, signal)
}

// signalProcess signals through a pidfd, so that a process that takes over the
// number between the check and the signal is never hit.
func signalProcess(pid int, start uint64, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if t, _ := startTime(pid); t != start {
		return ErrNotRunning
	}
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
		return fmt.Errorf("signal %d to process %d: %w", int(signal), pid, err)
	}
	return nil
}

func (r *Runtime) killAll(st *state, signal unix.Signal) error {
	pids, err := cgroup.Open(r.Facts.CgroupMode, st.Cgroups).Procs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal %d to process %d: %w", int(signal), pid, err)
		}
	}
	return nil
}

// Delete removes a stopped container, with force a running one too, which it kills.
// A container whose creation was interrupted is removed as well.
func (r *Runtime) Delete(id string, force bool) error {
	if err := ValidateID(id); err != nil {
		return err
	}
	dir := filepath.Join(r.Root, id)
	var hooks *laterHooks
	st, err := r.load(id)
	switch {
	case errors.Is(err, ErrNotFound):
		if host.Kind(dir) != host.Directory {
			if force {
				return nil
			}
			return err
		}
		if !force {
			return fmt.Errorf("container %q: its creation was interrupted: delete it with --force: %w", id, ErrState)
		}
	case err != nil:
		return err
	default:
		if hooks, err = r.later(st); err != nil && !force {
			return err
		}
		if hooks == nil && r.status(st) == specs.StateStopped {
			if done, err := r.clear(id); done || err != nil {
				return err
			}
		}
		if err := r.end(st, force); err != nil {
			return err
		}
	}
	calls, err := readJournal(filepath.Join(dir, journalFile))
	if err != nil {
		return err
	}
	if err := undoCalls(calls); err != nil {
		return err
	}
	hooks.stopped(r.Warn)
	return os.RemoveAll(dir)
}

// Finish removes a container that Create made and whose first process has ended and
// been waited for. It is Delete for one who knows already what the container's files
// say.
func (r *Runtime) Finish(s *Started) error {
	if !s.hooks {
		if done, err := r.discard(s.id, s.undos); done || err != nil {
			return err
		}
	}
	return r.Delete(s.id, true)
}

// clear is discard with the inverses in the journal.
func (r *Runtime) clear(id string) (done bool, err error) {
	undos, err := readJournal(filepath.Join(r.Root, id, journalFile))
	if err != nil {
		return false, err
	}
	return r.discard(id, undos)
}

// discard removes a container whose first process has ended, if nobody is left in its
// control groups: those that are empty can be removed, so that nobody has to be asked.
func (r *Runtime) discard(id string, undos []plan.Call) (done bool, err error) {
	for _, c := range undos {
		if d, ok := c.(linux.RemoveDir); !ok || !removed(unix.Rmdir(d.Path)) {
			return false, nil
		}
	}
	dir := filepath.Join(r.Root, id)
	for _, name := range [...]string{stateFile, configFile, journalFile} {
		if err := unix.Unlink(filepath.Join(dir, name)); !removed(err) {
			return false, fmt.Errorf("unlink %s: %w", filepath.Join(dir, name), err)
		}
	}
	if removed(unix.Rmdir(dir)) {
		return true, nil
	}
	return true, os.RemoveAll(dir)
}

// removed tells of the result of rmdir or unlink that nothing is there any more.
func removed(err error) bool { return err == nil || errors.Is(err, unix.ENOENT) }

// end makes sure that nothing of the container runs any more.
func (r *Runtime) end(st *state, force bool) error {
	s := r.status(st)
	if s != specs.StateStopped && s != specs.StateCreated && !force {
		return fmt.Errorf("container %q is %s: %w", st.ID, s, ErrRunning)
	}
	if s != specs.StateStopped {
		if err := signalProcess(st.PID, st.Start, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, ErrNotRunning) {
			return err
		}
		if err := waitGone(st.PID, st.Start); err != nil {
			return err
		}
	}
	if len(st.Cgroups) == 0 || st.Shared {
		return nil
	}
	// Without a process namespace others may be left, and groups that they made.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	group := cgroup.Open(r.Facts.CgroupMode, st.Cgroups)
	if err := group.Kill(ctx); err != nil {
		return err
	}
	return group.Remove()
}

// waitGone waits, ten seconds at most, until a process has ended; its parent need
// not have noticed.
func waitGone(pid int, start uint64) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // it is gone
	}
	defer unix.Close(fd)
	if t, _ := startTime(pid); t != start {
		return nil
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 10_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for process %d: %w", pid, err)
		}
		if n == 0 {
			return fmt.Errorf("process %d does not end", pid)
		}
		return nil
	}
}

// ExecRequest is what exec is asked for.
type ExecRequest struct {
	ID string
	// Process is the new process. If it is nil, it is the container's own as
	// Change leaves it.
	Process     *specs.Process
	Change      func(*specs.Process) error
	Console     *os.File
	Stdio       [3]*os.File
	PreserveFDs int
	// Starting: see CreateRequest.
	Starting func()
}

// process returns the process to run.
func (req *ExecRequest) process(own *specs.Process) (*specs.Process, error) {
	if req.Process != nil || req.Change == nil {
		return req.Process, nil
	}
	return own, req.Change(own)
}

// Exec runs a further process in a running container. The process is a child of the
// caller.
func (r *Runtime) Exec(req *ExecRequest) (*Started, error) {
	st, err := r.load(req.ID)
	if err != nil {
		return nil, err
	}
	if s := r.status(st); s == specs.StateStopped {
		return nil, fmt.Errorf("container %q: cannot exec in a stopped container: %w", req.ID, ErrNotRunning)
	}
	spec, _, err := loadSpec(st.Config)
	if err != nil {
		return nil, err
	}
	process, err := req.process(spec.Process)
	if err != nil {
		return nil, err
	}
	if process != nil && process.Terminal != (req.Console != nil) {
		return nil, errConsole
	}
	p, err := CompileExec(ExecInput{ID: req.ID, Target: st.PID, TargetStart: st.Start, Spec: spec, Process: process, Facts: r.Facts,
		Cgroups: cgroup.Open(r.Facts.CgroupMode, st.Cgroups).Entrance(st.PID), PreserveFDs: req.PreserveFDs, Bundle: st.Bundle, Tasks: st.Tasks})
	if err != nil {
		return nil, err
	}
	if req.Starting != nil {
		req.Starting()
	}
	s, err := Start(p, StartOptions{Console: req.Console, Stdio: req.Stdio, PreserveFDs: req.PreserveFDs})
	if s != nil && s.Parent != 0 {
		reap(s.Parent) // the runner has ended
	}
	return s, err
}

// noStatus is what an exit file holds while the container runs. It takes the place
// that the keeper will need, so that a disk that is full by then does not matter.
var noStatus = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ReadExit reads the exit status that a container's keeper has left: the program's, or
// 128 and the number of the signal that ended it. It fails when the keeper has not
// written it: the container runs, or the keeper was killed.
func ReadExit(path string) (int, error) {
	text, err := sys.ReadFile(path, 8)
	if err != nil {
		return 0, err
	}
	if len(text) != len(noStatus) || bytes.Equal(text[:4], noStatus[:4]) {
		return 0, fmt.Errorf("%s: the exit status is not there", path)
	}
	status := unix.WaitStatus(binary.LittleEndian.Uint32(text))
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}
