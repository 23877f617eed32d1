package linux

import (
	"strings"

	"github.com/containr/containr/pkg/plan"
)

// StartNetwork starts a program that carries a container's packets, in a session of its own, and
// waits until it says that it is ready. The program inherits a pipe to say so, or why not
// (descriptor 3), the pidfd of the process in PID (4), at whose end it ends, the lock Lock,
// which it holds until then (5), and if Tap is set the device's other end (6).
type StartNetwork struct {
	Program string
	Args    []string
	Lock    string
	PID     plan.Reg
	Tap     plan.Reg
}

// Name is the action.
func (StartNetwork) Name() string { return "start_network" }

// AppendArgs has what explain shows.
func (c StartNetwork) AppendArgs(dst []plan.Arg) []plan.Arg {
	dst = append(dst, plan.String(c.Program), plan.Strings(c.Args), plan.String(c.Lock), plan.Value(c.PID))
	if c.Tap != "" {
		dst = append(dst, plan.Value(c.Tap))
	}
	return dst
}

// Text is the action as a shell command.
func (c StartNetwork) Text() string {
	var b strings.Builder
	b.WriteString("flock " + quote(c.Lock) + " " + quote(c.Program))
	for _, a := range c.Args {
		b.WriteByte(' ')
		for i, part := range strings.Split(a, PIDWord) {
			if i > 0 {
				b.WriteString("$" + string(c.PID))
			}
			if part != "" || a == "" {
				b.WriteString(quote(part))
			}
		}
	}
	if c.Tap != "" {
		b.WriteString(" 6<>&$" + string(c.Tap))
	}
	return b.String() + " &"
}

// PIDWord in an argument of StartNetwork stands for the number of the container's process.
const PIDWord = "{pid}"

// EndNetwork waits until the program that holds Lock has ended, which it does when its container
// has, and removes the lock. One that does not end is killed.
type EndNetwork struct{ Lock string }

// Name is the action.
func (EndNetwork) Name() string { return "end_network" }

// AppendArgs has what explain shows.
func (c EndNetwork) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, plan.String(c.Lock)) }

// Text is the action as a shell command.
func (c EndNetwork) Text() string { return "flock " + quote(c.Lock) + " rm " + quote(c.Lock) }

// Entry is the action in a journal.
func (c EndNetwork) Entry() (action, operand string) { return c.Name(), c.Lock }

// CarryPort has the program that carries packets, which is asked at Socket, listen at a port of the host. Port is
// ADDRESS:PORT:CONTAINERPORT/PROTOCOL, and Owner says whose it is then. If somebody else has the port, the error is EADDRINUSE.
type CarryPort struct{ Socket, Port, Owner string }

// Name is the action.
func (CarryPort) Name() string { return "carry_port" }

// AppendArgs has what explain shows.
func (c CarryPort) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Socket), plan.String(c.Port), plan.String(c.Owner))
}

// Text is the action as a shell command.
func (c CarryPort) Text() string {
	return "echo publish " + quote(c.Port) + " " + quote(c.Owner) + " | nc -NU " + quote(c.Socket)
}

// DropPort takes CarryPort back. If nobody listens there, or somebody else does, it is no error.
type DropPort struct{ Socket, Port, Owner string }

// Name is the action.
func (DropPort) Name() string { return "drop_port" }

// AppendArgs has what explain shows.
func (c DropPort) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Socket), plan.String(c.Port), plan.String(c.Owner))
}

// Text is the action as a shell command.
func (c DropPort) Text() string {
	return "echo withdraw " + quote(c.Port) + " " + quote(c.Owner) + " | nc -NU " + quote(c.Socket)
}

// Entry is the action in a journal.
func (c DropPort) Entry() (action, operand string) {
	return c.Name(), c.Port + " " + c.Owner + " " + c.Socket
}

// DropPortFromEntry reads the operand of an Entry; ok is false if it is none.
func DropPortFromEntry(operand string) (c DropPort, ok bool) {
	port, rest, _ := strings.Cut(operand, " ")
	owner, socket, ok := strings.Cut(rest, " ")
	return DropPort{Socket: socket, Port: port, Owner: owner}, ok
}

// WriteWithin writes a file of procfs as somebody who is in the user's hub, see namespace.Hub: kernel parameters of the
// hub's network, and what belongs to processes whose user namespace lies in that of the hub. PIDWord in Path stands for the
// number of the process in PID, which may be empty.
type WriteWithin struct {
	Path, Data string
	PID        plan.Reg
}

// Name is the action.
func (WriteWithin) Name() string { return "write_within" }

// AppendArgs has what explain shows.
func (c WriteWithin) AppendArgs(dst []plan.Arg) []plan.Arg {
	dst = append(dst, plan.String(c.Path), plan.String(c.Data))
	if c.PID != "" {
		dst = append(dst, plan.Value(c.PID))
	}
	return dst
}

// Text is the action as a shell command.
func (c WriteWithin) Text() string {
	return "printf %s " + quote(c.Data) + " | nsenter --target $HUB --user --net -- tee " + strings.ReplaceAll(quote(c.Path), PIDWord, "$"+string(c.PID))
}
