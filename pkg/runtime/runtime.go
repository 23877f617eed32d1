// Package runtime makes containers: it compiles an OCI configuration to a plan,
// executes the plan, remembers how to undo it, and does the verbs of the OCI
// runtime command line.
//
// # Theory of operation
//
// Compile (compile.go) is the table of contents of a container: one function that
// asks the planners for their steps and puts them in the order that the security
// argument needs. It is pure. Explain, tests and execution start from its result.
//
// Start (start_linux.go) executes a plan. Host steps are made here, one by one; the
// child's are lowered and run by internal/child, and the two sides hand the baton
// to each other where the plan changes the actor. Before the first step, the
// inverses of all host steps are written to the journal (journal.go). When a step
// fails, and when the container is deleted, and when either is interrupted and
// tried again, the journal is run backwards; inverses may find their work done
// already.
//
// The verbs (verbs_linux.go, end_linux.go, exec_linux.go, change_linux.go, ...) keep what
// they need to know about a container in files below a state root, one directory for
// each: config.json (a copy of the configuration), state.json, journal, and while the
// container waits for its start, the fifo "start". Whether it runs is never stored: the
// process id and its start time are, and the kernel knows the rest.
package runtime

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containr/containr/internal/systemd"
	"github.com/containr/containr/pkg/plan"
)

// What callers may want to tell apart.
var (
	// ErrExists means that there is a container with that id.
	ErrExists = errors.New("container already exists")
	// ErrNotFound means that there is no container with that id.
	ErrNotFound = errors.New("container does not exist")
	// ErrNotRunning means that the verb needs a container that runs.
	ErrNotRunning = errors.New("container not running")
	// ErrNotPaused means that the verb needs a paused container.
	ErrNotPaused = errors.New("container not paused")
	// ErrRunning means that the verb needs a container that has stopped.
	ErrRunning = errors.New("container is not stopped")
	// ErrNoBundle means that there is no configuration where one should be.
	ErrNoBundle = errors.New("no bundle")
	// ErrState means that the container is in another state than the verb needs.
	ErrState = errors.New("wrong state")
)

// Actions make the host's calls that the runtime does not know itself: those of networks,
// which only some of its callers make. The zero value knows none.
type Actions struct {
	// Do makes a call; regs holds the results of earlier ones.
	Do func(call plan.Call, regs map[plan.Reg]int) (int, error)
	// Links says that Do is also to make the steps that give the container's devices addresses, and raise them: this process
	// may not.
	Links bool
	// Undo makes an inverse, and succeeds when there is nothing to undo.
	Undo func(call plan.Call) error
	// Read reads an inverse from a journal.
	Read func(action, operand string) (plan.Call, error)
}

// journaled is an inverse of Actions: it says how it is written in a journal.
type journaled interface {
	Entry() (action, operand string)
}

// StepError is a step that failed: which one, on what, and the kernel's answer.
type StepError struct {
	// Index is the step's place in the plan, and Step the step itself.
	Index int
	Step  plan.Step
	Errno plan.Errno
}

// Error says the reason, the call and the errno.
func (e *StepError) Error() string {
	call := plan.Format(e.Step.Call)
	if path, ok := e.Program(); ok {
		call = e.Step.Call.Name() + " " + path // without arguments and environment
	}
	return fmt.Sprintf("%s: %s: %s: %s", e.Step.Chapter, e.Step.Why, call, e.Errno.Error())
}

// Unwrap gives the error number.
func (e *StepError) Unwrap() error { return e.Errno }

// KilledError means that the container's process was killed before it could
// become the user's program.
type KilledError struct{}

// Error says so.
func (KilledError) Error() string {
	return "the container's first process was killed before the program started"
}

// LeftError means that processes of a container live on, though they were killed.
type LeftError struct {
	// PIDs are their numbers here.
	PIDs []int
}

// mostNamed is how many processes an error names.
const mostNamed = 10

// Error names them.
func (e *LeftError) Error() string {
	var b strings.Builder
	for _, pid := range e.PIDs[:min(len(e.PIDs), mostNamed)] {
		fmt.Fprintf(&b, " %d", pid)
	}
	switch n := len(e.PIDs); {
	case n == 1:
		return "process" + b.String() + " of the container does not end"
	case n > mostNamed:
		return fmt.Sprintf("%d processes of the container do not end, or fork faster than they can be killed:%s and others", n, b.String())
	}
	return "processes of the container do not end, or fork faster than they can be killed:" + b.String()
}

// Hint is a sentence on what to do about an error, or "" when none is known.
func Hint(err error) string {
	var step *StepError
	if !errors.As(err, &step) {
		if errors.Is(err, systemd.ErrNotRunning) {
			return "leave --systemd-cgroup out where systemd is not process 1; an ordinary user's systemd runs while the user is logged in, or always after: loginctl enable-linger"
		}
		if errors.As(err, new(KilledError)) {
			return "most often the memory limit is too small to start the program: raise it with -m"
		}
		if errors.As(err, new(*LeftError)) {
			return "one that waits for a device, or is frozen in another control group, ends when it goes on: see its /proc/PID/stack and cgroup; those that fork can be ended when pids.max of the control group they are in lets them fork no more; then delete the container again"
		}
		return criuHint(err)
	}
	_, text := step.hint()
	return text
}

// HintCode is the stable code of what [Hint] knows about a failed step, or "".
func HintCode(err error) string {
	var step *StepError
	if !errors.As(err, &step) {
		return ""
	}
	code, _ := step.hint()
	return code
}

// hint finds the first hint for the step.
func (e *StepError) hint() (code, text string) {
	for _, h := range hints {
		if h.errno == e.Errno && h.call == e.Step.Call.Name() && strings.Contains(e.Step.Why, h.why) {
			return h.code, h.text
		}
	}
	return "", ""
}
