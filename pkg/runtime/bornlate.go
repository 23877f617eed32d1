package runtime

import (
	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// A container that shares the processes of another one is prepared by a process that is not among them. Its own is born
// there at the last moment, as a sibling of that one, which ends: the programs there may have CAP_SYS_PTRACE, and reach
// through a process whatever it reaches. See package namespace.
//
// What names the container's process before, hooks among it, names the one that prepares it.

// late reports whether the container's process is born late.
func (c *compiler) late() bool { return c.ns.Processes != "" }

// written is a step as data, since a call of Builder.Do is 400 bytes of program.
type written struct {
	why  string
	call plan.Call
	as   plan.Reg
	when plan.When
	// try and gone are TolerateAny and ZeroFails.
	try, gone bool
	// only is what the container has to have.
	only uint8
}

const (
	aKeeper uint8 = 1 + iota
	aTerminal
)

// written are the steps of a table that the container needs, for one that is born late.
func (c *compiler) written(table []written, actor plan.Actor) (steps []plan.Step) {
	if !c.late() {
		return nil
	}
	for i := range table {
		w := &table[i]
		if w.only == aKeeper && c.ExitFile == "" || w.only == aTerminal && !c.Spec.Process.Terminal {
			continue
		}
		steps = append(steps, w.step(actor))
	}
	return steps
}

func (w *written) step(actor plan.Actor) plan.Step {
	return plan.Step{Actor: actor, Chapter: plan.NamespaceChapter, Why: w.why, Call: w.call, Result: w.as, When: w.when, TolerateAny: w.try, ZeroFails: w.gone}
}

const born plan.Reg = "born"

// bornBefore is the keeper's part before the container is prepared, and bornAfter when it is.
var bornBefore = [...]written{
	{why: "the keeper will learn the number of who is born late", call: linux.Eventfd{Nonblock: true}, as: bornNumber, only: aKeeper},
}

var bornAfter = [...]written{
	{why: "who prepares the container ends when its process is born", call: linux.Wait4{PID: namespace.PID, Status: "status"}},
	{why: "that is the one to wait for", call: linux.ReadReg{FD: linux.FD(bornNumber), Value: namespace.PID}},
}

// bornLate is that birth. A new process is in nobody's session but its parent's, and in that it could not have the terminal.
var bornLate = [...]written{
	{why: "the container's first process is born among those that it shares: it has the container's root and nothing of the host's",
		call: linux.Clone{Flags: linux.CloneParent}, as: born},
	{why: "its parent tells the host which process goes on", call: linux.WriteReg{FD: linux.FD(child.Sync), Value: born, Size: child.InsideSize}, when: plan.Else},
	{why: "and the keeper", call: linux.WriteReg{FD: linux.FD(bornNumber), Value: born}, when: plan.Else, only: aKeeper},
	{why: "and is done", call: linux.ExitGroup{}, when: plan.Else},
	{why: "the host knows this process now", call: linux.Read{FD: linux.FD(child.Sync), Size: 1}, gone: true},
	{why: "its keeper does as well", call: linux.Close{FD: linux.FD(bornNumber)}, only: aKeeper},
	{why: "a session of its own", call: linux.Setsid{}},
	{why: "the terminal is that session's", call: linux.Ioctl{FD: "0", Request: linux.Tiocsctty}, only: aTerminal},
}
