package runtime

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/security"
)

// ExecInput is everything that the plan of a further process depends on.
type ExecInput struct {
	ID string
	// Target is the process id of the container's first process.
	Target int
	// TargetStart is when it was started; see linux.OpenPidfd.
	TargetStart uint64
	// Spec is the container's configuration, and Process the new process.
	Spec    *specs.Spec
	Process *specs.Process
	Facts   *host.Facts
	// Cgroups are the container's control group directories.
	Cgroups []string
	// Tasks are the files of the container's class of service that list processes.
	Tasks       []string
	PreserveFDs int
	// Bundle is the container's.
	Bundle string
	// Root is the host directory of the container's root file system, absolute. A
	// container without a mount namespace needs it.
	Root string
	// Filter: see Input.
	Filter []plan.Step
}

// target is the register of the pidfd whose namespaces are joined.
const target = "target"

// CompileExec makes the plan of a process that joins a running container. A runner
// enters the process id namespace first and clones the process into it; only the
// runner, which is data and an interpreter, is ever visible inside, never containr.
func CompileExec(in ExecInput) (*plan.Plan, error) {
	if in.Process == nil || len(in.Process.Args) == 0 || in.Process.Args[0] == "" {
		return nil, errors.New("exec: there is no program to run")
	}
	if !strings.HasPrefix(in.Process.Cwd, "/") {
		return nil, errors.New("exec: the working directory is not an absolute path")
	}
	if err := checkLengths(in.Process); err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	spec := *in.Spec
	spec.Process, spec.Hooks = inherited(in.Process, in.Spec.Process), nil
	c := execCompiler{compiler: compiler{Input: Input{ID: in.ID, Spec: &spec, Facts: in.Facts, Bundle: in.Bundle, PreserveFDs: in.PreserveFDs, Filter: in.Filter}, first: in.Target}, in: in}
	c.ns = new(namespace.Placement)
	if hasNamespace(in.Spec, specs.UserNamespace) {
		c.ns.NoSetgroups = namespace.NoSetgroups(in.Spec.Linux.GIDMappings, in.Facts)
	}
	for _, chapter := range []func() error{c.open, c.runner, c.moveItself, c.join, c.attachExec, c.settle, c.changeRoot, c.terminalExec, c.enterExec, c.privileges, c.program, c.runnerDone} {
		if err := chapter(); err != nil {
			return nil, err
		}
	}
	return &plan.Plan{Steps: c.steps}, nil
}

// inherited gives a further process what it has of the container's own, unless it asks
// for something else.
func inherited(process, own *specs.Process) *specs.Process {
	p := *process
	if own == nil {
		return &p
	}
	if p.OOMScoreAdj == nil {
		p.OOMScoreAdj = own.OOMScoreAdj
	}
	if p.ExecCPUAffinity == nil {
		p.ExecCPUAffinity = own.ExecCPUAffinity
	}
	return &p
}

type execCompiler struct {
	compiler
	in ExecInput
	// asCaller leaves the process what the security modules let the caller do.
	asCaller bool
}

// flags are the namespaces that the container does not share with the host.
func (c *execCompiler) flags() linux.CloneFlags {
	var flags linux.CloneFlags
	for _, ns := range c.Spec.Linux.Namespaces {
		flags |= namespace.Flag(ns.Type)
	}
	return flags
}

func (c *execCompiler) open() error {
	b := plan.Build(plan.Host, plan.NamespaceChapter)
	b.Do("the container's first process stands for its namespaces", linux.OpenPidfd{PID: c.in.Target, Start: c.in.TargetStart}).As(target)
	if c.bornIntoGroup() && !c.Facts.Root() {
		b.In(plan.CgroupChapter).Do("the container's limits hold for the new process", linux.OpenHost{
			Path: c.in.Cgroups[0], Flags: linux.ODirectory | linux.OPath | linux.OCloexec}).As("cgroup")
	}
	if !hasNamespace(c.Spec, specs.MountNamespace) {
		if !strings.HasPrefix(c.in.Root, "/") {
			return fmt.Errorf("exec: the container's root %q is not an absolute path", c.in.Root)
		}
		b.In(plan.RootfsChapter).Do("the container's root, which is in no mount namespace that could be joined", linux.OpenHost{
			Path: c.in.Root, Flags: linux.ODirectory | linux.OPath | linux.OCloexec}).As("root").For("/linux/namespaces")
	}
	c.add(b.Steps)
	return nil
}

// early are the namespaces that the runner joins before the new process is born. An ordinary user's is the one of users,
// without which he has no privileges.
//
// Where the container shares the host's users, its programs may have CAP_SYS_PTRACE over the new process as soon as they
// see it. So the runner joins all that it can: what is born has no file of the host's in sight, neither as its root nor
// through a descriptor, but those that moveItself writes to: they list the container's own groups, and lead nowhere. The control groups' namespace is left to the process itself: the kernel lets nobody be born into a
// group outside of his own.
func (c *execCompiler) early() linux.CloneFlags {
	switch all := c.flags(); {
	case !c.Facts.Root():
		return all & (linux.CloneNewpid | linux.CloneNewuser)
	case all&linux.CloneNewuser != 0:
		return all & linux.CloneNewpid
	default:
		return all &^ linux.CloneNewcgroup
	}
}

func (c *execCompiler) runner() error {
	b := plan.Build(plan.Keeper, plan.NamespaceChapter)
	if err := c.bequeath(b); err != nil {
		return err
	}
	b.Do("nobody inside may look into this process", linux.Prctl{Option: linux.PrSetDumpable})
	if flags := c.early(); flags != 0 {
		b.Do("children are born among the container's processes", linux.Setns{FD: target, Flags: flags})
	}
	call := linux.Clone{Flags: linux.CloneParent}
	if c.bornIntoGroup() {
		call.Cgroup = "cgroup"
	}
	b.Do("the new process is born", call).As(namespace.PID)
	b.Do("the host learns its process id", linux.WriteReg{FD: linux.FD(child.Sync), Value: namespace.PID})
	c.add(b.Steps)
	return nil
}

// bequeath plans what the runner has only to pass it on to the new process, as long as
// it sees the host's files and is in none of the container's control groups.
func (c *execCompiler) bequeath(b *plan.Builder) error {
	if score := c.Spec.Process.OOMScoreAdj; score != nil {
		if err := security.CheckScore(*score); err != nil {
			return err
		}
		const why, pointer = "whom the kernel kills first when memory runs out", "/process/oomScoreAdj"
		b.Do(why, linux.Openat{Dir: linux.CWD, Path: "/proc/self/oom_score_adj", Flags: linux.OWronly | linux.OCloexec}).As("score").For(pointer)
		b.Do(why, linux.Write{FD: "score", Data: strconv.Itoa(*score)}).For(pointer)
	}
	initial, _, err := c.affinity()
	if initial != nil {
		b.Do("the processors to begin on", *initial).For("/process/execCPUAffinity/initial")
	}
	if err != nil {
		return err
	}
	if c.movesItself() {
		b.Steps = append(b.Steps, cgroup.OpenV1(plan.Keeper, c.in.Cgroups)...)
	}
	if c.bornIntoGroup() && c.Facts.Root() {
		// A mount of its own, from which nothing leads up to the host's.
		b.In(plan.CgroupChapter).Do("the container's limits hold for the new process", linux.OpenTree{
			Dir: linux.CWD, Path: c.in.Cgroups[0], Flags: linux.OpenTreeClone | linux.OpenTreeCloexec}).As("cgroup")
		b.In(plan.NamespaceChapter)
	}
	return c.labels(b)
}

// bornIntoGroup reports whether the process is born into the container's group, of version 2.
func (c *execCompiler) bornIntoGroup() bool {
	return c.Facts.CgroupMode == host.CgroupV2 && len(c.in.Cgroups) > 0
}

// settle plans what has to wait for the control groups.
func (c *execCompiler) settle() error {
	b := plan.Build(plan.Child, plan.PrivilegeChapter)
	_, final, err := c.affinity()
	if final != nil {
		b.Do("the processors to run on", *final).For("/process/execCPUAffinity/final")
	}
	c.add(b.Steps)
	return err
}

// labels plans the security modules' part, among the host's mounts, where nothing of the container's can be in the way. A
// process inherits what its parent has told them of its next execve.
func (c *execCompiler) labels(b *plan.Builder) error {
	if c.asCaller {
		return nil
	}
	in := security.Input{Process: c.Spec.Process, Facts: c.Facts}
	steps, err := security.Labels(in)
	if err != nil || len(steps) == 0 {
		return err
	}
	const why = "the host's procfs, to tell the kernel through"
	b.Do(why, linux.Openat{Dir: linux.CWD, Path: "/proc", Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).As(security.Proc)
	for _, s := range slices.Concat(security.KeyLabel(in), steps) {
		s.Actor = plan.Keeper
		b.Steps = append(b.Steps, s)
	}
	b.Do(why, linux.Close{FD: linux.FD(security.Proc)})
	return nil
}

func (c *execCompiler) join() error {
	b := plan.Build(plan.Child, plan.NamespaceChapter)
	flags := c.flags()
	if rest := flags &^ c.early(); rest != 0 {
		b.Do("the container's other namespaces are joined at once", linux.Setns{FD: target, Flags: rest})
	}
	if flags&linux.CloneNewuser != 0 && !namespace.WithoutRoot(c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings, c.Facts) {
		b.Do("group 0 of the container", linux.Setresgid{})
		b.Do("user 0 of the container", linux.Setresuid{})
	}
	b.Do("the host's session keys stay out of reach", linux.JoinSessionKeyring{Keyring: "_ses." + c.ID}).Try()
	b.Do("a session of its own", linux.Setsid{}).Ok(plan.EPERM)
	c.add(b.Steps)
	return nil
}

// movesItself reports whether the process moves into the container's groups of version 1 by itself: one that is moved by
// another may have to wait for a grace period of RCU, some ten milliseconds on a machine that has little to do (see
// pkg/cgroup/v1.go).
func (c *execCompiler) movesItself() bool {
	return c.Facts.CgroupMode == host.CgroupV1 && c.Facts.Root()
}

// moveItself has the process write to the groups' files, which its runner has opened while it saw the host's.
func (c *execCompiler) moveItself() error {
	if c.movesItself() {
		c.add(cgroup.MoveV1(c.in.Cgroups))
	}
	return nil
}

// attachExec moves the process to where it could not move by itself: into its class of service,
// and into the container's groups of version 1.
func (c *execCompiler) attachExec() error {
	c.add(joinClass(c.in.Tasks))
	if c.Facts.CgroupMode != host.CgroupV1 || c.movesItself() {
		return nil
	}
	b := plan.Build(plan.Host, plan.CgroupChapter)
	for _, dir := range c.in.Cgroups {
		b.Do("the container's limits hold for the new process", linux.Attach{Path: dir + "/cgroup.procs", PID: namespace.PID}).Early()
	}
	c.add(b.Steps)
	return nil
}

// changeRoot confines the process as the container's first one is, where joining a mount
// namespace does not do it.
func (c *execCompiler) changeRoot() error {
	if hasNamespace(c.Spec, specs.MountNamespace) {
		return nil
	}
	b := plan.Build(plan.Child, plan.RootfsChapter)
	b.Do("the container's root is the working directory", linux.Fchdir{FD: "root"})
	b.Do("the root of this process alone: the mounts are the host's", linux.Chroot{Path: "."}).For("/linux/namespaces")
	c.add(b.Steps)
	return nil
}

func (c *execCompiler) terminalExec() error {
	if !c.Spec.Process.Terminal {
		return nil
	}
	b := plan.Build(plan.Child, plan.TerminalChapter)
	b.Do("the container's root", linux.Openat{Dir: linux.CWD, Path: "/", Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).As("root")
	c.add(b.Steps)
	c.add(rootfs.Terminal(rootfs.Input{Spec: c.Spec, Facts: c.Facts, Joined: true}))
	return nil
}

func (c *execCompiler) enterExec() error {
	b := plan.Build(plan.Child, plan.RootfsChapter)
	b.Do("nothing of the host stays open: really closed, before any path is walked", linux.CloseRange{First: 3 + c.PreserveFDs + 1})
	b.Do("the working directory", openWorkdir(c.Spec.Process.Cwd)).As("cwd").For("/cwd")
	changeToWorkdir(b, "/cwd")
	c.add(b.Steps)
	limits, err := security.Limits(security.Input{Process: withoutScore(c.Spec.Process), Facts: c.Facts})
	c.add(limits)
	return err
}

// withoutScore leaves the out-of-memory score as the runner has bequeathed it: a
// further process has no procfs of its own to write it through.
func withoutScore(p *specs.Process) *specs.Process {
	q := *p
	q.OOMScoreAdj = nil
	return &q
}

func (c *execCompiler) runnerDone() error {
	b := plan.Build(plan.Keeper, plan.NamespaceChapter)
	b.Do("the new process is born, its runner is done", linux.ExitGroup{})
	c.add(b.Steps)
	return nil
}
