package runtime

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/seccomp"
)

// A policy may leave calls to somebody else's decision (SCMP_ACT_NOTIFY). Loading such
// a filter gives the process a descriptor, the listener, on which the calls are heard
// and answered (seccomp_unotify(2)). It must not stay with the process that it judges:
// the child tells the host the descriptor's number, and the host takes a copy with
// pidfd_getfd(2), Linux 5.6, and sends it to the agent that listens at listenerPath.
// The child's own is closed when it executes the program.
//
// From its filter on, the child makes the calls of the talk under it, and the agent
// hears them; all but write(2), without which it could not be told of the agent.

// listener is the register of that descriptor: its number in the child.
const listener plan.Reg = "listener"

// filter plans the loading of the system call filter; listens says that it has a
// listener.
func (c *compiler) filter() (steps []plan.Step, listens bool, err error) {
	if len(c.Filter) > 0 {
		return c.Filter, false, nil
	}
	policy := c.Spec.Linux.Seccomp
	if err := checkListener(policy, c.Facts); err != nil {
		return nil, false, err
	}
	steps, err = seccomp.Plan(policy, c.Facts.Arch)
	if err != nil || len(steps) == 0 {
		return nil, false, err
	}
	load := &steps[len(steps)-1]
	if load.Call.(linux.Seccomp).Flags&linux.SeccompNewListener == 0 {
		return steps, false, nil
	}
	if policy.ListenerPath == "" {
		return nil, false, errors.New("/linux/seccomp/listenerPath is missing: SCMP_ACT_NOTIFY needs somebody to be notified")
	}
	load.As(listener)
	b := plan.Build(plan.Child, plan.SeccompChapter)
	b.Add(steps)
	b.Do("the host learns where the listener is", linux.WriteReg{FD: linux.FD(child.Sync), Value: listener, Size: child.NumberSize})
	b.By(plan.Host).Do("the agent decides on the calls that the filter leaves to it", c.sendListener(policy)).For("/linux/seccomp/listenerPath")
	return b.Steps, true, nil
}

func checkListener(p *specs.LinuxSeccomp, f *host.Facts) error {
	if p == nil {
		return nil
	}
	switch {
	case p.ListenerMetadata != "" && p.ListenerPath == "":
		return errors.New("/linux/seccomp/listenerMetadata: there is no listenerPath to send it to")
	case p.ListenerPath != "" && !strings.HasPrefix(p.ListenerPath, "/"):
		return fmt.Errorf("/linux/seccomp/listenerPath: %q is not an absolute path", p.ListenerPath)
	case slices.Contains(p.Flags, specs.LinuxSeccompFlagWaitKillableRecv) && !f.Kernel.AtLeast(5, 19):
		return errors.New("/linux/seccomp/flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs Linux 5.19")
	}
	for i := range p.Syscalls {
		if s := &p.Syscalls[i]; s.Action == specs.ActNotify && slices.Contains(s.Names, "write") {
			return fmt.Errorf("/linux/seccomp/syscalls/%d: write cannot be left to an agent: it is needed to tell of the agent's listener", i)
		}
	}
	return nil
}

// sendListener tells the agent about the container and, in it, about this process.
func (c *compiler) sendListener(p *specs.LinuxSeccomp) linux.SendListener {
	state := specs.State{Version: specs.Version, ID: c.ID, Status: specs.StateCreating, Bundle: c.Bundle, Annotations: c.Spec.Annotations}
	if c.first != 0 {
		state.Status, state.Pid = specs.StateRunning, c.first
	}
	text, err := quickjson.Append(nil, &specs.ContainerProcessState{Version: specs.Version, Fds: []string{specs.SeccompFdName},
		Metadata: p.ListenerMetadata, State: state})
	if err != nil {
		panic(fmt.Sprintf("a state cannot be written: %v", err)) // it consists of strings
	}
	return linux.SendListener{PID: namespace.PID, Listener: listener, Path: p.ListenerPath, State: string(text)}
}
