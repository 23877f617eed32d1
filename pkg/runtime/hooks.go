package runtime

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Hooks are programs that the configuration wants to be run at six moments of a
// container's life. They are steps of the host, since the host must wait for them,
// limit their time and tell what they said:
//
//	                 made by   when                               where     if it fails
//	prestart         create    the tree is complete, not the root host      nothing is left
//	createRuntime    create    after those                        host      nothing is left
//	createContainer  create    after those                        container nothing is left
//	startContainer   start     the program is all that is left    container it is stopped
//	poststart        start     the program runs                   host      it is stopped
//	poststop         delete    nothing of the container is left   host      a warning
//
// A hook in the container's namespaces is started like a process of exec; see
// compileHook. A createContainer hook is a program of the host, with the host's
// rights, since it comes before the change of root. A startContainer hook is a
// program of the image: it gets what the container's program gets, and no more.

// stage is a moment for hooks.
type stage struct {
	// name is the member of /hooks, why the reason of its steps.
	name, why string
	// status is what the state says that hooks of the stage read.
	status specs.ContainerState
	inside bool
	list   func(*specs.Hooks) []specs.Hook
}

var (
	prestart = stage{"prestart", "what others set up for a container that has its namespaces", specs.StateCreated, false,
		//lint:ignore SA1019 callers still send them
		func(h *specs.Hooks) []specs.Hook { return h.Prestart }}
	createRuntime = stage{"createRuntime", "what others set up for a container that has its namespaces and mounts", specs.StateCreating, false,
		func(h *specs.Hooks) []specs.Hook { return h.CreateRuntime }}
	createContainer = stage{"createContainer", "what others set up from inside, while the host's files can be seen", specs.StateCreating, true,
		func(h *specs.Hooks) []specs.Hook { return h.CreateContainer }}
	startContainer = stage{"startContainer", "what the container's own programs set up before the program", specs.StateCreated, true,
		func(h *specs.Hooks) []specs.Hook { return h.StartContainer }}
	poststart = stage{"poststart", "the program runs: others are told", specs.StateRunning, false,
		func(h *specs.Hooks) []specs.Hook { return h.Poststart }}
	poststop = stage{"poststop", "the container is gone: others clean up", specs.StateStopped, false,
		func(h *specs.Hooks) []specs.Hook { return h.Poststop }}

	stages = [...]*stage{&prestart, &createRuntime, &createContainer, &startContainer, &poststart, &poststop}
)

// HookNames lists the stages, as the configuration calls them, in their order.
func HookNames() []string {
	var names []string
	for _, s := range stages {
		names = append(names, s.name)
	}
	return names
}

// Annotations lists the annotations of a configuration that have an effect.
func Annotations() []string { return []string{hooksStdout, hooksStderr, keepGroups, criuConfig} }

// The verbs that make steps after create.
const (
	verbStart  = "start"
	verbDelete = "delete"
)

// The annotations that name files for the hooks' output; they are crun's.
const (
	hooksStdout = "run.oci.hooks.stdout"
	hooksStderr = "run.oci.hooks.stderr"
)

// maxTimeout is the longest time for a hook, in seconds: more milliseconds than poll(2)
// can wait would be no limit.
const maxTimeout = (1<<31 - 1) / 1000

// checkHooks refuses hooks that cannot be run.
func checkHooks(h *specs.Hooks) error {
	if h == nil {
		return nil
	}
	for _, s := range stages {
		for i, hook := range s.list(h) {
			pointer := s.pointer(i)
			switch {
			case !strings.HasPrefix(hook.Path, "/"):
				return fmt.Errorf("%s/path: %q is not an absolute path", pointer, hook.Path)
			case hook.Timeout != nil && *hook.Timeout <= 0:
				return fmt.Errorf("%s/timeout: %d seconds; it has to be more than 0", pointer, *hook.Timeout)
			case hook.Timeout != nil && *hook.Timeout > maxTimeout:
				return fmt.Errorf("%s/timeout: %d seconds are more than %d", pointer, *hook.Timeout, maxTimeout)
			}
			for _, e := range hook.Env {
				if strings.IndexByte(e, '=') <= 0 {
					return fmt.Errorf("%s/env: %q is not NAME=VALUE", pointer, e)
				}
			}
		}
	}
	return nil
}

func (s *stage) pointer(i int) string { return "/hooks/" + s.name + "/" + strconv.Itoa(i) }

// hasHooks reports whether a container has hooks that come after its creation.
func hasHooks(spec *specs.Spec) bool {
	h := spec.Hooks
	return h != nil && len(h.StartContainer)+len(h.Poststart)+len(h.Poststop) > 0
}

// createHooks plans those of the creation. They count on the control groups.
func (c *compiler) createHooks() error {
	var steps []plan.Step
	for _, s := range [...]stage{prestart, createRuntime, createContainer} {
		steps = append(steps, c.hooks(s, "")...)
	}
	if len(steps) == 0 {
		return nil
	}
	err := c.attach()
	c.add(steps)
	return err
}

// laterHooks plans those that come when the program runs.
func (c *compiler) laterHooks() error {
	c.add(c.hooks(poststart, verbStart))
	c.add(c.hooks(poststop, verbDelete))
	return nil
}

// hooks plans the hooks of a stage; verb makes them, if create does not.
func (c *compiler) hooks(s stage, verb string) []plan.Step {
	if c.Spec.Hooks == nil {
		return nil
	}
	b := plan.Build(plan.Host, plan.HookChapter)
	for i, hook := range s.list(c.Spec.Hooks) {
		b.Do(s.why, c.hook(s, &hook)).At(verb).For(s.pointer(i))
	}
	return b.Steps
}

func (c *compiler) hook(s stage, h *specs.Hook) linux.RunHook {
	call := linux.RunHook{Hook: s.name, Path: h.Path, Args: h.Args, Env: h.Env, Inside: s.inside, State: c.state(s.status),
		Stdout: c.Spec.Annotations[hooksStdout], Stderr: c.Spec.Annotations[hooksStderr]}
	if len(call.Args) == 0 {
		call.Args = []string{h.Path}
	}
	if h.Timeout != nil {
		call.Timeout = *h.Timeout
	}
	if !s.inside {
		call.Dir = c.Bundle
	}
	if s.status != specs.StateStopped {
		call.PID = namespace.PID
	}
	return call
}

// hookIn is the hook that a step runs, if it does.
func hookIn(s *plan.Step) (linux.RunHook, bool) {
	h, ok := s.Call.(linux.RunHook)
	return h, ok
}

// state is the OCI state of the container, without a process id.
func (c *compiler) state(status specs.ContainerState) string {
	text, err := quickjson.Append(nil, &specs.State{Version: specs.Version, ID: c.ID, Status: status, Bundle: c.Bundle, Annotations: c.Spec.Annotations})
	if err != nil {
		panic(fmt.Sprintf("a state cannot be written: %v", err)) // it consists of strings
	}
	return string(text)
}

// hookInput is what the plan of a hook in a container's namespaces depends on.
type hookInput struct {
	ExecInput
	Hook linux.RunHook
}

// compileHook makes the plan of a hook in the namespaces of a container whose first
// process is Target. The process is started as those of exec are: a runner enters the
// process id namespace, and the hook is born inside.
func compileHook(in hookInput) (*plan.Plan, error) {
	spec := *in.Spec
	process := *spec.Process
	process.Terminal, process.OOMScoreAdj, process.ExecCPUAffinity = false, nil, nil
	spec.Process, spec.Hooks = &process, nil
	in.Spec = &spec
	c := hookCompiler{execCompiler: execCompiler{compiler: compiler{Input: Input{ID: in.ID, Spec: &spec, Facts: in.Facts, Bundle: in.Bundle, Filter: in.Filter}, first: in.Target}, in: in.ExecInput}, hook: in.Hook}
	c.ns = new(namespace.Placement)
	c.in.Process = &process
	chapters := []func() error{c.open, c.runner, c.moveItself, c.join, c.attachExec, c.asHost, c.execute, c.runnerDone}
	switch in.Hook.Hook {
	case startContainer.name:
		chapters = []func() error{c.open, c.runner, c.moveItself, c.join, c.attachExec, c.enterExec, c.privileges, c.execute, c.runnerDone}
	case createContainer.name:
		c.asCaller = true
	default:
		return nil, errors.New("hook " + in.Hook.Hook + ": it does not belong into the container's namespaces")
	}
	for _, chapter := range chapters {
		if err := chapter(); err != nil {
			return nil, err
		}
	}
	return &plan.Plan{Steps: c.steps}, nil
}

type hookCompiler struct {
	execCompiler
	hook linux.RunHook
}

// asHost leaves the hook the host's privileges, and its files.
func (c *hookCompiler) asHost() error {
	b := plan.Build(plan.Child, plan.HookChapter)
	b.Do("no other descriptor stays open", linux.CloseRange{First: 4})
	b.Do("a place that is there in every tree", linux.Chdir{Path: "/"})
	b.Do("the usual mask for new files", linux.Umask{Mask: 0o22})
	for _, n := range inheritedSignals {
		b.Do("a signal that the caller ignores is not ignored here", linux.DefaultAction{Signal: n})
	}
	b.Do("all is ready but the hook", linux.Write{FD: linux.FD(child.Sync), Data: child.MessageReady})
	c.add(b.Steps)
	return nil
}

func (c *hookCompiler) execute() error {
	b := plan.Build(plan.Child, plan.HookChapter)
	b.Do("signals reach the hook", linux.UnblockSignals{})
	b.Do("become the hook", linux.Execve{Path: c.hook.Path, Args: c.hook.Args, Env: c.hook.Env})
	c.add(b.Steps)
	return nil
}
