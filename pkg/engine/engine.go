// Package engine does what users ask for: it wires the stores of images,
// snapshots and containers to the runtime, with one short function for each verb.
//
// # Theory of operation
//
// A verb takes one request struct, whose zero value asks for the defaults, and
// returns one answer. The command line is its first caller; other faces
// translate their protocol to the same requests. Nothing here knows about flags
// or terminals.
//
// Run is the longest verb, and Explain is Run that stops before the first step
// (prepare.go is what they share, so that what is explained is what would be
// done): the image is found or fetched, its layers are unpacked once, a directory
// is reserved for the container, the configuration becomes an OCI specification,
// and the runtime compiles that to a plan. Run executes the plan, waits, and
// takes away what must not stay.
//
// The stores are opened when a verb first needs them, because most commands need
// few of them and every command pays for what is opened.
//
// # The end of a container
//
// What is to be done when a container's program has ended must be done once, whoever is
// killed meanwhile. So each container has a lock, and who holds it *attends* to the
// container: the command itself while it runs in the foreground, else the monitor, which
// has `containr container cleanup` do the work. The kernel drops the lock of a process that
// dies; from then on any command may take it, and does:
//
//   - recover looks at all containers, before a verb looks for one, and finishes those
//     that have ended and that nobody attends to;
//   - settle does it for one container, or waits for the one who attends to it;
//   - conclude is what both come to, with the lock held: the plan is undone, the state
//     written, and the container removed, or noted for a restart, or kept. A command that has
//     waited for its own container does as much in execution.foreground.
//
// Three orders make that safe. The state says that a container runs before its program
// does: whoever sees it run finds it. A user's wish, to stop it or to start it again, is in
// the state before the signal is sent: whoever concludes obeys it. And what a container wrote
// is read before it is concluded: while its keeper holds output, it is left to the monitor.
package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"syscall"

	"github.com/containr/containr/internal/apparmor"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/monitor"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/secret"
	"github.com/containr/containr/pkg/snapshot"
	"github.com/containr/containr/pkg/volume"
)

// Options say where an engine keeps its things. The zero value is the user's
// usual place.
type Options struct {
	// Root is the directory for what outlives a boot. Empty is DefaultRoot.
	Root string
	// Run is the directory for what does not. Empty is the usual place if Root
	// is empty too, else the directory run below Root.
	Run string
	// Init is the program that --init puts into containers. Empty looks for
	// containr-init beside the running program, and in the usual places.
	Init string
	// Network is that of containers which name none, the word for one or its name. It falls back to none, with a warning,
	// where no bridge can be made; for an ordinary user's containers every network that needs one means builtin. Empty is none: who uses this package has
	// nothing made on the host that was not asked for.
	Network string
	// Offline forbids to ask registries.
	Offline bool
	// Snapshotter is the way in which new containers get their root file systems, one of host.SnapshotterNames; empty is
	// the best that can be used.
	Snapshotter string
	// Waits, if set, is told when a registry keeps us waiting, of several requests at a time. It must not block.
	Waits func(registry.Wait)
	// NetworkBackend says who makes networks whose names do not say so, one of NetworkBackends; empty is builtin.
	NetworkBackend string
	// CNIConf is the directory of networks that plugins make, and CNIBin are those of plugins; empty are the usual places.
	CNIConf string
	CNIBin  []string
	// Monitor is the program that looks after detached containers. Empty looks for
	// containr-monitor in the same places.
	Monitor string
	// Command is containr with what makes it use these directories: the monitor executes
	// it. Empty is the running program with --root, if Root is set.
	Command []string
}

// Engine does the verbs. Its methods may be called by several goroutines.
type Engine struct {
	options   Options
	root, run string
	offline   bool

	facts       func() (*host.Facts, error)
	probed      sync.Once // of storageOf
	storageOf   host.Storage
	noStorage   error
	images      func() (*image.Store, error)
	snapshots   func() (*snapshot.Store, error)
	containers  func() (*container.Store, error)
	networks    func() (*networks.Store, error)
	volumes     func() (*volume.Store, error)
	secrets     func() (*secret.Store, error)
	configs     func() (*secret.Store, error)
	journal     *events.Journal
	hub         hub
	unanswering silentPlugins
}

// denied has the first engine be asked where files are not the user's own.
var denied sync.Once

// New returns an engine. Nothing is opened or made yet.
func New(o Options) *Engine {
	e := &Engine{options: o, root: o.Root, run: o.Run, offline: o.Offline}
	if e.run == "" {
		e.run = defaultRun(o.Root)
	}
	if e.root == "" {
		e.root = DefaultRoot()
	}
	e.journal = events.Open(e.root)
	e.facts = sync.OnceValues(probe)
	denied.Do(func() { safepath.Denied = e.removeAmong })
	e.images = store(e, func() (*image.Store, error) {
		return image.Open(filepath.Join(e.root, "content"))
	})
	e.snapshots = store(e, func() (*snapshot.Store, error) {
		facts, err := e.facts()
		if err != nil {
			return nil, err
		}
		o := snapshot.Options{Rootless: !facts.Root(), Among: !facts.Root() && os.Geteuid() == 0}
		if e.options.Snapshotter == host.ErofsSnapshotter { // new layers are images
			_, o.NoImages = e.chooseSnapshotter(e.root, !facts.Root())
			o.Driver = snapshot.Erofs
		}
		return snapshot.Open(filepath.Join(e.root, "snapshots"), o)
	})
	e.containers = store(e, func() (*container.Store, error) {
		if err := forgetFormerBoot(e.run); err != nil {
			return nil, err
		}
		return container.OpenStore(e.root, e.run)
	})
	e.networks = store(e, func() (*networks.Store, error) {
		return networks.Open(filepath.Join(e.root, "networks"))
	})
	e.volumes = store(e, func() (*volume.Store, error) {
		return volume.Open(filepath.Join(e.root, "volumes"))
	})
	e.secrets = store(e, func() (*secret.Store, error) {
		return secret.Open(filepath.Join(e.root, "secrets"), secret.Secrets)
	})
	e.configs = store(e, func() (*secret.Store, error) {
		return secret.Open(filepath.Join(e.root, "configs"), secret.Configs)
	})
	return e
}

// store opens a store below the root when it is first needed.
func store[T any](e *Engine, open func() (T, error)) func() (T, error) {
	return sync.OnceValues(func() (T, error) {
		if e.root == "" {
			var none T
			return none, ErrNoRoot
		}
		if err := checkOwner(e.root); err != nil {
			var none T
			return none, err
		}
		t, err := open()
		if err == nil {
			err = checkOwner(e.root) // somebody may have made it in the meantime
		}
		return t, err
	})
}

// checkOwner refuses a state root that another user can change, such as a directory in /tmp that he made before we did: what is
// in it says which programs run with which rights. One that is not there is fine.
func checkOwner(root string) error {
	info, err := os.Stat(root)
	if err != nil {
		return nil // whoever opens it says what is wrong
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("state root %s: it belongs to another user, who can change what is in it: %w", root, fs.ErrPermission)
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("state root %s: everybody may write it: %w", root, fs.ErrPermission)
	}
	return nil
}

// Root returns the directory for what outlives a boot.
func (e *Engine) Root() string { return e.root }

// ErrNoRoot is the answer to all that needs a directory where none is known: the user
// is not root and has no home. A directory in /tmp will not do: somebody else can make
// it first.
var ErrNoRoot = errors.New("no directory to keep images and containers in: neither HOME nor XDG_DATA_HOME is an absolute path")

// DefaultRoot is /var/lib/containr for root; for others the directory containr
// in $XDG_DATA_HOME or ~/.local/share. It is empty if there is no home either.
func DefaultRoot() string {
	if isRoot() {
		return "/var/lib/containr"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "containr")
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "containr")
	}
	return ""
}

func defaultRun(root string) string {
	switch dir := os.Getenv("XDG_RUNTIME_DIR"); {
	case root != "":
		return filepath.Join(root, "run")
	case isRoot():
		return "/run/containr"
	case filepath.IsAbs(dir):
		return filepath.Join(dir, "containr")
	}
	if dir := DefaultRoot(); dir != "" {
		return filepath.Join(dir, "run")
	}
	return ""
}

// InitProgram returns the path of the program of --init, "" if there is none.
func (e *Engine) InitProgram() string { return e.findInit() }

// findInit returns the path of the init program, "" if there is none.
func (e *Engine) findInit() string { return findProgram(e.options.Init, "containr-init") }

// findProgram returns the path of one of containr's other programs, "" if it is not there.
func findProgram(path, name string) string {
	candidates := []string{path}
	if path == "" {
		candidates = []string{"/usr/libexec/containr/" + name, "/usr/local/libexec/containr/" + name}
		if self, err := os.Executable(); err == nil {
			candidates = append([]string{filepath.Join(filepath.Dir(self), name)}, candidates...)
		}
	}
	for _, path := range candidates {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// MonitorProgram returns the path of the program that looks after containers in the background, "" if there is none.
func (e *Engine) MonitorProgram() string { return findProgram(e.options.Monitor, "containr-monitor") }

// monitor returns what talks to the monitor.
func (e *Engine) monitor() (*monitor.Client, error) {
	command, err := e.command()
	if err != nil {
		return nil, err
	}
	return &monitor.Client{Options: monitor.Options{Root: e.root, Run: e.run, Command: command},
		Program: e.MonitorProgram()}, nil
}

// command is containr, with what makes it use our directories.
func (e *Engine) command() ([]string, error) {
	if e.options.Command != nil {
		return e.options.Command, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if e.options.Root != "" {
		return []string{self, "--root", e.options.Root}, nil
	}
	return []string{self}, nil
}

// runtime returns the runtime that makes this engine's containers.
func (e *Engine) runtime() (*runtime.Runtime, error) {
	facts, err := e.facts()
	if err != nil {
		return nil, err
	}
	a := actions()
	if !facts.Root() {
		a = e.hubActions(a)
	}
	return &runtime.Runtime{Root: filepath.Join(e.run, "runtime"), Facts: facts, Actions: e.withSecrets(a), MapLayers: rootfs.MapLayers}, nil
}

// machine returns what containers can be given here.
func (e *Engine) machine() (container.Machine, error) {
	facts, err := e.facts()
	if err != nil {
		return container.Machine{}, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return container.Machine{}, fmt.Errorf("host name: %w", err)
	}
	m := container.MachineFrom(facts, hostname, goruntime.NumCPU())
	if apparmor.Usable(facts.AppArmor, facts.MayLoadProfiles()) == "" {
		m.AppArmorDefault = apparmor.Profile
	}
	m.NoLandlock = host.WhyNoLandlock()
	if m.NoCgroups && userManager(facts) {
		m.NoCgroups = false
	}
	return m, nil
}
