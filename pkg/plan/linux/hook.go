package linux

import (
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/plan"
)

// RunHook runs a hook of the OCI configuration and waits for its end: a program that
// gets the container's state on its standard input ("POSIX-platform Hooks" in the
// specification's config.md). It fails unless the program exits with 0.
type RunHook struct {
	// Hook is the member of the configuration that it is in: "createRuntime".
	Hook string
	Path string
	// Args are all arguments, with the zeroth. Env is all of the environment.
	Args, Env []string
	// Timeout is how many seconds it may take, 0 for as many as it wants.
	Timeout int
	// Dir is its working directory; empty for the root of where it runs.
	Dir string
	// State is what it reads, as JSON, but for the process id: that is PID's, as the
	// hook sees it.
	State string
	PID   plan.Reg
	// Inside runs it in the container's namespaces.
	Inside bool
	// Stdout and Stderr are files of the host that its output is appended to.
	Stdout, Stderr string
}

func (RunHook) Name() string { return "hook" }

func (c RunHook) AppendArgs(dst []plan.Arg) []plan.Arg {
	dst = append(dst, plan.String(c.Hook), plan.String(c.Path), plan.Strings(c.Args), plan.Strings(c.Env),
		plan.Number(c.Timeout), plan.String(c.Dir), plan.String(c.State))
	inside := uint64(0)
	if c.Inside {
		inside = 1
	}
	if c.PID != "" {
		dst = append(dst, plan.Value(c.PID))
	}
	return append(dst, plan.Number(inside), plan.String(c.Stdout), plan.String(c.Stderr))
}

// Text is the action as a shell command.
func (c RunHook) Text() string {
	var b strings.Builder
	if c.Timeout > 0 {
		b.WriteString("timeout " + strconv.Itoa(c.Timeout) + " ")
	}
	if c.Inside {
		b.WriteString("nsenter --target $" + string(c.PID) + " --all -- ")
	}
	b.WriteString(quote(c.Path))
	for _, a := range c.Args[min(1, len(c.Args)):] {
		b.WriteString(" " + quote(a))
	}
	b.WriteString(" < state")
	if c.Stdout != "" {
		b.WriteString(" >> " + quote(c.Stdout))
	}
	if c.Stderr != "" {
		b.WriteString(" 2>> " + quote(c.Stderr))
	}
	return b.String()
}

// SendListener copies the listener of a seccomp filter out of the process that has
// loaded it, pidfd_getfd(2), and sends it to an agent, with the process's state
// ("The Container Process State" in the specification's config-linux.md).
type SendListener struct {
	PID plan.Reg
	// Listener is the descriptor's number in that process.
	Listener plan.Reg
	// Path is the agent's Unix stream socket on the host.
	Path string
	// State is what it is told, as JSON, but for the numbers of processes.
	State string
}

func (SendListener) Name() string { return "send_listener" }

func (c SendListener) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Value(c.PID), plan.Value(c.Listener), plan.String(c.Path), plan.String(c.State))
}

// Text is the action as one would say it.
func (c SendListener) Text() string {
	return "send $" + string(c.PID) + "'s descriptor $" + string(c.Listener) + " and the state to " + quote(c.Path)
}
