package runtime

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/network"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/security"
)

// Input is everything that a plan depends on.
type Input struct {
	ID    string
	Spec  *specs.Spec
	Facts *host.Facts
	// Bundle is the host directory of the bundle, absolute. Hooks are told of it.
	Bundle string
	// Root is the host directory of the root file system, absolute.
	Root string
	// Sources tells what the sources of binds are; see Probe.
	Sources map[string]host.Source
	// RootMount: see rootfs.Input.
	RootMount linux.MountFlags
	// Network are the host's steps that connect the container with others, planned by
	// whoever asks for it; they are made when its process is born.
	Network []plan.Step
	// Place plans the namespaces in the place of namespace.Plan, for an ordinary user's container that is born in a hub:
	// it is namespace.Hub.Plan then, and needs an ExitFile. Nil for all others.
	Place func(*specs.Spec, *host.Facts) (*namespace.Placement, error)
	// Links are the host's network devices that the configuration names; see
	// ProbeLinks.
	Links map[string]host.Link
	// Callers are namespaces that are named by a path which is that of the caller's own.
	Callers []specs.LinuxNamespaceType
	// Resctrl is what the class of service of /linux/intelRdt was found to be.
	Resctrl host.Resctrl
	// ExitFile is the host file that a keeper writes the exit status to; empty
	// for a container without a keeper.
	ExitFile string
	// Hold has the keeper hold what StartOptions.Held has, and stay when the container
	// has ended: what the container wrote is kept until somebody has taken it. It needs
	// an ExitFile.
	Hold bool
	// StateFile is the host file, absolute, that is there from before the program is
	// executed until the container has been deleted. A keeper with Hold that does not find
	// it in the end holds nothing: the making was cut off, and nobody knows of it. Empty for
	// one that holds in any case.
	StateFile string
	// StartFifo makes the container wait, before it executes the program, until
	// somebody writes to this fifo of the host.
	StartFifo string
	// PreserveFDs is how many descriptors after the first three the program
	// inherits.
	PreserveFDs int
	// NoPivot and MapLayers: see rootfs.Input.
	NoPivot   bool
	MapLayers func(rootfs.Input) (rootfs.Layers, error)
	// NoKeyring leaves the session keyring alone.
	NoKeyring bool
	// Systemd asks systemd for the control group; Facts.Manager says where it has its
	// own.
	Systemd bool
	// Rootless skips control groups, for users who may not make any.
	Rootless bool
	// Filter loads the system call filter, if it was compiled before: Spec has no policy then. See filterStore.
	Filter []plan.Step
}

// bornNumber is the register of what a keeper learns the number by of a process that is born late.
const bornNumber plan.Reg = "number"

// start is the register of the fifo that a created container waits on.
const start plan.Reg = "start"

// held and ear are the registers of what a keeper holds, and bell is what it writes to
// when the exit status is in its file, see Held.
const (
	held plan.Reg = "held"
	ear  plan.Reg = "ear"
	bell plan.Reg = "bell"
)

// Compile turns a configuration into the plan of a new container. It is pure: the
// same input gives the same plan.
func Compile(in Input) (*plan.Plan, error) {
	if err := checkSpec(in.Spec); err != nil {
		return nil, err
	}
	if err := rootfs.CheckShared(in.Spec, in.Facts, in.Root); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c := compiler{Input: in, steps: make([]plan.Step, 0, typicalSteps)}
	return c.compile()
}

type compiler struct {
	Input
	cg *cgroup.Placement
	// setup is where the steps of its Setup begin.
	setup    int
	ns       *namespace.Placement
	layers   rootfs.Layers
	steps    []plan.Step
	attached bool
	// classDir is the directory of the class of service, empty for none.
	classDir string
	// first is the container's first process, if this is about a further one.
	first int
}

// typicalSteps is how many steps a container with the usual mounts has.
const typicalSteps = 320

// compile is the table of contents of a container.
func (c *compiler) compile() (*plan.Plan, error) {
	for _, chapter := range []func() error{
		c.shared,     // the root, if the host's mounts are the container's
		c.limits,     // its control groups exist before anything runs
		c.class,      // its share of the cache
		c.namespaces, // what is to be joined
		c.mapped,     // mounts that only the host can make
		c.birth,      // the process, in its new namespaces
		c.identity,   // ids get their meaning; a session of its own
		c.unit,       // systemd is asked for its control group now that there is a process to put there
		c.classify,   // into its class of service, if it has one
		c.network,
		c.rootfs,      // the tree, complete but not yet the root
		c.terminal,    // needs the tree's devpts
		c.kernel,      // kernel parameters and what else needs the host's privileges
		c.createHooks, // others have a say while host and tree can both be seen
		c.join,        // version 1 of control groups, while the host's files can be seen
		c.enter,       // the tree becomes the root; nothing of the host is open any more
		c.attach,      // the last moment: from here on everything counts
		c.privileges,
		c.program,
		c.watch,      // the keeper
		c.laterHooks, // what start and delete will do
	} {
		if err := chapter(); err != nil {
			return nil, err
		}
	}
	c.overlap()
	return &plan.Plan{Steps: c.steps}, nil
}

// add is a call, not a copy of its body in every chapter: see plan.Builder.
//
//go:noinline
func (c *compiler) add(steps []plan.Step) { c.steps = append(c.steps, steps...) }

func hasNamespace(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	if s.Linux == nil {
		return false
	}
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == kind {
			return true
		}
	}
	return false
}

func (c *compiler) shared() error {
	c.add(rootfs.Shared(c.Spec, c.Root))
	return nil
}

func (c *compiler) limits() error {
	c.cg = new(cgroup.Placement)
	if c.Rootless {
		return nil
	}
	plan := cgroup.Plan
	if c.Systemd {
		plan = cgroup.PlanUnit
	}
	cg, err := plan(c.Spec, c.Facts, c.ID)
	if err != nil {
		return err
	}
	c.cg, c.setup = cg, len(c.steps)
	c.add(cg.Setup)
	return nil
}

func (c *compiler) namespaces() error {
	ns, err := c.place()
	if err != nil {
		return err
	}
	c.ns = ns
	b := plan.Build(plan.Host, plan.KeeperChapter)
	if c.ExitFile != "" {
		b.Do("where the exit status will be found", linux.OpenHost{Path: c.ExitFile, Flags: linux.OWronly | linux.OCreat | linux.OCloexec}).As("exitfile")
	}
	if c.StartFifo != "" {
		b.In(plan.ProgramChapter).Do("the container will wait for a byte here", linux.OpenHost{Path: c.StartFifo, Flags: linux.ORdwr | linux.OCloexec}).As(start)
	}
	c.add(b.Steps)
	c.add(ns.Open)
	if c.late() {
		c.add(rootfs.Contexts(c.Spec.Mounts))
	}
	return nil
}

func (c *compiler) place() (*namespace.Placement, error) {
	if c.Place != nil {
		return c.Place(c.Spec, c.Facts)
	}
	return namespace.Plan(c.Spec, c.Facts)
}

// birth plans the clone. On version 1 of control groups, and where systemd makes them,
// the cgroup namespace is left for later: its root is the group that the process is in when it is made.
func (c *compiler) birth() error {
	call := linux.Clone{Flags: c.ns.New &^ c.lateCgroupNamespace(), Cgroup: c.cg.Into}
	keeper := c.ExitFile != ""
	if !keeper && len(c.ns.Before)+len(c.layers.Keeper) == 0 {
		b := plan.Build(plan.Host, plan.NamespaceChapter)
		b.Do("the container's first process is born, in its own namespaces", call).As(namespace.PID).For("/linux/namespaces")
		c.add(b.Steps)
		return nil
	}
	b := plan.Build(plan.Keeper, plan.KeeperChapter)
	if keeper {
		b.Do("the keeper outlives the terminal that it was started from", linux.Setsid{})
		if c.Hold && !c.Facts.Root() {
			b.Do("processes of the same user may take what it holds", linux.Prctl{Option: linux.PrSetPtracer, Arg2: ^uint64(0)}).Try()
		}
	} else {
		call.Flags |= linux.CloneParent
	}
	b.Add(c.layers.Keeper)
	b.Add(c.ns.Before)
	b.Add(c.written(bornBefore[:], plan.Keeper))
	b.In(plan.NamespaceChapter).Do("the container's first process is born, in its own namespaces", call).As(namespace.PID).For("/linux/namespaces")
	b.In(plan.KeeperChapter).Do("the host learns its process id", linux.WriteReg{FD: linux.FD(child.Sync), Value: namespace.PID})
	b.Do("the rest of the talk is between host and container", linux.Close{FD: linux.FD(child.Sync)})
	b.Add(c.layers.Handed)
	if keeper && call.Cgroup != "" {
		b.Do("the keeper holds nothing of the container's", linux.Close{FD: linux.FD(call.Cgroup)})
	}
	if keeper && c.StartFifo != "" {
		b.Do("nobody but the container waits for its start", linux.Close{FD: linux.FD(start)})
	}
	c.add(b.Steps)
	return nil
}

func (c *compiler) lateCgroupNamespace() linux.CloneFlags {
	if c.cg.Into == "" && len(c.cg.Attach)+len(c.cg.Join)+len(c.cg.Enter) > 0 {
		return c.ns.New & linux.CloneNewcgroup
	}
	return 0
}

func (c *compiler) identity() error {
	c.add(c.layers.Born)
	c.add(c.ns.Map)
	c.add(c.ns.Join)
	b := plan.Build(plan.Child, plan.NamespaceChapter)
	if !c.NoKeyring {
		if c.Spec.Process.SelinuxLabel != "" {
			hostProc(b)
			b.Add(security.KeyLabel(c.security()))
		}
		b.Do("the host's session keys stay out of reach", linux.JoinSessionKeyring{Keyring: "_ses." + c.ID}).Try()
	}
	b.Do("a session of its own, without the host's terminal", linux.Setsid{}).Ok(plan.EPERM)
	c.add(b.Steps)
	return nil
}

// unit plans what enters a control group of systemd's. Mounts show the root of the
// cgroup namespace, so on version 2 that is made here, before them.
func (c *compiler) unit() error {
	c.add(c.cg.Enter)
	if len(c.cg.Enter) > 0 && len(c.cg.Attach) == 0 {
		c.cgroupNamespace()
	}
	return nil
}

func (c *compiler) network() error {
	if devices := c.Spec.Linux.NetDevices; len(devices) > 0 {
		if !hasNamespace(c.Spec, specs.NetworkNamespace) {
			return errors.New("/linux/netDevices: the container has no network namespace to move them to")
		}
		steps, err := network.Devices(devices, c.Links, namespace.PID)
		if err != nil {
			return err
		}
		c.add(steps)
	}
	c.add(c.Network)
	if c.ns.New&linux.CloneNewnet != 0 {
		c.add(network.Loopback())
	}
	return nil
}

func (c *compiler) rootInput() rootfs.Input {
	in := rootfs.Input{Spec: c.Spec, Facts: c.Facts, Root: c.Root, RootMount: c.RootMount, Sources: c.Sources, NoPivot: c.NoPivot, MapLayers: c.MapLayers}
	in.UserNS, in.Contexts = hasNamespace(c.Spec, specs.UserNamespace) || c.Facts.Inner, c.late()
	for _, p := range c.cg.Paths {
		in.Cgroups = append(in.Cgroups, cgroupMount(c.Facts, p))
	}
	return in
}

// cgroupMount tells which hierarchy a control group's directory belongs to.
func cgroupMount(f *host.Facts, path string) rootfs.CgroupMount {
	m := rootfs.CgroupMount{Path: path}
	if f.CgroupMode != host.CgroupV1 {
		return m
	}
	for _, h := range f.Hierarchies {
		if rest, ok := strings.CutPrefix(path, h.Path); ok && strings.HasPrefix(rest, "/") {
			m.Name = h.Path[strings.LastIndexByte(h.Path, '/')+1:]
			m.Controllers = h.Controllers
		}
	}
	return m
}

func (c *compiler) mapped() error {
	in := c.rootInput()
	if in.MapLayers != nil {
		layers, err := in.MapLayers(in)
		if err != nil {
			return err
		}
		c.layers = layers
		c.add(layers.Host)
	}
	steps, err := rootfs.Before(in)
	c.add(steps)
	return err
}

func (c *compiler) rootfs() error {
	steps, err := rootfs.Plan(c.rootInput())
	c.add(steps)
	return err
}

func (c *compiler) terminal() error {
	if c.Spec.Process.Terminal {
		c.add(rootfs.Terminal(c.rootInput()))
	}
	return nil
}

// keepGroups is crun's annotation for containers that keep the supplementary groups of
// their maker, in the place of additionalGids: an ordinary user may set none, but has
// some that open files. Every value but "0" counts.
const keepGroups = "run.oci.keep_original_groups"

func (c *compiler) security() security.Input {
	keep, ok := c.Spec.Annotations[keepGroups]
	return security.Input{Process: c.Spec.Process, Facts: c.Facts, NoSetgroups: c.ns.NoSetgroups || c.Facts.NoSetgroups || ok && keep != "0",
		UserNS: hasNamespace(c.Spec, specs.UserNamespace) || c.Facts.Inner, Writable: c.Spec.Annotations[security.WritableAnnotation]}
}

func (c *compiler) enter() error {
	c.add(rootfs.Enter(c.rootInput()))
	keep := 3 + c.PreserveFDs + 1
	if c.StartFifo != "" {
		keep++
	}
	b := plan.Build(plan.Child, plan.RootfsChapter)
	if c.late() && c.ExitFile != "" {
		const why = "but for what the keeper learns a number by" // dup3 refuses to copy to the same number: so it is another one first
		b.Do(why, linux.DupFD{FD: linux.FD(bornNumber), Least: keep + 1}).As(bornNumber)
		b.Do(why, linux.Dup3{Old: linux.FD(bornNumber), New: linux.FDNumber(keep)}).As(bornNumber)
		keep++
	}
	b.Do("nothing of the host stays open: really closed, before any path is walked", linux.CloseRange{First: keep})
	makeWorkdir(b, c.Spec.Process.Cwd)
	if c.ns.New&linux.CloneNewpid == 0 {
		b.Do("processes that are not the container's see this one: they may not look into it", linux.Prctl{Option: linux.PrSetDumpable})
	}
	b.In(plan.NamespaceChapter)
	if c.Spec.Hostname != "" {
		b.Do("its own host name", linux.Sethostname{Hostname: c.Spec.Hostname}).For("/hostname")
	}
	if c.Spec.Domainname != "" {
		b.Do("its own domain name", linux.Setdomainname{Domain: c.Spec.Domainname}).For("/domainname")
	}
	c.add(b.Steps)
	return nil
}

// openWorkdir looks a working directory up. The process still has all its privileges
// here, so links of procfs would lead it to where the program could not go by itself:
// through a descriptor (CVE-2024-21626), or, where it sees processes of others, to
// their root and working directories. They are not followed.
func openWorkdir(path string) linux.Openat2 {
	return linux.Openat2{Dir: linux.CWD, Path: path, Flags: linux.OPath | linux.ODirectory | linux.OCloexec, Resolve: linux.ResolveNoMagiclinks}
}

// makeWorkdir plans the change to the working directory, which is made if it is not
// there.
func makeWorkdir(b *plan.Builder, cwd string) {
	const pointer, missing = "/process/cwd", "the working directory is not in the image: made"
	b.Do("the program's working directory", openWorkdir(cwd)).As("cwd").Ok(plan.ENOENT).For(pointer)
	parent, path := linux.CWD, ""
	for name := range strings.SplitSeq(cwd, "/") {
		if name == "" {
			continue
		}
		path += "/" + name
		b.Do(missing, linux.Mkdirat{Dir: parent, Path: name, Mode: 0o755}).Else().Ok(plan.EEXIST).For(pointer)
		b.Do(missing, openWorkdir(path)).Else().As("cwd").For(pointer)
		parent = "cwd"
	}
	changeToWorkdir(b, pointer)
}

func changeToWorkdir(b *plan.Builder, pointer string) {
	b.Do("the program starts there", linux.Fchdir{FD: "cwd"}).For(pointer)
	b.Do("only the program's own place of it is kept", linux.Close{FD: "cwd"}).For(pointer)
	b.Do("a directory that is deleted already is no place to start in: the kernel says ENOENT", linux.Getcwd{}).Ok(plan.ERANGE).For(pointer)
}

// join is attach where the child moves into its groups itself.
func (c *compiler) join() error {
	if len(c.cg.Join) == 0 {
		return nil
	}
	return c.attach()
}

// attach plans the limits and the entering of control groups of version 1. The kernel
// may need milliseconds if the host moves the child, which it does while the child makes
// its mounts; here the child waits for it. Hooks that the runtime runs before count on
// it, so with them it comes earlier.
func (c *compiler) attach() error {
	if c.attached {
		return nil
	}
	c.attached = true
	c.add(c.cg.Attach)
	c.add(c.cg.Join)
	if len(c.cg.Attach)+len(c.cg.Join) > 0 {
		c.cgroupNamespace()
	}
	return nil
}

// cgroupNamespace plans the namespace that could not be made at birth.
func (c *compiler) cgroupNamespace() {
	if late := c.lateCgroupNamespace(); late != 0 {
		b := plan.Build(plan.Child, plan.NamespaceChapter)
		b.Do("its own control group looks like the root to it", linux.Unshare{Flags: late}).For("/linux/namespaces")
		c.add(b.Steps)
	}
}

// inheritedSignals are those that a Go program leaves ignored when it was started so:
// HUP and INT, those of job control, and two that C libraries keep for themselves.
// CLONE_CLEAR_SIGHAND resets handlers, not what is ignored.
var inheritedSignals = [...]int{1, 2, 18, 20, 21, 22, 32, 33}

func (c *compiler) privileges() error {
	c.add(c.written(bornLate[:], plan.Child))
	b := plan.Build(plan.Child, plan.ProgramChapter)
	umask := uint32(0o22)
	if u := c.Spec.Process.User.Umask; u != nil {
		umask = *u
	}
	b.Do("the usual mask for new files", linux.Umask{Mask: umask}).For("/process/user/umask")
	for _, n := range inheritedSignals {
		b.Do("a signal that the caller ignores is not ignored here", linux.DefaultAction{Signal: n})
	}
	if err := c.scheduling(b); err != nil {
		return err
	}
	filter, listens, err := c.filter()
	if err != nil {
		return err
	}
	in := c.security()
	in.Listens = listens
	steps, err := security.Plan(in, c.ready(), filter)
	if err != nil {
		return err
	}
	c.add(b.Steps)
	c.add(steps)
	return nil
}

// ready tells the host that only the program is left. A created container has
// checked by then that there is a program, so that create fails if there is none,
// and waits.
func (c *compiler) ready() []plan.Step {
	b := plan.Build(plan.Child, plan.ProgramChapter)
	if c.StartFifo == "" {
		b.Add(c.hooks(startContainer, ""))
		b.Do("all is ready but the program", linux.Write{FD: linux.FD(child.Sync), Data: child.MessageReady})
		return b.Steps
	}
	b.Add(findProgram(c.Spec.Process, true))
	b.Do("all is ready but the program", linux.Write{FD: linux.FD(child.Sync), Data: child.MessageReady})
	b.Add(c.hooks(startContainer, verbStart))
	b.Do("created: wait for the start", linux.Read{FD: linux.FD(start), Size: 1}).OrGone()
	return b.Steps
}

func (c *compiler) program() error {
	b := plan.Build(plan.Child, plan.ProgramChapter)
	b.Do("signals reach the program", linux.UnblockSignals{})
	c.add(b.Steps)
	c.add(findProgram(c.Spec.Process, false))
	return nil
}

// watch plans what the container's parent does while it runs.
func (c *compiler) watch() error {
	b := plan.Build(plan.Keeper, plan.KeeperChapter)
	switch {
	case c.ExitFile != "":
		b.Add(c.written(bornAfter[:], plan.Keeper))
		wait := linux.Wait4{Status: "status"} // also for threads that it makes us trace, without whose end its own is not told
		if c.ns.New&linux.CloneNewpid == 0 {
			wait.PID = namespace.PID // which can make us parent of others here, clone(2), CLONE_PARENT
		}
		b.Do("wait for its end: then there is nobody any more to wait for", wait).As("ended").Ok(plan.ECHILD)
		b.Do("who only stopped, since it has asked to be traced by its parent, goes on", linux.PtraceDetach{PID: "ended"}).Again().Try()
		if c.Hold && c.StateFile != "" && !c.keeperMoves() {
			b.Do("does anybody know the container? Who made it may have been killed before its program ran", linux.Faccessat{Dir: linux.CWD, Path: c.StateFile, Mode: linux.FOK}).Ok(plan.ENOENT)
			b.Do("nobody does: then nobody will ask how it ended", linux.ExitGroup{}).Else()
		}
		b.Do("leave the exit status where anyone can find it", linux.WriteReg{FD: "exitfile", Value: "status"})
		if c.Hold {
			b.Do("tell everybody who waits for it", linux.WriteReg{FD: linux.FD(bell), Value: "status"})
			b.Do("what the container wrote last is kept until somebody has taken it, and ends the keeper", linux.Ppoll{FD: held})
		}
		b.Do("done", linux.ExitGroup{})
	case len(c.ns.Before) > 0:
		b.Do("the container is born, its runner is done", linux.ExitGroup{})
	}
	c.add(b.Steps)
	return nil
}

// keeperMoves reports whether the keeper shares another mount namespace, where the names of
// the host's files mean nothing.
func (c *compiler) keeperMoves() bool {
	for _, s := range c.ns.Before {
		if j, ok := s.Call.(linux.Setns); ok && j.Flags == linux.CloneNewns {
			return true
		}
	}
	return false
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	for i := 1; i < len(keys); i++ {
		for j := i; j > 0 && keys[j] < keys[j-1]; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

// Where programs are looked for when the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// findProgram plans the execution of a program, or, with check, only the search
// for it. A name without a slash is searched in the directories of PATH; each is
// asked for the file before it is executed, so that an error of execve is about
// the program and not about the search.
func findProgram(p *specs.Process, check bool) []plan.Step {
	b := plan.Build(plan.Child, plan.ProgramChapter)
	name := p.Args[0]
	run := func(path string) linux.Execve { return linux.Execve{Path: path, Args: p.Args, Env: p.Env} }
	const pointer = "/process/args/0"
	if strings.Contains(name, "/") {
		b.Do("the program has to be there, and executable", linux.Faccessat{Dir: linux.CWD, Path: name, Mode: linux.XOK}).For(pointer)
		if check {
			// Everybody may "execute" a directory, which means to search it. The kernel says what callers know.
			b.Do("is it a directory?", linux.Openat{Dir: linux.CWD, Path: name, Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).
				Ok(plan.ENOTDIR).For(pointer)
			b.Do("a directory is no program", run(name)).Then().For(pointer)
		} else {
			b.Do("become the program", run(name)).For(pointer)
		}
		return b.Steps
	}
	dirs := searchPath(p.Env)
	if check {
		return append(b.Steps, checkProgram(dirs, name)...)
	}
	for _, dir := range dirs {
		b.Do("is it in this directory of PATH?", linux.Faccessat{Dir: linux.CWD, Path: dir + "/" + name, Mode: linux.XOK}).Try().For(pointer)
		b.Do("become the program", run(dir+"/"+name)).Then().For(pointer)
	}
	b.Do("executable "+strconv.Quote(name)+" is in none of the directories of PATH",
		linux.Faccessat{Dir: linux.CWD, Path: dirs[len(dirs)-1] + "/" + name, Mode: linux.XOK}).For(pointer)
	b.Do("become the program", run(dirs[len(dirs)-1]+"/"+name)).For(pointer)
	return b.Steps
}

// checkProgram plans a search that fails when no directory has the program. Plans
// cannot count, so every hit leaves its descriptor in one register, and at the end
// that register must hold one.
func checkProgram(dirs []string, name string) []plan.Step {
	b := plan.Build(plan.Child, plan.ProgramChapter)
	for _, dir := range dirs {
		path := dir + "/" + name
		b.Do("is the program in this directory of PATH?", linux.Faccessat{Dir: linux.CWD, Path: path, Mode: linux.XOK}).Try().For("/process/args/0")
		b.Do("it is: remember", linux.Openat{Dir: linux.CWD, Path: path, Flags: linux.OPath | linux.OCloexec}).Then().As("program").For("/process/args/0")
	}
	b.Do("executable "+strconv.Quote(name)+" is in none of the directories of PATH",
		linux.Faccessat{Dir: "program", Path: name, Mode: linux.XOK}).Ok(plan.ENOTDIR).For("/process/args/0")
	return b.Steps
}

func searchPath(env []string) []string {
	path := defaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok && v != "" {
			path = v
		}
	}
	var dirs []string
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		dirs = append(dirs, strings.TrimSuffix(dir, "/"))
	}
	return dirs
}
