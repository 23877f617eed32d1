// Package plan is the vocabulary of containr: what a container is made of, as
// data.
//
// # Theory of operation
//
// A container is a program of system calls. A Plan is that program: an ordered
// list of Steps, each of them one Call together with the reason for it. The
// same value is executed (internal/child and pkg/runtime), printed (Write in
// this package), compared by golden tests, and undone (Undo calls, walked
// backwards). Nothing else describes a container, so what is explained cannot
// differ from what is done.
//
// Three actors share the list:
//
//   - Host is the containr process itself. Its calls are named actions on
//     files ("mkdir", "write"), which have inverses.
//   - Child is the process that becomes the container's first program. Its
//     calls are system calls and nothing else; they are lowered to some thirty
//     thousand bytes of data that an interpreter of some 300 bytes executes.
//   - Keeper is the container's parent when somebody must outlive containr to
//     see it end. It runs the same interpreter.
//
// Top to bottom is the order in time. Where the actor changes from Child to
// Host, the executor hands the baton over by a message on a socket, and back
// the same way; no planner writes such messages by hand. A Host step marked
// Eager does not need anything that the Child did before it: the host runs it
// as soon as the child exists, and the child waits for it here at the latest.
// A Host step before the birth that is marked Beside is not needed by the birth, nor by
// the Child before the next step of its that Awaits: the host may make it while the
// process is being born and makes its first steps, and the child waits there. The order of the list
// is always a right one too; scripts and programs that stand alone keep to it.
// A Host step with Later stands in the list where it happens, and is made by the
// verb of the runtime that it names: by start, by delete. Nobody waits for it here.
//
// Control flow is poor on purpose. A step may tolerate error numbers. Steps
// that follow it may be Then (they run only if it succeeded) or Else (they run
// only if it failed with a tolerated error). One step, the keeper's last of a group, may be
// Again: it is a Then, after which the head's call is made once more; the keeper waits so
// until nothing is left to wait for. Nothing else branches, and nothing
// computes: what can be known in advance is decided by the planner.
//
// A result has a name, its register: "root = openat2(...)", and a later step
// says "move_mount(tmp, root, ...)". Explain prints the name, a trace prints the
// number.
//
// Everything in a plan is plain data that encodes to JSON. There are no
// closures: a step that cannot be written down is not a step.
package plan

import "fmt"

// Actor is who makes a call.
type Actor uint8

// The three actors, see the package comment.
const (
	Host Actor = iota
	Child
	Keeper
)

var actorNames = [...]string{"host", "child", "keeper"}

func (a Actor) String() string {
	if int(a) < len(actorNames) {
		return actorNames[a]
	}
	return fmt.Sprintf("actor(%d)", uint8(a))
}

// When says under which outcome of its group's head a step runs. A group is a step
// that runs Always, its head, and the Then and Else steps that follow it.
type When uint8

const (
	// Always: the step does not depend on the one before it. It is the head
	// of the group that its Then and Else steps form with it.
	Always When = iota
	// Then: only if the head of the group succeeded.
	Then
	// Else: only if the head of the group failed with a tolerated error.
	Else
	// Again: as Then, and then the head's call is made once more. A step of the keeper's only.
	Again
)

var whenNames = [...]string{"always", "then", "else", "again"}

func (w When) String() string {
	if int(w) < len(whenNames) {
		return whenNames[w]
	}
	return fmt.Sprintf("when(%d)", uint8(w))
}

// Chapter groups steps for a reader; it is the coarsest of the three zooms.
type Chapter string

// The chapters, in the order in which a plan for a new container visits them.
// The order is the security argument: limits hold before anything runs, the
// view of the machine is closed before privileges are given up, and the system
// call filter comes last because everything before it needs system calls.
const (
	CgroupChapter    Chapter = "cgroup"
	ResctrlChapter   Chapter = "cache and memory bandwidth"
	KeeperChapter    Chapter = "keeper"
	NamespaceChapter Chapter = "namespaces"
	NetworkChapter   Chapter = "network"
	HookChapter      Chapter = "hooks"
	RootfsChapter    Chapter = "root file system"
	TerminalChapter  Chapter = "terminal"
	PrivilegeChapter Chapter = "privileges"
	SeccompChapter   Chapter = "seccomp"
	ProgramChapter   Chapter = "program"
	CRIUChapter      Chapter = "freezing and bringing back"
)

// Reg names the result of a step. The empty register means that nobody uses
// the result.
type Reg string

// Call is one system call, or one host action, as data.
type Call interface {
	// Name is the system call's name ("openat2") or the host action's ("mkdir").
	Name() string
	// AppendArgs appends the call's arguments in the kernel's order to dst
	// and returns it.
	AppendArgs(dst []Arg) []Arg
}

// Step is one call with its reason. Planners make steps with a Builder only.
type Step struct {
	Actor   Actor
	Chapter Chapter
	// Why is the reason, one clause that starts in lower case.
	Why  string
	Call Call
	// Result is the register that receives the call's result.
	Result Reg
	// Tolerate lists the errors with which the call may fail.
	Tolerate []Errno
	// TolerateAny accepts every error: the step is worth trying, not needed.
	TolerateAny bool
	When        When
	// ZeroFails makes the result 0 an error (EPIPE): on a read it means that
	// the peer is gone.
	ZeroFails bool
	// Eager, on a host step: see the package comment.
	Eager bool
	// Beside, on a host step, and Awaits, on one of the child: see the package comment.
	Beside, Awaits bool
	// Later, on a host step, is the verb of the runtime that makes it, "start" or
	// "delete", when it is not the one that makes the container.
	Later string
	// From is the place in the OCI configuration that asked for the step, as
	// a JSON pointer; empty when containr adds the step by itself.
	From string
	// Undo is the inverse of a host step, run when the container is deleted
	// or could not be made.
	Undo Call
}

// Plan is the whole program, in order of time.
type Plan struct {
	Steps []Step
}

// Builder collects the steps of one actor in one chapter.
type Builder struct {
	Steps   []Step
	actor   Actor
	chapter Chapter
}

// Build returns a builder for steps that actor makes in the chapter.
func Build(actor Actor, chapter Chapter) *Builder {
	return &Builder{actor: actor, chapter: chapter}
}

// In continues in another chapter.
func (b *Builder) In(chapter Chapter) *Builder { b.chapter = chapter; return b }

// By continues with another actor.
func (b *Builder) By(actor Actor) *Builder { b.actor = actor; return b }

// Do appends the step that makes the call, for the reason why. It panics when
// the reason or the call is missing: a plan explains itself.
//
// The returned pointer is for the modifiers below, chained to the call; it is
// valid until the next Do.
func (b *Builder) Do(why string, call Call) *Step {
	if why == "" || call == nil {
		panic("plan: a step needs a reason and a call")
	}
	b.Steps = append(b.Steps, Step{Actor: b.actor, Chapter: b.chapter, Why: why, Call: call})
	return &b.Steps[len(b.Steps)-1]
}

// Add appends finished steps of another builder. It is a call, too, as the modifiers below.
//
//go:noinline
func (b *Builder) Add(steps []Step) { b.Steps = append(b.Steps, steps...) }

// The three that most steps have are calls, not copies of their bodies in some 400 places:
// the runtime is started for each container, and is to be small.

// As names the result.
//
//go:noinline
func (s *Step) As(r Reg) *Step { s.Result = r; return s }

// Ok adds tolerated errors.
//
//go:noinline
func (s *Step) Ok(errs ...Errno) *Step { s.Tolerate = append(s.Tolerate, errs...); return s }

// Try tolerates every error.
func (s *Step) Try() *Step { s.TolerateAny = true; return s }

// Then makes the step depend on the success of its group's head.
func (s *Step) Then() *Step { s.When = Then; return s }

// Again makes the step depend on the success of its group's head, which is then made once more.
func (s *Step) Again() *Step { s.When = Again; return s }

// Else makes the step depend on a tolerated failure of its group's head.
func (s *Step) Else() *Step { s.When = Else; return s }

// OrGone makes the result 0 a failure.
func (s *Step) OrGone() *Step { s.ZeroFails = true; return s }

// Early marks a host step as Eager.
func (s *Step) Early() *Step { s.Eager = true; return s }

// Aside marks a host step as Beside.
func (s *Step) Aside() *Step { s.Beside = true; return s }

// At names the verb that makes a host step later; see Step.Later.
func (s *Step) At(verb string) *Step { s.Later = verb; return s }

// For records which part of the OCI configuration asked for the step.
//
//go:noinline
func (s *Step) For(pointer string) *Step { s.From = pointer; return s }

// Reverse sets the inverse of a host step.
func (s *Step) Reverse(undo Call) *Step { s.Undo = undo; return s }

// MaxTolerated is how many error numbers one child step can tolerate: the
// interpreter's instruction has four slots for them.
const MaxTolerated = 4

// Validate reports the first step that breaks a rule of the vocabulary: a
// missing reason, a dependent step without a head or after a step of another
// actor, more tolerated errors than an instruction holds, an inverse on a step
// that is not the host's, one that nobody awaits, a register that is read before
// anything set it.
// Registers in given are known from outside.
func (p *Plan) Validate(given ...Reg) error {
	known := make(map[Reg]bool, 32)
	for _, r := range given {
		known[r] = true
	}
	var buf []Arg
	born, beside := false, -1
	for i := range p.Steps {
		s := &p.Steps[i]
		born = born || s.Actor != Host
		if s.Beside && born {
			return fmt.Errorf("plan: step %d (%s): beside a birth that was before it", i+1, s.Call.Name())
		}
		if s.Beside {
			beside = i
		} else if s.Awaits {
			beside = -1
		}
		if err := p.validateStep(i); err != nil {
			return fmt.Errorf("plan: step %d (%s): %w", i+1, s.Call.Name(), err)
		}
		buf = s.Call.AppendArgs(buf[:0])
		if r, ok := unknownReg(buf, known); !ok {
			return fmt.Errorf("plan: step %d (%s): register %q is used before it is set", i+1, s.Call.Name(), r)
		}
		if s.Result != "" {
			known[s.Result] = true
		}
		learnFilled(buf, known)
	}
	if beside >= 0 {
		return fmt.Errorf("plan: step %d (%s): no step awaits it", beside+1, p.Steps[beside].Call.Name())
	}
	return nil
}

func (p *Plan) validateStep(i int) error {
	s := &p.Steps[i]
	switch {
	case s.Why == "":
		return fmt.Errorf("no reason given")
	case s.Actor != Host && len(s.Tolerate) > MaxTolerated:
		return fmt.Errorf("tolerates %d errors, at most %d fit", len(s.Tolerate), MaxTolerated)
	case s.Actor != Host && s.Undo != nil:
		return fmt.Errorf("only host steps have an inverse")
	case s.Actor != Host && s.Eager:
		return fmt.Errorf("only host steps can be eager")
	case s.Beside && (s.Actor != Host || s.Later != "" || s.Result != ""):
		return fmt.Errorf("only a host step without a result can be beside the birth")
	case s.Awaits && (s.Actor != Child || s.When != Always):
		return fmt.Errorf("only a step that the child makes in any case can await others")
	case s.Actor != Host && s.Later != "":
		return fmt.Errorf("only host steps can be left to a later verb")
	case s.When != Always && i == 0:
		return fmt.Errorf("a dependent step cannot be the first")
	case s.When != Always && p.Steps[i-1].Actor != s.Actor:
		return fmt.Errorf("a dependent step must follow a step of the same actor")
	case s.When == Again && s.Actor != Keeper:
		return fmt.Errorf("only the keeper makes a step again")
	case p.Steps[max(i, 1)-1].When == Again && s.When != Always && s.When != Else:
		return fmt.Errorf("nothing comes between again and the head")
	case (s.When == Then || s.When == Again) && p.Steps[i-1].When == Else:
		return fmt.Errorf("then must come before else")
	}
	return nil
}

func unknownReg(args []Arg, known map[Reg]bool) (Reg, bool) {
	for _, a := range args {
		if a.Kind == RegArg && !known[Reg(a.Text)] {
			return Reg(a.Text), false
		}
		if r, ok := unknownReg(a.List, known); !ok {
			return r, false
		}
	}
	return "", true
}

// learnFilled notes the registers that a call fills.
func learnFilled(args []Arg, known map[Reg]bool) {
	for _, a := range args {
		if a.Kind == RegAddr || a.Kind == RegHome {
			known[Reg(a.Text)] = true
		}
		learnFilled(a.List, known)
	}
}

// Undo returns the inverses of the plan's host steps, last step first.
func (p *Plan) Undo() []Call {
	var calls []Call
	for i := len(p.Steps) - 1; i >= 0; i-- {
		if u := p.Steps[i].Undo; u != nil {
			calls = append(calls, u)
		}
	}
	return calls
}
