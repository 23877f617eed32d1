package child

import (
	"encoding/binary"
	"fmt"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// ownFDs makes the program's first calls those that keep sync, and what was asked
// to stay beside it, from the user's program; the preamble had to leave them open
// across one execve.
func (l *lowering) ownFDs() {
	if l.o.Alone {
		return
	}
	const setFlags, closeOnExec = 2, 1
	for i := range 1 + len(l.o.Order) {
		l.raw("fcntl", -1, 0, uint64(l.FirstFD+i), setFlags, closeOnExec)
	}
}

// keeperBefore emits what the keeper does up to its clone.
func (l *lowering) keeperBefore() {
	for i := 0; i < len(l.plan.Steps); i++ {
		s := &l.plan.Steps[i]
		if s.Actor != plan.Keeper {
			continue
		}
		at := l.step(i)
		if _, ok := s.Call.(linux.Clone); ok {
			l.clone = at
			return
		}
	}
}

// childSteps emits the child's steps, group by group, and the handing over of the
// baton around the host's.
func (l *lowering) childSteps() {
	steps := l.plan.Steps
	born := false
	for i := 0; i < len(steps); {
		s := &steps[i]
		switch {
		case s.Actor == plan.Child:
			born = true
			i = l.group(i)
		case s.Actor == plan.Host && born:
			i = l.hostBlock(i)
		default:
			if _, ok := s.Call.(linux.Clone); ok {
				born = true
			}
			i++
		}
	}
}

// hostBlock emits the child's side of a run of host steps: tell the host that it
// is its turn (unless it need not wait for that), and wait until it is done. For what
// a later verb does nobody waits.
func (l *lowering) hostBlock(i int) int {
	steps := l.plan.Steps
	eager, none := true, true
	for ; i < len(steps) && steps[i].Actor != plan.Child; i++ {
		if steps[i].Actor == plan.Host && steps[i].Later == "" {
			eager, none = eager && steps[i].Eager, false
		}
	}
	if i == len(steps) || none {
		return i // nothing for the child to wait for
	}
	if !eager {
		l.raw("write", -1, 0, l.reg(Sync), l.text(messageBaton), messageBatonSize)
	}
	l.waitForHost()
	return i
}

func (l *lowering) waitForHost() {
	l.raw("read", -1, flagZeroFails, l.reg(Sync), l.alloc(8), 1)
}

// keeperAfter emits what the keeper does after its clone, and sends it there.
func (l *lowering) keeperAfter() {
	if l.clone < 0 {
		return
	}
	l.patch(l.clone, 76, (l.code-l.clone)*InstructionSize)
	after := false
	for i := 0; i < len(l.plan.Steps); {
		s := &l.plan.Steps[i]
		_, isClone := s.Call.(linux.Clone)
		switch {
		case s.Actor == plan.Keeper && after:
			i = l.group(i)
		default:
			after = after || s.Actor == plan.Keeper && isClone
			i++
		}
	}
}

// group emits a step with its dependent ones and returns the index behind them.
//
//	head   success: first Then, or behind the Elses   tolerated: first Else
//	Then   the last one jumps over the Elses, or, if it is Again, to the head
//	Else   falls through
func (l *lowering) group(i int) int {
	steps := l.plan.Steps
	head := l.step(i)
	end := i + 1
	lastThen := -1
	for ; end < len(steps) && steps[end].Actor == steps[i].Actor && (steps[end].When == plan.Then || steps[end].When == plan.Again); end++ {
		lastThen = l.step(end)
	}
	elses := l.code
	firstElse := end
	for ; end < len(steps) && steps[end].Actor == steps[i].Actor && steps[end].When == plan.Else; end++ {
		l.step(end)
	}
	behind := l.code
	l.patch(head, 76, (elses-head)*InstructionSize)
	loops := lastThen >= 0 && steps[firstElse-1].When == plan.Again
	if loops {
		behind = head
	}
	switch {
	case loops, lastThen >= 0 && end > firstElse:
		l.patch(lastThen, 72, (behind-lastThen)*InstructionSize)
		l.patch(lastThen, 76, (behind-lastThen)*InstructionSize)
	case end > firstElse:
		l.patch(head, 72, (behind-head)*InstructionSize)
	}
	return end
}

// step emits one step and returns the index of its instruction.
func (l *lowering) step(i int) int {
	s := &l.plan.Steps[i]
	if l.o.Hold && isReady(s.Call) || l.o.Beside && s.Awaits {
		l.waitForHost()
	}
	if l.o.Pause && s.Actor == plan.Child {
		l.raw("write", -1, 0, l.reg(Sync), l.pauseMessage(i), messagePauseSize)
		l.waitForHost()
	}
	var args [6]uint64
	var deref uint8
	l.args = s.Call.AppendArgs(l.args[:0])
	if len(l.args) > 6 {
		l.fail(fmt.Errorf("%s has %d arguments", s.Call.Name(), len(l.args)))
		return l.code
	}
	if w, ok := l.words[i]; ok {
		args = w
		for k := range l.args {
			if l.args[k].Kind == plan.RegArg {
				deref |= 1 << k
			}
		}
	} else {
		for k := range l.args {
			w, indirect := l.word(&l.args[k], false)
			args[k] = w
			if indirect {
				deref |= 1 << k
			}
		}
	}
	return l.instruction(i, s, args, deref)
}

// isReady tells the call that says that only the user's program is left.
func isReady(c plan.Call) bool {
	w, ok := c.(linux.Write)
	return ok && w.FD == linux.FD(Sync) && w.Data == MessageReady
}

func (l *lowering) instruction(i int, s *plan.Step, args [6]uint64, deref uint8) int {
	nr, ok := linux.SyscallNumber(s.Call.Name(), l.Arch)
	if !ok {
		l.fail(fmt.Errorf("no system call %s on %s", s.Call.Name(), l.Arch))
	}
	flags := uint8(0)
	if s.TolerateAny {
		flags |= flagAnyError
	}
	if s.ZeroFails {
		flags |= flagZeroFails
	}
	if _, ok := s.Call.(linux.Clone); ok {
		flags |= flagClone
	}
	if l.trace {
		flags |= flagStamp
	}
	dst := uint64(0)
	if s.Result != "" {
		dst = l.reg(s.Result)
	}
	at := l.emit(nr, deref, flags, args, dst, i)
	if c, ok := s.Call.(linux.Openat2); ok && c.Resolve&linux.ResolveInRoot != 0 && plan.Reg(c.Dir) != s.Result {
		l.put(l.addr(at)+6, 2, again)
	}
	for k, e := range s.Tolerate {
		l.put(l.addr(at)+8+uint64(2*k), 2, uint64(e))
	}
	return at
}

// again is how often a path with ".." in it is looked up anew: the kernel answers EAGAIN
// whenever something was renamed meanwhile, anywhere on the machine, as it cannot tell
// then that the path stays inside.
const again = 1000

// raw emits a call that is not a step of the plan. An argument that is the address
// of sync stands for its value.
func (l *lowering) raw(name string, step int, flags uint8, args ...uint64) {
	nr, _ := linux.SyscallNumber(name, l.Arch)
	var a [6]uint64
	copy(a[:], args)
	deref := uint8(0)
	if len(args) > 0 && args[0] == l.regs[Sync] {
		deref = 1
	}
	l.emit(nr, deref, flags, a, 0, step)
}

func (l *lowering) emit(nr uint32, deref, flags uint8, args [6]uint64, dst uint64, step int) int {
	if l.code == l.limit {
		l.fail(fmt.Errorf("more than %d instructions", l.limit))
		return 0
	}
	at := l.code
	l.code++
	b := l.Data[at*InstructionSize : (at+1)*InstructionSize]
	binary.LittleEndian.PutUint32(b, nr)
	b[4], b[5] = deref, flags
	for i, v := range args {
		binary.LittleEndian.PutUint64(b[16+8*i:], v)
	}
	binary.LittleEndian.PutUint64(b[64:], dst)
	binary.LittleEndian.PutUint32(b[72:], InstructionSize)
	binary.LittleEndian.PutUint32(b[76:], InstructionSize)
	l.Steps = append(l.Steps, step)
	return at
}

func (l *lowering) addr(instruction int) uint64 {
	return dataBase + uint64(instruction*InstructionSize)
}

func (l *lowering) patch(instruction int, field uint64, v int) {
	l.put(l.addr(instruction)+field, 4, uint64(uint32(int32(v))))
}

// pauseMessage is the message "may I make step i?".
func (l *lowering) pauseMessage(i int) uint64 {
	at := l.alloc(messagePauseSize)
	l.put(at, 4, uint64(i))
	return at
}

// TraceFD is the register of the shared memory that a traced program writes its
// results to.
const TraceFD plan.Reg = "trace"

// mapTrace makes the program's next call the mapping of the shared trace.
func (l *lowering) mapTrace() {
	const protReadWrite, mapSharedFixed = 3, 0x1 | 0x10
	l.inheritReg(TraceFD)
	size := uint64(l.limit*InstructionSize+4095) &^ 4095
	l.put(l.Status+statusDelta, 8, traceBase-dataBase)
	nr, _ := linux.SyscallNumber("mmap", l.Arch)
	args := [6]uint64{traceBase, size, protReadWrite, mapSharedFixed, l.reg(TraceFD), 0}
	l.emit(nr, 1<<4, 0, args, 0, -1)
}

// exit emits the end of an actor's part. It is reached only if the plan forgot to
// end in an execve or exit_group that cannot be tolerated away.
func (l *lowering) exit() {
	nr, _ := linux.SyscallNumber("exit_group", l.Arch)
	l.emit(nr, 0, 0, [6]uint64{FailureCode}, 0, -1)
}

// finish ends the last part and pads the segment to whole pages.
func (l *lowering) finish() {
	l.exit()
	if pad := len(l.Data) % 4096; pad != 0 {
		l.Data = append(l.Data, make([]byte, 4096-pad)...)
	}
}

// StepOf returns the plan step that the instruction at an address belongs to, or
// -1.
func (p *Program) StepOf(pc uint64) int {
	i := int(pc-dataBase) / InstructionSize
	if pc < dataBase || i >= len(p.Steps) {
		return -1
	}
	return p.Steps[i]
}
