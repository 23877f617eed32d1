package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/snapshot"
)

// DebugTarget is where a debugging container shows the files of the other one.
const DebugTarget = "/target"

// DebugRequest asks for a program with tools around it, beside a container that may have none.
type DebugRequest struct {
	// Container is its name, its id or the beginning of its id.
	Container string
	// Image is where the tools come from; empty is the built-in image.
	Image string
	// Args are what runs; none is a shell.
	Args []string
	// Env is added to the container's environment: KEY=VALUE.
	Env []string
	// User is user[:group] of the tools' image; empty is root.
	User    string
	WorkDir string
	// Write allows changes of the container's files.
	Write       bool
	Privileged  bool
	TTY         bool
	Interactive bool
	Streams
}

// ErrCannotWrite means that files of a container that does not run cannot be changed.
var ErrCannotWrite = errors.New("its files can be changed only while it runs")

// Debug runs a program from an image with tools beside a container: with the processes,
// the network, the shared memory, the host name and the users of the container if that runs,
// and with its files at DebugTarget, read-only unless asked otherwise. The container itself
// is left as it is: the program is in a container of its own, with its own control
// group, which goes away when it ends.
//
// A container that does not run has only files to show. It cannot be started meanwhile.
func (e *Engine) Debug(ctx context.Context, r DebugRequest) (Exit, error) {
	target, err := e.Get(ctx, r.Container)
	if err != nil {
		return Exit{}, err
	}
	st, err := e.State(target)
	if err != nil {
		return Exit{}, err
	}
	run := RunRequest{Config: debugConfig(r, target), Streams: r.Streams}
	if st.PID != 0 {
		shareAll(&run.Config, target)
		options := []string{"rro", "rnosuid", "rprivate"}
		if r.Write {
			options = options[1:]
		}
		run.joined = true
		run.mounts = []specs.Mount{container.TreeOf(target.ID, "", DebugTarget, options...)}
		return e.Run(ctx, run)
	}
	if r.Write {
		return Exit{}, fmt.Errorf("container %s: %w", target.Name, ErrCannotWrite)
	}
	attended, err := e.whenIdle(ctx, target)
	if errors.Is(err, ErrRunning) {
		return e.Debug(ctx, r) // it has just been started
	}
	if err != nil {
		return Exit{}, err
	}
	return e.debugStopped(ctx, run, target, attended)
}

// debugStopped shows the files of a container that does not run and whose lock is held.
func (e *Engine) debugStopped(ctx context.Context, run RunRequest, target container.Record, attended *durable.Lock) (exit Exit, err error) {
	defer func() { err = errors.Join(err, attended.Release()) }()
	m, err := stoppedMount(target)
	if err != nil {
		return Exit{}, fmt.Errorf("container %s: %w", target.Name, err)
	}
	run.Config.Namespaces.Network = container.NetworkNone // it is about files
	run.Config.UIDMap, run.Config.GIDMap = target.Config.UIDMap, target.Config.GIDMap
	run.mounts = []specs.Mount{m}
	return e.Run(ctx, run)
}

// debugConfig is the container that the tools run in.
func debugConfig(r DebugRequest, target container.Record) container.Config {
	c := container.Config{
		Image: r.Image, Args: r.Args, User: r.User, WorkDir: r.WorkDir, TTY: r.TTY, Interactive: r.Interactive, Privileged: r.Privileged,
		AutoRemove: true,
		Labels:     map[string]string{"containr.debug": target.ID},
		CapAdd:     []string{"CAP_SYS_PTRACE"}, // to look into processes that have more capabilities than these
	}
	if c.Image == "" {
		c.Image = baseimage.Name
	}
	if len(c.Args) == 0 {
		c.Args = []string{"sh"}
	}
	if c.WorkDir == "" {
		c.WorkDir = DebugTarget
	}
	if target.Spec != nil && target.Spec.Process != nil {
		c.Env = slices.DeleteFunc(slices.Clone(target.Spec.Process.Env), isOurs)
	}
	c.Env = append(c.Env, r.Env...)
	return c
}

// isOurs reports whether a variable is about where the tools are rather than about the container.
func isOurs(v string) bool {
	key, _, _ := strings.Cut(v, "=")
	return slices.Contains([]string{"PATH", "HOME", "TERM", "HOSTNAME", "SHLVL", "PWD", "LD_PRELOAD", "LD_LIBRARY_PATH"}, key)
}

// shareAll makes all namespaces those of a container that runs, but for its mounts and its
// view of control groups: the tools have their own.
func shareAll(c *container.Config, target container.Record) {
	theirs := target.Config.Namespaces
	for _, pair := range []struct {
		word  *string
		their string
	}{
		{&c.Namespaces.User, theirs.User}, {&c.Namespaces.PID, theirs.PID}, {&c.Namespaces.Network, theirs.Network},
		{&c.Namespaces.IPC, theirs.IPC}, {&c.Namespaces.UTS, theirs.UTS},
	} {
		*pair.word = container.Join(target.ID)
		if _, joined := container.Joined(pair.their); joined || pair.their == container.HostNamespace {
			*pair.word = pair.their
		}
	}
	if c.Namespaces.User != container.HostNamespace {
		c.UIDMap, c.GIDMap = slices.Clone(target.Config.UIDMap), slices.Clone(target.Config.GIDMap)
	}
}

// stoppedMount shows the files of a container that does not run: its layer and those of
// its image, none of which can be written to through this mount.
func stoppedMount(target container.Record) (specs.Mount, error) {
	if target.Spec == nil || target.Spec.Root == nil {
		return specs.Mount{}, errors.New("its specification is not there")
	}
	bind := specs.Mount{Destination: DebugTarget, Type: "bind", Source: target.Spec.Root.Path, Options: []string{"bind", "ro", "nosuid", "nodev"}}
	if len(target.Spec.Mounts) == 0 || target.Spec.Mounts[0].Destination != "/" {
		return bind, nil
	}
	root := target.Spec.Mounts[0]
	if root.Type == snapshot.FuseType {
		return specs.Mount{}, errors.New("its files are stacked by a program that runs only while it does: start it first")
	}
	if root.Type != "overlay" {
		bind.Source = root.Source
		return bind, nil
	}
	upper, options := "", []string{"ro", "nosuid", "nodev"}
	for _, o := range root.Options {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			upper = dir
		}
	}
	for _, o := range root.Options {
		lower, isLower := strings.CutPrefix(o, "lowerdir=")
		switch {
		case isLower && upper != "":
			options = append(options, "lowerdir="+upper+":"+lower)
		case strings.HasPrefix(o, "upperdir="), strings.HasPrefix(o, "workdir="):
		default:
			options = append(options, o)
		}
	}
	return specs.Mount{Destination: DebugTarget, Type: "overlay", Source: root.Source, Options: options}, nil
}
