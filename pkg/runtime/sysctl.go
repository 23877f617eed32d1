package runtime

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/security"
)

// kernel plans what is written through a procfs of the child's own.
func (c *compiler) kernel() error {
	limits, err := security.Limits(c.security())
	if err != nil {
		return err
	}
	labels, err := security.Labels(c.security())
	if err != nil {
		return err
	}
	if len(c.Spec.Linux.Sysctl) > 0 || c.Spec.Process.OOMScoreAdj != nil || len(labels) > 0 {
		b := plan.Build(plan.Child, plan.PrivilegeChapter)
		c.ownProc(b)
		for _, key := range sortedKeys(c.Spec.Linux.Sysctl) {
			if err := c.checkSysctl(key); err != nil {
				return err
			}
			c.sysctl(b, key, c.Spec.Linux.Sysctl[key])
		}
		c.add(b.Steps)
	}
	c.add(limits)
	c.add(labels)
	return nil
}

// ownProc opens the procfs that is written to. A user namespace cannot have a new one
// for processes that it does not own; there it is the host's, which lies at /proc yet.
func (c *compiler) ownProc(b *plan.Builder) {
	if hasNamespace(c.Spec, specs.UserNamespace) && (c.late() || !hasNamespace(c.Spec, specs.PIDNamespace)) {
		hostProc(b)
		return
	}
	const why = "a procfs that nobody else can see, to write to the kernel through"
	b.Do(why, linux.Fsopen{Type: "proc"}).As("fs")
	b.Do(why, linux.Fsconfig{FS: "fs", Command: linux.FsconfigCreate})
	b.Do(why, linux.Fsmount{FS: "fs", Attrs: linux.AttrNosuid | linux.AttrNodev | linux.AttrNoexec}).As(security.Proc)
}

// hostProc takes the host's procfs for it, where the process still sees the host's
// mounts or a copy of them.
func hostProc(b *plan.Builder) {
	b.Do("the host's procfs, before anything of the image is in its place, to write to the kernel through",
		linux.OpenTree{Dir: linux.CWD, Path: "/proc", Flags: linux.OpenTreeClone | linux.OpenTreeCloexec | linux.AtRecursive}).As(security.Proc)
}

// namespaced are the kernel parameters that belong to a namespace, by name or, where
// they end in a point, by its beginning. All others are the host's.
var namespaced = []struct {
	kind  specs.LinuxNamespaceType
	names []string
}{
	{specs.NetworkNamespace, []string{"net."}},
	{specs.IPCNamespace, []string{"fs.mqueue.", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"}},
	{specs.UTSNamespace, []string{"kernel.domainname"}},
}

// checkSysctl refuses a kernel parameter that is not the container's own.
func (c *compiler) checkSysctl(key string) error {
	dotted := strings.ReplaceAll(key, "/", ".")
	for _, n := range namespaced {
		for _, name := range n.names {
			if dotted != name && !(strings.HasSuffix(name, ".") && strings.HasPrefix(dotted, name)) {
				continue
			}
			if !hasNamespace(c.Spec, n.kind) {
				return fmt.Errorf("/linux/sysctl/%s: it would be changed for the host: the container has no %s namespace of its own", key, n.kind)
			}
			if slices.Contains(c.Callers, n.kind) {
				return fmt.Errorf("/linux/sysctl/%s: it would be changed for the host: the %s namespace that the container joins is that of its caller", key, n.kind)
			}
			return nil
		}
	}
	return fmt.Errorf("/linux/sysctl/%s: it belongs to the host, not to a namespace", key)
}

func (c *compiler) sysctl(b *plan.Builder, key, value string) {
	why, pointer := "a kernel parameter of the container's namespaces", "/linux/sysctl/"+key
	b.Do(why, linux.Openat2{Dir: linux.FD(security.Proc), Path: "sys/" + strings.ReplaceAll(key, ".", "/"), Flags: linux.OWronly | linux.OCloexec,
		Resolve: linux.ResolveBeneath | linux.ResolveNoXdev | linux.ResolveNoMagiclinks}).As("sysctl").For(pointer)
	b.Do(why, linux.Write{FD: "sysctl", Data: value}).For(pointer)
}
