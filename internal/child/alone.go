package child

import (
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// ErrAlone means that a plan cannot do without a host.
var ErrAlone = errors.New("this container cannot be a program by itself")

// The registers of a program that stands alone.
const (
	alonePID    plan.Reg = "pid"
	aloneStatus plan.Reg = "status"
	aloneBorn   plan.Reg = "born"
	aloneMapped plan.Reg = "mapped"
)

// procFD is the number under which child and keeper, who share their descriptors for
// a moment, know the child's directory below /proc. Registers cannot tell it: after
// the clone each has its own memory.
const procFD = "100"

// Standalone turns the plan of a new container into one that needs no host: lowered
// with Options.Alone it is a complete program, which makes the container, waits for
// its end and exits with its exit code, or with the number of the signal that killed
// it, so never with 0 then. A step that fails ends it with FailureCode and without a
// word: nobody listens.
//
// What only the host can do is left out, with all steps that need its result, and
// returned in omitted: hooks, network devices, classes of service, control groups with their limits and
// the mounts that show them, and the terminal, in whose place the program's own descriptors stay. Steps
// about the talk between host and child go silently. A namespace to join is opened by
// the program itself; the maps of a user namespace are written by it unless that
// takes newuidmap(1), which is ErrAlone, as are a root file system that another program serves
// and processes that are shared, whose /proc the host has opened. No descriptor but the standard three
// reaches the user's program.
func Standalone(p *plan.Plan) (alone *plan.Plan, omitted []plan.Step, err error) {
	a := &aloneness{from: p.Steps, gone: map[plan.Reg]bool{Sync: true}, made: map[string]bool{}}
	if err := a.host(); err != nil {
		return nil, nil, err
	}
	if err := a.birth(); err != nil {
		return nil, nil, err
	}
	a.child()
	a.watch()
	alone = &plan.Plan{Steps: a.steps}
	if err := alone.Validate(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrAlone, err)
	}
	return alone, a.omitted, nil
}

// WriteELF writes what Standalone returned as an executable file for this machine.
// On an architecture without an interpreter it fails with ErrUnsupported.
func WriteELF(w io.Writer, alone *plan.Plan) error {
	interpreter := Interpreter()
	if interpreter == nil {
		return ErrUnsupported
	}
	prog, err := Lower(alone, Options{Arch: linux.Arch(runtime.GOARCH), FirstFD: 3, Alone: true})
	if err != nil {
		return err
	}
	image, err := prog.ELF(interpreter)
	if err != nil {
		return err
	}
	_, err = w.Write(image)
	return err
}

// aloneness is the work of Standalone.
type aloneness struct {
	from, steps, omitted []plan.Step
	// gone are registers that nobody sets any more, and made the host
	// directories that nobody makes any more.
	gone map[plan.Reg]bool
	made map[string]bool
	// opens are the host's opens of namespaces, by register, and maps the id maps.
	opens []plan.Step
	maps  []plan.Step
	clone *plan.Step
}

// host sorts the host's steps.
func (a *aloneness) host() error {
	for i := range a.from {
		s := &a.from[i]
		if c, ok := s.Call.(linux.Clone); ok {
			if s.Actor == plan.Child {
				return fmt.Errorf("%w: it shares the processes of another one", ErrAlone)
			}
			if a.clone != nil {
				return fmt.Errorf("%w: it is cloned twice (%s)", ErrAlone, c.Name())
			}
			a.clone = s
			continue
		}
		if s.Actor != plan.Host {
			continue
		}
		if err := a.hostStep(s); err != nil {
			return err
		}
	}
	if a.clone == nil {
		return fmt.Errorf("%w: the plan has no clone3", ErrAlone)
	}
	return nil
}

func (a *aloneness) hostStep(s *plan.Step) error {
	switch c := s.Call.(type) {
	case linux.OpenPidfd:
		return fmt.Errorf("%w: it joins a running container", ErrAlone)
	case linux.MapIDs:
		return fmt.Errorf("%w: %s must write its id map", ErrAlone, path.Base(c.Program))
	case linux.WriteProc:
		a.maps = append(a.maps, *s)
		return nil
	case linux.OpenHost:
		if a.joins(s.Result) {
			a.opens = append(a.opens, *s)
			return nil
		}
	case linux.MakeDir:
		a.made[c.Path] = true
	case linux.ServeFuse:
		return fmt.Errorf("%w: %s must serve its root file system", ErrAlone, c.Program)
	case linux.SendListener:
		return fmt.Errorf("%w: somebody else decides on its system calls (%s)", ErrAlone, c.Path)
	case linux.RunHook, linux.MoveLink, linux.AddAddress, linux.RaiseLink:
		a.omitted = append(a.omitted, *s)
		return nil
	}
	if s.Result != "" {
		a.gone[s.Result] = true
	}
	switch s.Chapter {
	case plan.CgroupChapter, plan.ResctrlChapter, plan.RootfsChapter, plan.NetworkChapter:
		a.omitted = append(a.omitted, *s)
	}
	return nil
}

// joins reports whether the register is used to join a namespace.
func (a *aloneness) joins(r plan.Reg) bool {
	for i := range a.from {
		if c, ok := a.from[i].Call.(linux.Setns); ok && plan.Reg(c.FD) == r {
			return true
		}
	}
	return false
}

// birth plans the keeper's steps up to the clone: what the host has opened, what has
// to be joined before.
func (a *aloneness) birth() error {
	b := plan.Build(plan.Keeper, plan.NamespaceChapter)
	for _, s := range a.opens {
		c := s.Call.(linux.OpenHost)
		b.Do(s.Why, linux.Openat{Dir: linux.CWD, Path: c.Path, Flags: c.Flags}).As(s.Result).For(s.From)
	}
	for i := range a.from {
		if _, ok := a.from[i].Call.(linux.Setns); ok && a.from[i].Actor == plan.Keeper {
			b.Add(a.from[i : i+1])
		}
	}
	call := a.clone.Call.(linux.Clone)
	call.Cgroup, call.Silent = "", false
	call.Flags &^= linux.CloneParent
	if len(a.maps) > 0 {
		call.Flags |= linux.CloneFiles
		b.Do("the child will say when it is born", linux.Eventfd{}).As(aloneBorn)
		b.Do("and will be told when its ids have a meaning", linux.Eventfd{}).As(aloneMapped)
	}
	b.Do(a.clone.Why, call).As(alonePID).For(a.clone.From)
	a.steps = append(a.steps, b.Steps...)
	return nil
}

// dieTogether ends the container when the program that made it ends: there is no
// runtime that could find it afterwards.
func dieTogether(b *plan.Builder) {
	const sigkill = 9
	b.Do("without its parent nobody would know of it: end together", linux.Prctl{Option: linux.PrSetPdeathsig, Arg2: sigkill})
}

// resetSignals undoes what whoever starts the program may ignore; a plan with a host
// does it only for what a Go program passes on.
func resetSignals(b *plan.Builder) {
	const sigkill, sigstop, last = 9, 19, 64
	for n := 1; n <= last; n++ {
		if n != sigkill && n != sigstop {
			b.Do("a signal that the caller ignores is not ignored here", linux.DefaultAction{Signal: n})
		}
	}
}

// child takes over the child's steps but for those that need what is gone.
func (a *aloneness) child() {
	b := plan.Build(plan.Child, plan.NamespaceChapter)
	dieTogether(b)
	resetSignals(b)
	if len(a.maps) > 0 {
		a.waitForMaps(b)
	}
	lastIdentity := a.lastIdentity()
	headGone := false
	for i := range a.from {
		s := a.from[i]
		if _, reset := s.Call.(linux.DefaultAction); reset || s.Actor != plan.Child {
			continue
		}
		if s.When == plan.Always {
			headGone = false
		}
		if headGone || a.needsGone(&s) {
			a.leaveOut(&s)
			headGone = headGone || s.When == plan.Always
			continue
		}
		delete(a.gone, s.Result)
		if _, ok := s.Call.(linux.CloseRange); ok {
			s.Call = linux.CloseRange{First: 3}
		}
		b.Add([]plan.Step{s})
		if i == lastIdentity {
			b.In(plan.PrivilegeChapter)
			dieTogether(b) // the kernel forgot it with the change of ids
		}
	}
	a.steps = append(a.steps, b.Steps...)
}

// lastIdentity is the child's last step that changes what it may do; the kernel drops
// the parent's death signal with it, prctl(2).
func (a *aloneness) lastIdentity() int {
	last := -1
	for i := range a.from {
		switch a.from[i].Call.(type) {
		case linux.Setresuid, linux.Setresgid, linux.Capset:
			if a.from[i].Actor == plan.Child {
				last = i
			}
		}
	}
	return last
}

// needsGone reports whether a step cannot be made without the host.
func (a *aloneness) needsGone(s *plan.Step) bool {
	if s.Chapter == plan.TerminalChapter {
		return true
	}
	switch c := s.Call.(type) {
	case linux.OpenTree:
		if a.below(c.Path) {
			return true
		}
	case linux.Openat:
		if a.below(c.Path) {
			return true
		}
	}
	return a.uses(s.Call.AppendArgs(nil))
}

// below reports whether a host path lies in a directory that is not made.
func (a *aloneness) below(p string) bool {
	for dir := range a.made {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

func (a *aloneness) uses(args []plan.Arg) bool {
	for i := range args {
		if args[i].Kind == plan.RegArg && a.gone[plan.Reg(args[i].Text)] || a.uses(args[i].List) {
			return true
		}
	}
	return false
}

// leaveOut notes a step that is not made. The talk with the host is no loss.
func (a *aloneness) leaveOut(s *plan.Step) {
	if s.Result != "" {
		a.gone[s.Result] = true
	}
	switch c := s.Call.(type) {
	case linux.Write:
		if plan.Reg(c.FD) == Sync {
			return
		}
	case linux.Read:
		return
	}
	a.omitted = append(a.omitted, *s)
}

// waitForMaps is the child's side of the writing of its id maps: it shares its
// descriptors with the keeper, shows its directory below /proc, and waits. It cannot
// write the maps itself: whoever opens them must be outside, user_namespaces(7).
func (a *aloneness) waitForMaps(b *plan.Builder) {
	const why = "show the parent where its id maps are"
	b.Do(why, linux.Openat{Dir: linux.CWD, Path: "/proc/self", Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).As("self").Try()
	b.Do(why, linux.Dup3{Old: "self", New: procFD, OnExec: true}).Try()
	b.Do("born; any number will do", linux.WriteReg{FD: linux.FD(aloneBorn), Value: aloneBorn})
	b.Do("wait for the ids", linux.Read{FD: linux.FD(aloneMapped), Size: 8})
	b.Do("from here on its descriptors are its own", linux.Unshare{Flags: linux.CloneFiles})
}

// watch plans what the parent does while the container runs.
func (a *aloneness) watch() {
	b := plan.Build(plan.Keeper, plan.NamespaceChapter)
	if len(a.maps) > 0 {
		b.Do("wait for the child", linux.Read{FD: linux.FD(aloneBorn), Size: 8})
	}
	for i := range a.maps {
		s := &a.maps[i]
		c := s.Call.(linux.WriteProc)
		reg := plan.Reg("map" + strconv.Itoa(i+1))
		b.Do(s.Why, linux.Openat{Dir: procFD, Path: c.File, Flags: linux.OWronly | linux.OCloexec}).As(reg).For(s.From)
		b.Do(s.Why, linux.Write{FD: linux.FD(reg), Data: c.Data}).For(s.From)
	}
	if len(a.maps) > 0 {
		b.Do("the ids have a meaning now", linux.WriteReg{FD: linux.FD(aloneMapped), Value: aloneMapped})
	}
	b.In(plan.KeeperChapter)
	b.Do("wait for its end", linux.Waitid{PID: alonePID, Status: aloneStatus})
	b.Do("end like it", linux.ExitWith{Code: aloneStatus})
	a.steps = append(a.steps, b.Steps...)
}
