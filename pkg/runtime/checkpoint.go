package runtime

import (
	"errors"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/criu"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/network"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/security"
)

// Freezing a container and bringing it back are plans like any other, whose program is
// CRIU. To freeze, a process is made that becomes criu. To bring back, everything is
// made as for a new container up to where its own mounts begin, the process then becomes
// criu, and criu makes the container's processes as children of the runtime, in its
// control groups, and in its network namespace.

// criuOut is the register of the file that takes what criu says before it has its log.
const criuOut plan.Reg = "out"

// criuConfig is runc's annotation for a file with further options of criu. An empty value
// is none, also where defaultConfig is there.
const criuConfig = "org.criu.config"

// defaultConfig is the file with further options for all containers, which runc reads
// too.
const defaultConfig = "/etc/criu/runc.conf"

// CRIUPatience is how long criu may take unless told otherwise: longer than any memory
// takes that a disk is quick enough for.
const CRIUPatience = 10 * time.Minute

// criuFD is the first of the descriptors that criu gives to the container. They are
// above those that the child has.
const criuFD = 20

// checkCheckpoint refuses a container that cannot be frozen, or brought back.
func checkCheckpoint(spec *specs.Spec, f *host.Facts) error {
	if !f.Root() {
		return errors.New("only root can freeze containers and bring them back: CRIU reads and writes the memory of other processes")
	}
	if spec.Annotations[security.WritableAnnotation] != "" {
		return errors.New("a container with Landlock cannot be frozen: CRIU would bring its processes back without")
	}
	if err := criu.CheckNamespaces(spec); err != nil {
		return err
	}
	return criu.CheckMounts(spec)
}

// CheckpointInput is everything that the plan of freezing a container depends on.
type CheckpointInput struct {
	Spec  *specs.Spec
	Facts *host.Facts
	// Program is criu, and Dump its command line but for External.
	Program string
	Dump    criu.Dump
	// Path is where criu finds other programs.
	Path string
	// Mounts are those of the container, and On tells on which of them, by ID, each of
	// criu.Places is.
	Mounts []criu.Mount
	On     map[string]int
	// Inodes are the numbers of the container's namespaces.
	Inodes map[specs.LinuxNamespaceType]uint64
	// Descriptors are what the first three descriptors of the first process are.
	Descriptors []string
	// Output is a host file for what criu says before it has its log.
	Output string
}

// CompileCheckpoint makes the plan of freezing a container. It is pure.
func CompileCheckpoint(in CheckpointInput) (*plan.Plan, error) {
	if err := checkCheckpoint(in.Spec, in.Facts); err != nil {
		return nil, err
	}
	mounts, err := criu.DumpMounts(in.Spec, in.Mounts, in.On)
	if err != nil {
		return nil, err
	}
	d := in.Dump
	d.External = append(mounts, criu.DumpNamespaces(in.Spec, in.Inodes)...)
	d.External = append(d.External, criu.DumpDescriptors(in.Descriptors)...)
	b := plan.Build(plan.Host, plan.CRIUChapter)
	openOutput(b, in.Output)
	b.Do("a process is born that will be criu", linux.Clone{}).As(namespace.PID)
	b.By(plan.Child)
	redirectOutput(b)
	becomeCRIU(b, in.Program, in.Path, d.Args())
	return &plan.Plan{Steps: b.Steps}, nil
}

func openOutput(b *plan.Builder, path string) {
	b.Do("what criu says before it has its log", linux.OpenHost{Path: path, Flags: linux.OWronly | linux.OCreat | linux.OCloexec}).As(criuOut)
}

// redirectOutput keeps criu from writing to what are the container's descriptors.
func redirectOutput(b *plan.Builder) {
	const why = "what criu says itself does not go where the container writes to"
	b.Do(why, linux.Dup3{Old: linux.FD(criuOut), New: linux.FDNumber(1)})
	b.Do(why, linux.Dup3{Old: linux.FD(criuOut), New: linux.FDNumber(2)})
	b.Do(why, linux.Close{FD: linux.FD(criuOut)})
}

// becomeCRIU executes criu, which looks for other programs in path: tar, iptables.
func becomeCRIU(b *plan.Builder, program, path string, args []string) {
	for _, n := range inheritedSignals {
		b.Do("a signal that the caller ignores is not ignored here", linux.DefaultAction{Signal: n})
	}
	b.Do("all is ready but criu", linux.Write{FD: linux.FD(child.Sync), Data: child.MessageReady})
	b.Do("signals reach criu", linux.UnblockSignals{})
	b.Do("become criu", linux.Execve{Path: program, Args: args, Env: []string{"PATH=" + path}})
}

// RestoreInput is everything that the plan of bringing a container back depends on.
type RestoreInput struct {
	Input
	// Program is criu, and Restore its command line, but for what the configuration
	// says.
	Program string
	Restore criu.Restore
	// Path is where criu finds other programs.
	Path string
	// Points are the mount points of the host.
	Points []string
	// Descriptors are what the first three descriptors were.
	Descriptors []string
	// Output: see CheckpointInput.
	Output string
	// Unified is where this process is in a tree of version 2 beside version 1; empty
	// without one.
	Unified string
}

// CompileRestore makes the plan of bringing a container back. It is pure.
func CompileRestore(in RestoreInput) (*plan.Plan, error) {
	if err := checkSpec(in.Spec); err != nil {
		return nil, err
	}
	if err := checkCheckpoint(in.Spec, in.Facts); err != nil {
		return nil, err
	}
	c := restoreCompiler{compiler: compiler{Input: in.Input}, in: in}
	for _, chapter := range []func() error{
		c.limits,    // its control groups exist before anything runs
		c.class,     // its share of the cache
		c.outside,   // what is to be given to criu
		c.birthCRIU, // the process that will be criu, in the container's network
		c.unit,
		c.classify,
		c.network,
		c.root,        // the root file system, where criu looks for it
		c.createHooks, // others have a say, of the network above all
		c.attach,
		c.become,
	} {
		if err := chapter(); err != nil {
			return nil, err
		}
	}
	return &plan.Plan{Steps: c.steps}, nil
}

type restoreCompiler struct {
	compiler
	in RestoreInput
}

// outside opens the namespaces that criu gets as descriptors.
func (c *restoreCompiler) outside() error {
	ns, err := namespace.Plan(c.Spec, c.Facts)
	if err != nil {
		return err
	}
	// All others are criu's to make and to enter.
	c.ns = &namespace.Placement{New: ns.New & linux.CloneNewnet}
	if c.in.Restore.EmptyNetwork {
		c.ns.New = 0
	}
	b := plan.Build(plan.Host, plan.CRIUChapter)
	openOutput(b, c.in.Output)
	for i, ns := range criu.ExternalNamespaces(c.Spec) {
		if ns.Path != "" {
			b.Do("a namespace to share, which is not in the checkpoint", linux.OpenHost{Path: ns.Path, Flags: linux.OCloexec}).As(namespaceReg(i)).For("/linux/namespaces")
		}
	}
	c.add(b.Steps)
	return nil
}

func namespaceReg(i int) plan.Reg { return plan.Reg("ns_" + string(rune('0'+i))) }

func (c *restoreCompiler) birthCRIU() error {
	b := plan.Build(plan.Host, plan.NamespaceChapter)
	b.Do("a process is born that will be criu; its mounts, which end with it, are its own",
		linux.Clone{Flags: c.ns.New | linux.CloneNewns, Cgroup: c.cg.Into}).As(namespace.PID)
	c.add(b.Steps)
	return nil
}

func (c *restoreCompiler) network() error {
	if len(c.Spec.Linux.NetDevices) > 0 || c.ns.New&linux.CloneNewnet == 0 {
		return c.compiler.network()
	}
	c.add(network.Loopback())
	return nil
}

func (c *restoreCompiler) root() error {
	steps, err := rootfs.Restore(c.rootInput(), c.in.Restore.Root)
	c.add(steps)
	return err
}

// become plans what criu inherits, and criu.
func (c *restoreCompiler) become() error {
	r := c.in.Restore
	mounts, err := criu.RestoreMounts(c.Spec, c.in.Points)
	if err != nil {
		return err
	}
	r.External, r.Join = mounts, criu.JoinNamespaces(c.Spec)
	r.CgroupRoots = c.cgroupRoots()
	b := plan.Build(plan.Child, plan.CRIUChapter)
	const stdio = "a standard descriptor of the container's, for criu to hand over"
	for i := range c.in.Descriptors {
		b.Do(stdio, linux.Dup3{Old: linux.FDNumber(i), New: linux.FDNumber(criuFD + i)})
	}
	r.Inherit = criu.InheritDescriptors(c.in.Descriptors, criuFD)
	next := criuFD + len(c.in.Descriptors)
	for i, ns := range criu.ExternalNamespaces(c.Spec) {
		reg := namespaceReg(i)
		if ns.Path == "" {
			b.Do("the new namespace, for criu to hand over", linux.Openat{Dir: linux.CWD, Path: "/proc/self/ns/" + criu.NamespaceFile(ns.Type), Flags: linux.OCloexec}).As(reg)
		}
		b.Do("a namespace that is not in the checkpoint, for criu to hand over", linux.Dup3{Old: linux.FD(reg), New: linux.FDNumber(next)})
		b.Do("once is enough", linux.Close{FD: linux.FD(reg)})
		r.Inherit = append(r.Inherit, criu.InheritNamespace(ns.Type, next))
		next++
	}
	redirectOutput(b)
	b.Do("the host's session keys stay out of reach: a keyring is not in a checkpoint, but inherited", linux.JoinSessionKeyring{Keyring: "_ses." + c.ID}).Try()
	if c.Spec.Process.NoNewPrivileges {
		b.Do("no program gains privileges; CRIU before 4.2 forgets that the container wanted it so", linux.Prctl{Option: linux.PrSetNoNewPrivs, Arg2: 1}).For("/process/noNewPrivileges")
	}
	becomeCRIU(b, c.in.Program, c.in.Path, r.Args())
	c.add(b.Steps)
	return nil
}

// cgroupRoots are the container's control groups as criu names them: from where their
// trees are mounted. On version 1 each controller has its own, and a tree of version 2
// beside them, in which the container has no group, has no name.
func (c *restoreCompiler) cgroupRoots() []string {
	var list []string
	for _, h := range c.Facts.Hierarchies {
		for _, dir := range c.cg.Paths {
			path, ok := strings.CutPrefix(dir, h.Path)
			switch {
			case !ok || !strings.HasPrefix(path, "/"):
			case c.Facts.CgroupMode == host.CgroupV2:
				list = append(list, path)
			default:
				for _, controller := range h.Controllers {
					list = append(list, controller+":"+path)
				}
			}
		}
	}
	if c.in.Unified != "" && len(list) > 0 {
		list = append(list, ":"+c.in.Unified)
	}
	return list
}
