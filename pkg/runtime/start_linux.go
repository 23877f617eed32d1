package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/rootfs"
)

// StartOptions say how a plan is executed.
type StartOptions struct {
	// Journal is the file that the inverses of the host steps are written to
	// before the first of them; empty for none, then they are kept in memory.
	Journal string
	// Console receives the terminal's master end; nil without a terminal.
	Console *os.File
	// Held is what a keeper holds, see Input.Hold; nil for nothing. Then For, the id of the
	// container, is shown in the keeper's command line: it may be all that is known of it.
	Held *Held
	For  string
	// Stdio replaces the first three descriptors where it is not nil.
	Stdio [3]*os.File
	// PreserveFDs is the Input's.
	PreserveFDs int
	// Replace has variables of the program's environment that stand for others: those that
	// are not to be in a plan, nor in the configuration.
	Replace map[string]string
	// Trace records what every step of the child did; see Started.Trace.
	Trace bool
	// Born, if set, is called when the process has been born, while it goes on with its
	// steps, and mostly when the host has made all its own. An error undoes all.
	Born func(*Started) error
	// Made, if set, is called, after Born, when the host has made all its steps. Only then
	// may the program be executed, and if this process is killed before, it never is: so
	// whoever has to know of a program that runs is told here. An error undoes all.
	Made func(*Started) error
	// Inside is what hooks in the container's namespaces depend on, but for the
	// process; nil if there are none.
	Inside *ExecInput
	// Warn and Actions: see Runtime.
	Warn    func(error)
	Actions Actions
	// open is execution.fsopen, which programs that make no containers are linked without.
	open func(*execution) (int, error)
	// Before, if set, is called before every step; an error stops the execution
	// and undoes it.
	Before func(index int, step *plan.Step) error
}

// Started is a container that has been started, or created and waits.
type Started struct {
	// PID is the container's first process.
	PID int
	// Parent is the keeper's process id, or that of who prepared a container which is born late: a child of the caller's
	// that has ended. It is 0 when the caller is the parent, and nobody else was needed.
	Parent int
	// Shared says that a control group of the container was there before it, and
	// may hold processes of others.
	Shared bool
	// Trace has what the plan's steps did, by index, if asked for.
	Trace []child.Record
	// Relay is that of a container with CreateRequest.Notify, or nil; the caller
	// closes it.
	Relay *Relay

	// id, undos, hooks and loose are what Finish needs to know; a loose container's
	// processes may outlive the first one, and are on nobody's list.
	id    string
	undos []plan.Call
	hooks bool
	loose bool
	// held: the keeper is to be ended too.
	held bool
}

// Start executes a plan until the user's program runs, or until the container waits
// for its start. When a step fails it undoes what was done and returns a StepError.
//
// The child runs on without this process; its parent is the caller or the keeper.
func Start(p *plan.Plan, o StartOptions) (*Started, error) {
	e := &execution{plan: p, o: o, regs: map[plan.Reg]int{}, began: time.Now()}
	defer e.closeFiles()
	err := e.run()
	if err == nil {
		err = e.told()
	}
	if err == nil {
		s := e.started()
		e.proc.Close()
		return s, nil
	}
	if undo := e.undo(); undo != nil {
		err = errors.Join(err, fmt.Errorf("while undoing: %w", undo))
	}
	return nil, err
}

type execution struct {
	plan    *plan.Plan
	o       StartOptions
	regs    map[plan.Reg]int
	files   []int // descriptors to close at the end
	control control
	prog    *child.Program
	proc    *child.Process
	pid     int
	ready   bool
	trace   []child.Record
	began   time.Time
	undos   []plan.Call
	// headFailed is the outcome of the host step that Then and Else steps depend on.
	headFailed bool
	// late says that the process that goes on in the child's place is not born yet, and tell
	// is o.Born, if it has been called.
	late bool
	tell func(*Started) error
	// moved says that it was born: nobody but its parent, us or the keeper, knows which of both has it.
	moved bool
	// early is what the container said before its keeper told its process id.
	early []child.Event
}

// run walks the list once. Where the child's part begins it is lowered and started;
// from then on a block of host steps first waits for the baton. Steps beside the birth
// are made just after its start, unless somebody wants to see each step in its place.
func (e *execution) run() error {
	e.undos = slices.DeleteFunc(e.plan.Undo(), wasThere)
	if e.o.Journal != "" {
		if err := writeJournal(e.o.Journal, e.undos); err != nil {
			return err
		}
	}
	if e.o.Console != nil {
		e.regs[rootfs.Console] = int(e.o.Console.Fd())
	}
	if e.o.Held != nil {
		e.regs[held], e.regs[ear], e.regs[bell] = int(e.o.Held.Socket.Fd()), int(e.o.Held.Ear.Fd()), int(e.o.Held.Bell.Fd())
	}
	steps := e.plan.Steps
	for i := 0; i < len(steps); {
		switch {
		case e.proc == nil && (steps[i].Actor != plan.Host || isClone(steps[i].Call)):
			if err := e.launch(i); err != nil {
				return err
			}
			if len(e.undos) == 0 {
				if err := e.bear(); err != nil {
					return err
				}
			}
			i++
		case e.overlaps() && steps[i].Awaits:
			if err := e.proc.Continue(); err != nil {
				return err
			}
			i++
		case steps[i].Actor != plan.Host, steps[i].Later != "", e.overlaps() && steps[i].Beside:
			i++
		case e.proc != nil:
			end, err := e.hostBlock(i)
			if err != nil {
				return err
			}
			i = end
		default:
			if err := e.hostStep(i); err != nil {
				return err
			}
			i++
		}
	}
	for e.late {
		switch ev, err := e.next(); {
		case err != nil:
			return err
		case ev.Kind == child.Closed:
			return KilledError{}
		}
	}
	if err := e.bear(); err != nil {
		return err
	}
	if e.o.Made != nil {
		if err := e.o.Made(e.started()); err != nil {
			return err
		}
		if err := e.proc.Continue(); err != nil {
			return err
		}
	}
	return e.untilReady()
}

// bear tells that the process has been born, once. Whoever finds the container's remains
// after a crash knows its process from what is written then, or else as a process in one
// of the control groups that the journal names. So if there are none it is told early.
func (e *execution) bear() error {
	born := e.o.Born
	if born == nil {
		return nil
	}
	e.o.Born, e.tell = nil, born
	return born(e.started())
}

// goesOn notes that another process is the container's first one from here on, see
// compiler.bornLate. Whoever was told of the one before is told again, and then the process goes on.
func (e *execution) goesOn(pid int) error {
	if !e.late || !e.isChild(pid) { // who is among others' programs can be made to say anything
		return KilledError{}
	}
	before := e.pid
	e.setPID(pid)
	e.late, e.moved = false, true
	if before != e.proc.PID {
		reap(before) // unless its parent is the keeper
	}
	if e.tell != nil {
		if err := e.tell(e.started()); err != nil {
			return err
		}
	}
	return e.proc.Continue()
}

// isChild reports whether a process is a child of ours or of the keeper's, as whoever goes on is.
func (e *execution) isChild(pid int) bool {
	dir, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	parent, err := parentOf(dir)
	return err == nil && (parent == os.Getpid() || e.proc != nil && parent == e.proc.PID)
}

// wasThere tells of an inverse that what it would remove is there before the plan has
// begun: it is not ours, and neither are the processes in it.
func wasThere(undo plan.Call) bool {
	dir, ok := undo.(linux.RemoveDir)
	return ok && unix.Access(dir.Path, unix.F_OK) == nil
}

func isClone(c plan.Call) bool {
	_, ok := c.(linux.Clone)
	return ok
}

// overlaps reports whether steps Beside are made while the process is being born.
func (e *execution) overlaps() bool { return e.o.Before == nil }

// besides makes the steps that the birth did not have to wait for.
func (e *execution) besides() error {
	if !e.overlaps() {
		return nil
	}
	for i := range e.plan.Steps {
		if !e.plan.Steps[i].Beside {
			continue
		}
		if err := e.hostStep(i); err != nil {
			return err
		}
	}
	return nil
}

// launch lowers the child's part and starts it.
func (e *execution) launch(i int) error {
	if e.o.Before != nil && e.plan.Steps[i].Actor == plan.Host {
		if err := e.o.Before(i, &e.plan.Steps[i]); err != nil {
			return err
		}
	}
	prog, err := child.Lower(e.plan, child.Options{
		Arch: goarch, Values: e.regs, FirstFD: 3 + e.o.PreserveFDs, Order: e.order(),
		Trace: e.o.Trace, Pause: e.o.Before != nil, Hold: e.o.Made != nil, Beside: e.overlaps(), For: e.o.For, Replace: e.o.Replace,
	})
	if err != nil {
		return err
	}
	for k := range e.plan.Steps {
		e.late = e.late || e.plan.Steps[k].Actor == plan.Child && isClone(e.plan.Steps[k].Call)
	}
	var clone *linux.Clone
	if prog.Clone >= 0 {
		c := e.plan.Steps[prog.Clone].Call.(linux.Clone)
		clone = &c
	}
	restore, err := e.redirect()
	if err != nil {
		return err
	}
	proc, err := child.Start(prog, clone, e.regs)
	restore()
	if err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) && prog.Clone >= 0 {
			err = &StepError{Index: prog.Clone, Step: e.plan.Steps[prog.Clone], Errno: plan.Errno(errno)}
		}
		return cmp.Or(e.besides(), err) // what comes first in the list is told
	}
	e.prog, e.proc = prog, proc
	if clone != nil {
		e.setPID(proc.PID)
		return e.besides()
	}
	besides := e.besides()
	return cmp.Or(besides, e.born()) // also after an error: a process without a number cannot be reaped
}

func (e *execution) order() []plan.Reg {
	var order []plan.Reg
	for _, r := range [...]plan.Reg{start, held, ear, bell} {
		if _, ok := e.regs[r]; ok {
			order = append(order, r)
		}
	}
	return order
}

func (e *execution) setPID(pid int) { e.pid, e.regs[namespace.PID] = pid, pid }

// born waits until the keeper tells the container's process id. Container and keeper
// run at the same time, so the container may be ahead with what it has to say. If that
// is that it failed, the keeper is heard all the same: a process whose id is not known
// cannot be reaped, and while it is not the container's process ids cannot be freed.
func (e *execution) born() error {
	var failed error
	for {
		ev, err := e.receive()
		switch {
		case ev.Kind == child.Failed && failed == nil:
			failed = err
		case err != nil:
			return err
		case ev.Kind == child.Born:
			e.setPID(ev.PID)
			return failed
		case ev.Kind == child.Closed && failed != nil:
			return failed // the keeper itself, before the birth
		case ev.Kind == child.Closed:
			return KilledError{}
		default:
			e.early = append(e.early, ev)
		}
	}
}

// hostBlock makes consecutive host steps after the birth. Unless all are eager it
// first waits for the child to get there.
func (e *execution) hostBlock(i int) (int, error) {
	steps := e.plan.Steps
	eager, end := true, i
	for ; end < len(steps) && steps[end].Actor == plan.Host; end++ {
		eager = eager && (steps[end].Eager || steps[end].Later != "")
	}
	if !eager {
		if err := e.baton(); err != nil {
			return 0, err
		}
	}
	for ; i < end; i++ {
		if steps[i].Later != "" {
			continue
		}
		if err := e.hostStep(i); err != nil {
			return 0, e.cause(err)
		}
	}
	return end, e.proc.Continue()
}

// baton waits until it is the host's turn.
func (e *execution) baton() error {
	for {
		ev, err := e.next()
		switch {
		case err != nil:
			return err
		case ev.Kind == child.Baton:
			return nil
		case ev.Kind == child.Number:
			e.regs[listener] = ev.Number
		case ev.Kind == child.Inside:
		default:
			return KilledError{}
		}
	}
}

// cause finds out why a host step did not find the container's process any more:
// what the child said before it ended.
func (e *execution) cause(err error) error {
	if !errors.Is(err, plan.ESRCH) {
		return err
	}
	for {
		ev, said := e.next()
		switch {
		case said != nil:
			return said
		case ev.Kind == child.Closed:
			return KilledError{}
		}
	}
}

// next returns the child's next event that is not a pause; pauses are answered, and so is a
// process that goes on in its place. A failure of the child is returned as a StepError.
func (e *execution) next() (ev child.Event, err error) {
	if len(e.early) > 0 {
		ev, e.early = e.early[0], e.early[1:]
	} else {
		ev, err = e.receive()
	}
	if err == nil && ev.Kind == child.Inside {
		err = e.goesOn(ev.PID)
	}
	return ev, err
}

// receive is next without what came early.
func (e *execution) receive() (child.Event, error) {
	for {
		ev, err := e.proc.Next()
		if err != nil {
			return ev, err
		}
		switch ev.Kind {
		case child.Pause:
			if e.o.Before != nil {
				if err := e.o.Before(ev.Step, &e.plan.Steps[ev.Step]); err != nil {
					return ev, err
				}
			}
			if err := e.proc.Continue(); err != nil {
				return ev, err
			}
			continue
		case child.Descriptor:
			e.regs[ev.Reg] = ev.FD
			e.files = append(e.files, ev.FD)
			continue
		case child.Failed:
			if ev.Step < 0 {
				return ev, fmt.Errorf("start of the container's program: %w", ev.Errno)
			}
			return ev, &StepError{Index: ev.Step, Step: e.plan.Steps[ev.Step], Errno: e.meaning(ev)}
		}
		return ev, nil
	}
}

// meaning turns the one error number that is an artefact of the plan into what it
// stands for: a search for the program that left no descriptor found no program.
func (e *execution) meaning(ev child.Event) plan.Errno {
	if _, ok := e.plan.Steps[ev.Step].Call.(linux.Faccessat); ok && ev.Errno == plan.EBADF {
		return plan.ENOENT
	}
	return ev.Errno
}

// untilReady waits for the word that only the program is left, and for a container
// that does not wait for a start, until it is executed.
func (e *execution) untilReady() error {
	_, waits := e.regs[start]
	for {
		ev, err := e.next()
		if err != nil {
			return err
		}
		switch ev.Kind {
		case child.Ready:
			e.ready = true
			if waits {
				return nil
			}
		case child.Closed:
			e.trace = e.proc.Trace()
			if !e.ready {
				return KilledError{}
			}
			return nil
		}
	}
}

func (e *execution) started() *Started {
	s := &Started{PID: e.pid, Trace: e.trace, Shared: len(e.undos) < len(e.plan.Undo()), undos: e.undos, hooks: e.o.Inside != nil && hasHooks(e.o.Inside.Spec)}
	if e.proc.PID != e.pid {
		s.Parent = e.proc.PID
	}
	return s
}

// hostStep makes one step of the host, unless it depends on another outcome of the
// head of its group.
func (e *execution) hostStep(i int) error {
	s := &e.plan.Steps[i]
	if s.When == plan.Then && e.headFailed || s.When == plan.Else && !e.headFailed {
		return nil
	}
	if e.o.Before != nil {
		if err := e.o.Before(i, s); err != nil {
			return err
		}
	}
	result, err := e.host(s.Call)
	if s.When == plan.Always {
		e.headFailed = err != nil
	}
	if err == nil {
		if s.Result != "" {
			e.regs[s.Result] = result
		}
		return nil
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	tolerated := s.TolerateAny
	for _, ok := range s.Tolerate {
		tolerated = tolerated || plan.Errno(errno) == ok
	}
	if tolerated {
		return e.forget(s.Undo)
	}
	return &StepError{Index: i, Step: *s, Errno: plan.Errno(errno)}
}

// forget drops the inverse of a step that did nothing: what was there before the
// container must be there after it.
func (e *execution) forget(undo plan.Call) error {
	if undo == nil {
		return nil
	}
	var rest []plan.Call
	for _, u := range e.undos {
		if u != undo {
			rest = append(rest, u)
		}
	}
	e.undos = rest
	if e.o.Journal == "" {
		return nil
	}
	return writeJournal(e.o.Journal, e.undos)
}

// undo ends the container's process, if there is one, and makes the inverses.
func (e *execution) undo() error {
	if e.proc != nil {
		if e.pid > 0 {
			_ = unix.Kill(e.pid, unix.SIGKILL) // it may be gone
		}
		_ = unix.Kill(e.proc.PID, unix.SIGKILL)
		reap(e.proc.PID)
		if e.pid != e.proc.PID && e.pid > 0 {
			reap(e.pid)
		}
		e.proc.Close()
	}
	if err := e.o.Actions.undoAll(e.undos); err != nil {
		return err
	}
	if e.pid > 0 {
		cleanUp(e.plan.Steps, e.o.Warn)
	}
	if e.o.Journal != "" {
		return removeJournal(e.o.Journal)
	}
	return nil
}

// reap waits for a child of ours; one that is not ours (the kernel says ECHILD) is
// reaped by its parent.
func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (e *execution) closeFiles() {
	e.control.close()
	for _, fd := range e.files {
		_ = unix.Close(fd)
	}
}

// redirecting is held while the standard three are others: they are the whole process's.
var redirecting sync.Mutex

// redirect puts the wanted descriptors in place of the standard three while the
// child is made, and returns how to take them back. Two children are not made at the same
// time: the second would find the first one's descriptors, and put them back in the end.
func (e *execution) redirect() (func(), error) {
	redirecting.Lock()
	var saved [3]int
	restore := func() {
		defer redirecting.Unlock()
		for i, fd := range saved {
			if fd > 0 {
				_ = unix.Dup3(fd, i, 0)
				_ = unix.Close(fd)
			}
		}
	}
	for i, f := range e.o.Stdio {
		if f == nil || int(f.Fd()) == i {
			continue
		}
		fd, err := unix.FcntlInt(uintptr(i), unix.F_DUPFD_CLOEXEC, 3)
		if err == nil {
			saved[i] = fd
			err = unix.Dup3(int(f.Fd()), i, 0)
		}
		if err != nil {
			restore()
			return nil, fmt.Errorf("standard descriptor %d: %w", i, err)
		}
	}
	return restore, nil
}
