package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/security"
)

// Runtime does the verbs for the containers below one state root.
type Runtime struct {
	// Root is the directory that holds one directory for each container.
	Root  string
	Facts *host.Facts
	// Warn, if set, is told of what went wrong without stopping anything: poststop
	// hooks that failed.
	Warn func(error)
	// Actions make what CreateRequest.Network has.
	Actions Actions
	// MapLayers: see rootfs.Input.
	MapLayers func(rootfs.Input) (rootfs.Layers, error)
	// KeepFilters keeps compiled filters for system calls in Root, see filterStore.
	KeepFilters bool
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
	Console *os.File
	// OpenConsole, if set, makes a Console for a program that wants a terminal when
	// there is none yet.
	OpenConsole func() (*os.File, error)
	Stdio       [3]*os.File
	PreserveFDs int
	NoPivot     bool
	NoKeyring   bool
	// Env is added to the program's environment. It is not kept: programs that are
	// run in the container later do not get it.
	Env []string
	// OwnHome is set by who gives HOME to the program himself, or wants it to have none.
	OwnHome bool
	// Replace: see StartOptions.
	Replace map[string]string
	// Notify gives the container a notify socket, see Relay.
	Notify bool
	// NoCgroups leaves the container in the caller's control groups.
	NoCgroups bool
	// Rootless does so where the caller may not make any, if there are no limits.
	Rootless bool
	// Systemd asks systemd for the control group.
	Systemd bool
	// ExitFile: see Input.
	ExitFile string
	// Network and Place: see Input.
	Network []plan.Step
	Place   func(*specs.Spec, *host.Facts) (*namespace.Placement, error)
	// Held is what the keeper holds, see Input.Hold and Keeper; it needs an ExitFile, and
	// no Wait.
	Held *Held
	// Wait makes a container that waits for Start.
	Wait   bool
	Trace  bool
	Before func(index int, step *plan.Step) error
	// Starting, if set, is called when all is planned, just before the first step.
	Starting func()
	// Made: see StartOptions. The container can be found when it has returned.
	Made func(*Started) error
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
		sources[path] = lookBelow(path)
	}
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		bound := m.Type == "bind"
		for _, o := range m.Options {
			bound = bound || o == "bind" || o == "rbind"
		}
		if bound {
			look(rootfs.Source(m))
		}
	}
	if spec.Linux != nil && (hasNamespace(spec, specs.UserNamespace) || host.InUserNamespace()) {
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
	b, err := loadBundle(req, "")
	if err != nil {
		return Input{}, err
	}
	return r.input(req, b)
}

func (r *Runtime) input(req *CreateRequest, b *bundle) (Input, error) {
	spec := b.spec
	in := Input{ID: req.ID, Spec: spec, Facts: r.Facts, Bundle: b.dir, ExitFile: req.ExitFile, Hold: req.Held != nil, PreserveFDs: req.PreserveFDs,
		NoPivot: req.NoPivot, NoKeyring: req.NoKeyring, Systemd: req.Systemd, Network: req.Network, Place: req.Place, MapLayers: r.MapLayers}
	var err error
	if in.Facts, err = r.factsFor(req, spec); err != nil {
		return in, err
	}
	if in.Root, err = rootDir(spec, b.dir); err != nil {
		return in, err
	}
	in.Sources = resolveSources(spec, b.dir)
	if !r.Facts.HasMountSetattr() {
		in.RootMount = host.MountOf(in.Root)
	}
	if in.Links, err = ProbeLinks(spec); err != nil {
		return in, err
	}
	in.Callers = callersOwn(spec)
	if err := probeResctrl(&in); err != nil {
		return in, err
	}
	if in.Hold {
		if in.StateFile, err = filepath.Abs(filepath.Join(r.Root, req.ID, stateFile)); err != nil {
			return in, err
		}
	}
	if req.Wait {
		in.StartFifo = filepath.Join(r.Root, req.ID, startFile)
	}
	if spec.Process != nil {
		more := req.Env
		if req.Notify {
			more = slices.Concat(more, []string{r.notifyMount(&in)})
		}
		if in.Spec, err = withEnv(in.Spec, in.Root, req.OwnHome, more); err != nil {
			return in, err
		}
		r.warnOf(spec.Process)
	}
	in.Rootless = req.NoCgroups
	if req.Rootless && !req.Systemd && spec.Linux != nil && !r.mayMakeGroup(spec.Linux.CgroupsPath) {
		in.Spec = withoutGroup(in.Spec)
	}
	return in, nil
}

// factsFor returns what is known of the machine, with what only some containers need to
// know.
func (r *Runtime) factsFor(req *CreateRequest, spec *specs.Spec) (*host.Facts, error) {
	f := r.Facts
	if req.Systemd {
		var err error
		if f, err = r.managerFacts(); err != nil {
			return nil, err
		}
	}
	if cgroup.WantsOwner(spec, f) {
		more := *f
		more.ProbeDelegatable()
		f = &more
	}
	return f, nil
}

// rootDir is the host directory of the root file system, absolute.
func rootDir(spec *specs.Spec, bundle string) (string, error) {
	if spec.Root == nil || spec.Root.Path == "" {
		return "", errors.New("configuration: /root/path is missing")
	}
	root := spec.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(bundle, root)
	}
	if !hasNamespace(spec, specs.MountNamespace) { // links would hide from the undoing what is mounted
		var err error
		if root, err = filepath.EvalSymlinks(root); err != nil {
			return "", fmt.Errorf("root file system: %w", err)
		}
	}
	switch host.Kind(root) {
	case host.Missing:
		return "", fmt.Errorf("root file system %s: %w", root, fs.ErrNotExist)
	case host.File:
		return "", fmt.Errorf("root file system %s: not a directory", root)
	}
	return root, nil
}

// warnOf tells which capabilities a process will not have, since the kernel does not know them.
func (r *Runtime) warnOf(p *specs.Process) {
	if names := security.Ungrantable(p.Capabilities, r.Facts.LastCapability); names != "" && r.Warn != nil {
		r.Warn(errors.New("/process/capabilities: the process is made without those that this kernel does not know:" + names))
	}
}

// callersOwn lists the namespaces with kernel parameters that a configuration joins by a path and that are this process's own.
func callersOwn(spec *specs.Spec) (kinds []specs.LinuxNamespaceType) {
	if spec.Linux == nil || len(spec.Linux.Sysctl) == 0 {
		return nil
	}
	for _, ns := range spec.Linux.Namespaces {
		name := string(ns.Type)
		if ns.Type == specs.NetworkNamespace {
			name = "net"
		}
		if ns.Path != "" && nsInode(ns.Path) == nsInode("/proc/self/ns/"+name) {
			kinds = append(kinds, ns.Type)
		}
	}
	return kinds
}

// nsInode is the number of a file, 0 if there is none. Those of namespaces are unique.
func nsInode(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// withEnv returns the configuration with the environment that the program gets, and more in it. The
// original is unchanged.
func withEnv(spec *specs.Spec, root string, ownHome bool, more []string) (*specs.Spec, error) {
	changed, process := *spec, *spec.Process
	var err error
	process.Env, err = environment(slices.Concat(process.Env, more), root, ownHome, process.User.UID)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	changed.Process = &process
	return &changed, nil
}

// withoutGroup returns the configuration without the path of a control group, so that
// none is made.
func withoutGroup(spec *specs.Spec) *specs.Spec {
	changed, l := *spec, *spec.Linux
	l.CgroupsPath = ""
	changed.Linux = &l
	return &changed
}

// lookBelow looks at what a bind shows: a path, or one inside of another, behind a zero byte.
func lookBelow(path string) host.Source {
	top, sub, inside := strings.Cut(path, "\x00")
	if !inside {
		return host.Look(path)
	}
	root, err := safepath.OpenRoot(top)
	if err != nil {
		return host.Source{}
	}
	defer root.Close()
	f, err := root.OpenFile(sub, unix.O_PATH, 0)
	if err != nil {
		return host.Source{}
	}
	defer f.Close()
	return host.Look("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
}

// mayMakeGroup reports whether the caller may make the control group of that path: the administrator
// may, and others where some have been given to them, which podman, as an ordinary user, does not look for.
func (r *Runtime) mayMakeGroup(path string) bool {
	f := r.Facts
	if f.Administrator() || !strings.HasPrefix(path, "/") {
		return f.Administrator() || f.DelegatedGroups()
	}
	if f.CgroupMode != host.CgroupV2 {
		return false
	}
	for dir := filepath.Join(f.Hierarchies[0].Path, path); ; dir = filepath.Dir(dir) {
		if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK, unix.AT_EACCESS); !errors.Is(err, unix.ENOENT) {
			return err == nil
		}
	}
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

// ErrConsole means that a program is to have a terminal and nobody takes its other end,
// or the reverse.
var ErrConsole = errors.New("a terminal needs a console socket to send it to, and a console socket needs a terminal")

// consoleFor returns the console of a process: the one that there is, or a new one.
func consoleFor(p *specs.Process, console *os.File, open func() (*os.File, error)) (*os.File, error) {
	switch {
	case p == nil:
		return console, nil
	case p.Terminal && console == nil && open != nil:
		return open()
	case p.Terminal != (console != nil):
		return nil, ErrConsole
	}
	return console, nil
}

// Create makes a container. With req.Wait it has done everything but execute its
// program when Create returns; without, the program runs.
func (r *Runtime) Create(req *CreateRequest) (*Started, error) {
	b, in, p, err := r.prepare(req)
	if err != nil {
		return nil, err
	}
	dir, l, err := r.makeDir(req, in.StartFifo)
	if err != nil {
		return nil, err
	}
	defer l.release()
	relay, err := r.promise(req)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if req.Starting != nil {
		req.Starting()
	}
	var st *state
	file := filepath.Join(dir, stateFile)
	whom := ""
	if req.Held != nil {
		whom = req.ID
	}
	s, err := Start(p, StartOptions{For: whom, Journal: filepath.Join(dir, journalFile), Console: req.Console, Held: req.Held, Stdio: req.Stdio,
		PreserveFDs: req.PreserveFDs, Trace: req.Trace, Before: req.Before, open: (*execution).fsopen, Warn: r.Warn, Actions: r.Actions, Replace: req.Replace,
		Inside: &ExecInput{ID: req.ID, Spec: in.Spec, Facts: r.Facts, Cgroups: cgroupPaths(p), Bundle: b.dir, Filter: in.Filter},
		Born: func(s *Started) error {
			st = newState(req, b, &in, p, s)
			return writeState(dir, st, b)
		},
		Made: func(s *Started) error {
			if req.Made != nil {
				if err := req.Made(s); err != nil {
					return err
				}
			}
			return os.Rename(file+newSuffix, file) // from here on a keeper holds what it was given
		}})
	if err != nil {
		relay.Close()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := b.filters.keep(p); err != nil && r.Warn != nil {
		r.Warn(err)
	}
	s.Relay = relay
	s.id, s.loose, s.held = req.ID, st.loose(), req.Held != nil
	return s, nil
}

// prepare refuses what can be refused before anything is made, and compiles the rest.
func (r *Runtime) prepare(req *CreateRequest) (*bundle, Input, *plan.Plan, error) {
	if err := ValidateID(req.ID); err != nil {
		return nil, Input{}, nil, err
	}
	b, err := loadBundle(req, r.filters())
	if err != nil {
		return nil, Input{}, nil, err
	}
	in, err := r.input(req, b)
	if err != nil {
		return nil, in, nil, err
	}
	if req.Console, err = consoleFor(in.Spec.Process, req.Console, req.OpenConsole); err != nil {
		return nil, in, nil, err
	}
	if err := checkPreserved(req.PreserveFDs); err != nil {
		return nil, in, nil, err
	}
	in.Filter = b.filters.steps
	p, err := Compile(in)
	return b, in, p, err
}

// filters is where compiled filters are kept, if they are.
func (r *Runtime) filters() string {
	if r.KeepFilters {
		return r.Root
	}
	return ""
}

// promise makes what others will look for: the notify socket, of a container that does
// not wait for its start, and the file of the exit status. The relay is nil without the
// socket.
func (r *Runtime) promise(req *CreateRequest) (relay *Relay, err error) {
	if req.Notify && !req.Wait {
		if relay, err = r.Relay(req.ID); err != nil {
			return nil, err
		}
	}
	if req.ExitFile != "" {
		if err := sys.WriteFile(req.ExitFile, noStatus); err != nil {
			relay.Close()
			return nil, err
		}
	}
	return relay, nil
}

// checkPreserved reports a descriptor that is to be inherited and that our caller has not
// left us. Open is not enough: what this process has opened itself may have the number.
// But that is closed by every execve, and what came through one is not.
func checkPreserved(count int) error {
	for fd := 3; fd < 3+count; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC != 0 {
			err = unix.EBADF
		}
		if err != nil {
			return fmt.Errorf("descriptor %d, of %d that the program is to inherit, was not inherited itself: %w", fd, count, err)
		}
	}
	return nil
}

// checkRoot refuses a state root that another user could have filled: what a
// container's directory says is killed, joined and removed.
func (r *Runtime) checkRoot() error {
	var st unix.Stat_t
	trusted := func() bool { return st.Uid == 0 || int(st.Uid) == os.Geteuid() }
	err := unix.Lstat(r.Root, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		// Whose the link is decides where it leads in the next moment.
		if !trusted() {
			return fmt.Errorf("state root %s: it is a link of another user's (uid %d)", r.Root, st.Uid)
		}
		err = unix.Stat(r.Root, &st)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("state root %s: %w", r.Root, err)
	case !trusted():
		return fmt.Errorf("state root %s: it belongs to another user (uid %d)", r.Root, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("state root %s: other users may write to it (mode %#o)", r.Root, st.Mode&0o7777)
	}
	return nil
}

// makeDir makes the container's directory; its existence is the claim on the id. It
// returns with the lock on it.
func (r *Runtime) makeDir(req *CreateRequest, fifo string) (string, dirLock, error) {
	if err := os.MkdirAll(r.Root, 0o700); err != nil {
		return "", 0, err
	}
	if err := r.checkRoot(); err != nil {
		return "", 0, err
	}
	dir := filepath.Join(r.Root, req.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return "", 0, fmt.Errorf("container %q: %w", req.ID, ErrExists)
		}
		return "", 0, err
	}
	l, err := r.lock(req.ID, unix.LOCK_EX)
	if err != nil {
		return "", 0, err // somebody has removed it already
	}
	if fifo != "" {
		if err = unix.Mkfifo(fifo, 0o600); err != nil {
			err = fmt.Errorf("mkfifo %s: %w", fifo, err)
		}
	}
	if err == nil && req.Notify {
		err = os.Mkdir(filepath.Join(dir, notifyDir), 0o755)
	}
	if err != nil {
		l.release()
		return "", 0, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, l, nil
}

// Info is what there is to tell of a container: the state as the OCI specification has
// it, with what runc adds to it.
type Info struct {
	Version string               `json:"ociVersion"`
	ID      string               `json:"id"`
	PID     int                  `json:"pid"`
	Status  specs.ContainerState `json:"status"`
	Bundle  string               `json:"bundle"`
	Rootfs  string               `json:"rootfs"`
	Created time.Time            `json:"created"`
	// Annotations are the configuration's.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Owner is the name of the user who made it; List's callers fill it from UID.
	Owner string `json:"owner"`
	UID   int    `json:"-"`
}

// State returns the state of a container.
func (r *Runtime) State(id string) (*Info, error) {
	st, err := r.load(id)
	if err != nil {
		return nil, err
	}
	return r.info(st)
}

func (r *Runtime) info(st *state) (*Info, error) {
	status, err := r.present(st)
	if err != nil {
		return nil, err
	}
	i := &Info{Version: st.Version, ID: st.ID, Status: status, PID: st.PID, Bundle: st.Bundle, Rootfs: st.Rootfs,
		Created: st.Created, Annotations: st.Annotations, UID: st.Owner}
	if status == specs.StateStopped {
		i.PID = 0
	}
	return i, nil
}

// Names returns the ids of all containers, whole or not.
func (r *Runtime) Names() (map[string]bool, error) {
	dir, err := os.Open(r.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	list, err := dir.Readdirnames(-1)
	names := make(map[string]bool, len(list))
	for _, name := range list {
		names[name] = true
	}
	return names, err
}

// List returns all containers, by id. One that vanishes meanwhile is left out, and so
// is one whose making is not complete. Of one that cannot be read Warn is told; without Warn it fails.
func (r *Runtime) List() ([]Info, error) {
	entries, err := os.ReadDir(r.Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list := []Info{}
	for _, e := range entries {
		if !e.IsDir() || ValidateID(e.Name()) != nil {
			continue
		}
		st, err := r.load(e.Name())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		var info *Info
		if err == nil {
			info, err = r.info(st)
		}
		switch {
		case err == nil:
			list = append(list, *info)
		case r.Warn != nil: // the others are told all the same
			r.Warn(fmt.Errorf("container %q: %w", e.Name(), err))
		default:
			return nil, err
		}
	}
	return list, nil
}

// Start lets a created container execute its program.
func (r *Runtime) Start(id string) error {
	st, l, err := r.loadLocked(id)
	if err != nil {
		return err
	}
	defer l.release()
	switch s := r.status(st); s {
	case specs.StateCreated:
	case specs.StateStopped:
		return fmt.Errorf("container %q: cannot start a container that has stopped: %w", id, ErrState)
	default:
		return fmt.Errorf("container %q: cannot start an already running container: %w", id, ErrState)
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
