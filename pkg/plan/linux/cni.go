package linux

import "github.com/containr/containr/pkg/plan"

// The host's actions that have plugins connect a container with networks, by the Container
// Network Interface. Package pkg/network/cni makes them.

// PinNamespace gives the network namespace of the process in PID a name in the file system, which
// it has until UnpinNamespace: also when the process has ended.
type PinNamespace struct {
	PID  plan.Reg
	Path string
}

func (PinNamespace) Name() string { return "pin_namespace" }

func (c PinNamespace) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Value(c.PID), plan.String(c.Path))
}

// Text is the action as shell commands.
func (c PinNamespace) Text() string {
	return "touch " + quote(c.Path) + " && mount --bind /proc/$" + string(c.PID) + "/ns/net " + quote(c.Path)
}

// UnpinNamespace takes that name away, once nobody is connected by it any more. One that is gone is no error.
type UnpinNamespace struct{ Path string }

func (UnpinNamespace) Name() string { return "unpin_namespace" }

func (c UnpinNamespace) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Path))
}

// Text is the action as shell commands.
func (c UnpinNamespace) Text() string { return "umount " + quote(c.Path) + " && rm " + quote(c.Path) }

// Entry is the action in a journal.
func (c UnpinNamespace) Entry() (action, operand string) { return c.Name(), c.Path }

// CNI has the plugins of a network connect a container, one after the other. Command is how a shell
// calls them, Attachment is all that they are told, as pkg/network/cni writes it.
type CNI struct{ Command, Attachment string }

func (CNI) Name() string { return "cni_add" }

func (c CNI) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Command), plan.String(c.Attachment))
}

// Text is the action as shell commands.
func (c CNI) Text() string { return c.Command }

// CNIDelete has the same plugins disconnect it, in reverse. Who is not connected, or only in half, is
// no error.
type CNIDelete struct{ Command, Attachment string }

func (CNIDelete) Name() string { return "cni_del" }

func (c CNIDelete) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Command), plan.String(c.Attachment))
}

// Text is the action as shell commands.
func (c CNIDelete) Text() string { return c.Command }

// Entry is the action in a journal.
func (c CNIDelete) Entry() (action, operand string) { return c.Name(), c.Attachment }
