package child

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// The addresses at which a program's two segments are loaded. They are fixed, so
// that pointers can be written down; a program has no libraries that could want
// the same place, and an address above 4 MiB is above every vm.mmap_min_addr.
const (
	textBase  = 0x400000
	dataBase  = 0x410000
	traceBase = 0x10000000
)

// Options say how a plan is lowered.
type Options struct {
	Arch linux.Arch
	// Values are the registers that the host has set: descriptors.
	Values map[plan.Reg]int
	// FirstFD is the number from which on the program's descriptors are
	// placed: sync first, then Order. Below it lie the standard three and
	// those that the user's program is to inherit.
	FirstFD int
	// Order lists registers that must follow sync directly.
	Order []plan.Reg
	// Trace records results and times in shared memory.
	Trace bool
	// Pause asks the host before every step.
	Pause bool
	// Hold has the program wait for the host once more before it says that it is
	// ready: see MessageReady.
	Hold bool
	// Beside has the program wait for the host before each step that Awaits: the host makes
	// the plan's steps Beside when the process has been born.
	Beside bool
	// For is shown in the process's command line behind its name, if it is set: for whom
	// it is there.
	For string
	// Replace has strings of the program's arguments and environment that are others in
	// truth: those that no plan may hold.
	Replace map[string]string
	// Alone is for a plan that has no host, see Standalone: nobody is told
	// anything, and nothing is inherited but the standard descriptors.
	Alone bool
}

// Program is a lowered plan.
type Program struct {
	Arch linux.Arch
	// Data is the program's writable segment, loaded at dataBase: the
	// instructions, then what they point to.
	Data []byte
	// Steps maps each instruction to the index of its plan step, or -1 for
	// one that the lowering added.
	Steps []int
	// FDs lists the registers whose descriptors the program inherits, in the
	// order of their numbers from FirstFD on.
	FDs     []plan.Reg
	FirstFD int
	// Status is the address of the status block.
	Status uint64
	// Clone is the step by which the host itself makes the child, or -1 when
	// the program begins as the keeper.
	Clone int
	// For: see Options.
	For   string
	trace bool
}

// Lower translates the steps of Child and Keeper. The Host's clone step, if there
// is one, must come before them.
func Lower(p *plan.Plan, o Options) (*Program, error) {
	l := newLowering(p, o)
	if err := l.inherit(); err != nil {
		return nil, err
	}
	l.placeStructRegisters()
	l.ownFDs()
	if o.Trace {
		l.mapTrace()
	}
	l.keeperBefore()
	l.childSteps()
	l.exit()
	l.keeperAfter()
	if l.err != nil {
		return nil, l.err
	}
	l.finish()
	return &l.Program, nil
}

type lowering struct {
	Program
	plan *plan.Plan
	o    Options
	// regs says where registers are. early lists the steps whose arguments are laid
	// out ahead of their instruction, and words has the result.
	regs  map[plan.Reg]uint64
	early []int
	words map[int][6]uint64
	code  int // instructions written
	limit int // instructions that there is room for
	empty uint64
	// vectors remembers string arrays by their first element.
	vectors map[*string]uint64
	args    []plan.Arg
	clone   int // the keeper's clone instruction, or -1
	err     error
}

func newLowering(p *plan.Plan, o Options) *lowering {
	l := &lowering{plan: p, o: o, regs: make(map[plan.Reg]uint64, 48), clone: -1}
	l.Arch, l.FirstFD, l.Clone, l.For, l.trace = o.Arch, o.FirstFD, -1, o.For, o.Trace
	n := 8 + len(o.Order)
	last := plan.Host
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Actor != plan.Host {
			n++
			if o.Pause {
				n += 2
			}
			if s.Awaits {
				n++
			}
		} else if _, ok := s.Call.(linux.Clone); ok {
			l.Clone = i
		}
		if s.Actor != last {
			n += 2
			last = s.Actor
		}
	}
	l.limit = n
	l.Data = make([]byte, n*InstructionSize, n*InstructionSize+32<<10)
	l.Steps = make([]int, 0, n)
	l.Status = l.alloc(statusSize)
	l.put(l.Status, 8, messageFailed)
	l.put(l.Status+statusCode, 8, FailureCode)
	l.regs[Sync] = l.Status + statusSync
	return l
}

// inherit places the descriptors that the program needs: sync, o.Order, and then
// every register of the host's that a step mentions.
func (l *lowering) inherit() error {
	if l.o.Alone {
		l.put(l.regs[Sync], 8, ^uint64(0)) // no descriptor: reports go nowhere
	} else {
		l.inheritReg(Sync)
	}
	for _, r := range l.o.Order {
		if _, ok := l.o.Values[r]; !ok {
			return fmt.Errorf("lower: register %q has no value", r)
		}
		l.inheritReg(r)
	}
	for i := range l.plan.Steps {
		if s := &l.plan.Steps[i]; s.Actor != plan.Host {
			l.args = s.Call.AppendArgs(l.args[:0])
			l.inheritArgs(l.args)
			if l.hasOwnRegister(l.args, false) {
				l.early = append(l.early, i)
			}
		}
	}
	return nil
}

func (l *lowering) inheritArgs(args []plan.Arg) {
	for i := range args {
		if args[i].Kind == plan.RegArg {
			r := plan.Reg(args[i].Text)
			if _, set := l.regs[r]; !set {
				if _, ok := l.o.Values[r]; ok {
					l.inheritReg(r)
				}
			}
		}
		l.inheritArgs(args[i].List)
	}
}

func (l *lowering) inheritReg(r plan.Reg) {
	l.put(l.reg(r), 8, uint64(l.o.FirstFD+len(l.FDs)))
	l.FDs = append(l.FDs, r)
}

// placeStructRegisters lays out the structures that hold a register of the
// program's own, such as the descriptor in a control message. The interpreter cannot
// copy, so the register itself must live in the structure: it is laid out first.
func (l *lowering) placeStructRegisters() {
	for _, i := range l.early {
		var w [6]uint64
		l.args = l.plan.Steps[i].Call.AppendArgs(l.args[:0])
		for k := range l.args {
			w[k], _ = l.word(&l.args[k], true)
		}
		if l.words == nil {
			l.words = make(map[int][6]uint64)
		}
		l.words[i] = w
	}
}

func (l *lowering) hasOwnRegister(args []plan.Arg, inStruct bool) bool {
	for i := range args {
		a := &args[i]
		if a.Kind == plan.RegHome {
			return true
		}
		if a.Kind == plan.RegArg && inStruct {
			if _, set := l.regs[plan.Reg(a.Text)]; !set {
				return true
			}
		}
		if l.hasOwnRegister(a.List, inStruct || a.Kind == plan.Struct) {
			return true
		}
	}
	return false
}

// reg returns a register's address. A register that nothing has set holds -1, an
// invalid descriptor.
func (l *lowering) reg(r plan.Reg) uint64 {
	a, ok := l.regs[r]
	if !ok {
		a = l.alloc(8)
		l.put(a, 8, ^uint64(0))
		l.regs[r] = a
	}
	return a
}

// alloc reserves n zero bytes, aligned to 8.
func (l *lowering) alloc(n int) uint64 {
	at := (len(l.Data) + 7) &^ 7
	for len(l.Data) < at+n {
		l.Data = append(l.Data, make([]byte, at+n-len(l.Data))...)
	}
	return dataBase + uint64(at)
}

func (l *lowering) put(addr uint64, size uint8, v uint64) {
	b := l.Data[addr-dataBase:]
	switch size {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(b, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(b, uint32(v))
	default:
		binary.LittleEndian.PutUint64(b, v)
	}
}

// cstring lays out a string that comes from outside: a zero byte would end it early.
func (l *lowering) cstring(s string) uint64 {
	if strings.IndexByte(s, 0) >= 0 {
		l.fail(fmt.Errorf("string %q holds a zero byte", s))
	}
	return l.text(s)
}

func (l *lowering) text(s string) uint64 {
	if s == "" && l.empty != 0 {
		return l.empty
	}
	at := len(l.Data)
	l.Data = append(l.Data, s...)
	l.Data = append(l.Data, 0)
	a := dataBase + uint64(at)
	if s == "" {
		l.empty = a
	}
	return a
}

// word turns an argument into a machine word; the second result says that the
// word is an address to be dereferenced when the call is made.
func (l *lowering) word(a *plan.Arg, own bool) (uint64, bool) {
	switch a.Kind {
	case plan.FlagBits:
		if linux.IsOpenFlags(a.Names) {
			return uint64(linux.OpenFlags(a.Num).ForArch(l.Arch)), false
		}
		return a.Num, false
	case plan.Text:
		return l.cstring(a.Text), false
	case plan.Bytes:
		p := l.alloc(len(a.Text))
		copy(l.Data[p-dataBase:], a.Text)
		return p, false
	case plan.Vector:
		return l.vector(a.Words), false
	case plan.Struct:
		return l.structure(a.List, own), false
	case plan.Out:
		return l.alloc(int(a.Num)), false
	case plan.RegArg:
		return l.reg(plan.Reg(a.Text)), true
	case plan.RegAddr:
		return l.reg(plan.Reg(a.Text)), false
	case plan.Null:
		return 0, false
	}
	return a.Num, false
}

// vector lays out strings and the NULL-terminated array of pointers to them. Plans
// repeat the program's arguments for every directory of its search path, so the
// array of a slice that was laid out before is used again.
func (l *lowering) vector(list []string) uint64 {
	var key *string
	if len(list) > 0 {
		key = &list[0]
		if at, ok := l.vectors[key]; ok {
			return at
		}
	}
	at := l.alloc(8 * (len(list) + 1))
	for i, s := range list {
		if other, ok := l.o.Replace[s]; ok {
			s = other
		}
		l.put(at+uint64(8*i), 8, l.cstring(s))
	}
	if key != nil {
		if l.vectors == nil {
			l.vectors = make(map[*string]uint64)
		}
		l.vectors[key] = at
	}
	return at
}

// structure lays out a kernel structure. With own, registers that are not set yet
// get their home in it.
func (l *lowering) structure(members []plan.Arg, own bool) uint64 {
	size := 0
	for i := range members {
		size += int(memberSize(&members[i]))
	}
	at := l.alloc(size)
	p := at
	for i := range members {
		m := &members[i]
		switch {
		case m.Kind == plan.RegArg, m.Kind == plan.RegHome:
			l.registerMember(plan.Reg(m.Text), p, memberSize(m), own)
		default:
			w, _ := l.word(m, own)
			l.put(p, memberSize(m), w)
		}
		p += uint64(memberSize(m))
	}
	return at
}

// registerMember puts a register into a structure, at an address. One that the host
// has set is a number, and copied. One that the program sets by itself cannot be copied
// to there, so with own it is given its home there; that works once for each register.
func (l *lowering) registerMember(r plan.Reg, at uint64, size uint8, own bool) {
	if home, ok := l.regs[r]; ok {
		v := binary.LittleEndian.Uint64(l.Data[home-dataBase:])
		if v == ^uint64(0) {
			l.fail(fmt.Errorf("register %q, which the program sets, has its home elsewhere already", r))
		}
		l.put(at, size, v)
		return
	}
	if !own || size != 8 {
		l.fail(fmt.Errorf("register %q cannot live in a structure here", r))
		return
	}
	l.regs[r] = at
	l.put(at, 8, 0xffffffff) // no descriptor: as an int, which the kernel reads, that is -1
}

func memberSize(a *plan.Arg) uint8 {
	if a.Size == 0 {
		return 8
	}
	return a.Size
}

func (l *lowering) fail(err error) {
	if l.err == nil {
		l.err = fmt.Errorf("lower: %w", err)
	}
}
