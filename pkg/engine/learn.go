package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/seccomp"
	"github.com/containr/containr/pkg/seccomp/profile"
)

// learner is the recording of a container's system calls.
type learner struct {
	recorder *profile.Recorder
	// killable: see profile.Watched.
	killable bool
	// base is the policy that the container would have had.
	base *specs.LinuxSeccomp
}

// recorded wraps the making of a container's filter: what it allows is left to the recorder.
func (o *prepareOptions) recorded(filter func([]string) (*specs.LinuxSeccomp, error)) func([]string) (*specs.LinuxSeccomp, error) {
	if o.learn == nil || filter == nil {
		return filter
	}
	return func(capabilities []string) (*specs.LinuxSeccomp, error) {
		base, err := filter(capabilities)
		if err != nil {
			return nil, err
		}
		o.learn.base = base
		return profile.Watched(base, o.learn.recorder.Socket(), o.learn.killable)
	}
}

// ErrNoFilter means that a container has no filter, so that nothing can be learned about it.
var ErrNoFilter = errors.New("a container without a seccomp filter teaches nothing")

// RecordSeccomp runs a container to its end, in the foreground, and returns the policy that allows those of its system
// calls alone that its own filter allows and that were made: by its first process, those that it made, and those of exec.
// Nothing of the container stays. What else the request asks for is as in Run.
//
// The policy is nil if the container's program was never started.
func (e *Engine) RecordSeccomp(ctx context.Context, r RunRequest) (learned *specs.LinuxSeccomp, exit Exit, err error) {
	if s := r.Config.Security.Seccomp; s == container.SeccompUnconfined || r.Config.Privileged && s == "" {
		return nil, Exit{}, ErrNoFilter
	}
	native, err := seccomp.ArchOf(runtime.GOARCH)
	if err != nil {
		return nil, Exit{}, err
	}
	facts, err := e.facts()
	if err != nil {
		return nil, Exit{}, err
	}
	if !facts.Kernel.AtLeast(5, 6) { // pidfd_getfd(2); calls that go on are of 5.5
		return nil, Exit{}, fmt.Errorf("the system calls of a container can be recorded from Linux 5.6 on")
	}
	r.learn = &learner{killable: facts.Kernel.AtLeast(5, 19)}
	if r.learn.recorder, err = profile.NewRecorder(); err != nil {
		return nil, Exit{}, err
	}
	r.Config.AutoRemove, r.Config.LogDriver = true, logs.None
	exit, err = e.Run(ctx, r)
	seen, closeErr := r.learn.recorder.Close()
	if err = errors.Join(err, closeErr); err != nil {
		return nil, exit, err
	}
	return profile.Learned(r.learn.base, native, seen), exit, nil
}
