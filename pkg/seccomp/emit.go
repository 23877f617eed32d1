package seccomp

import (
	"fmt"
	"slices"
)

// This file writes the program. It is written backward, from the last
// instruction to the first: whatever an instruction jumps to is already there.

// The instructions of classic BPF that filters use (linux/bpf_common.h). The
// kernel can evaluate all of them in advance to build its bitmap of calls that
// are always allowed (seccomp_is_const_allow in kernel/seccomp.c, Linux 5.11); a
// filter with any other would be run for every call.
const (
	opLoad = 0x20 // BPF_LD|BPF_W|BPF_ABS: accumulator = word at K of seccomp_data
	opAnd  = 0x54 // BPF_ALU|BPF_AND|BPF_K
	opJump = 0x05 // BPF_JMP|BPF_JA: skip K instructions
	opJEQ  = 0x15 // BPF_JMP|BPF_JEQ|BPF_K
	opJGT  = 0x25 // BPF_JMP|BPF_JGT|BPF_K
	opJGE  = 0x35 // BPF_JMP|BPF_JGE|BPF_K
	opJSet = 0x45 // BPF_JMP|BPF_JSET|BPF_K: is any bit of K set
	opRet  = 0x06 // BPF_RET|BPF_K
)

// Offsets in struct seccomp_data (linux/seccomp.h).
const (
	dataNumber = 0
	dataArch   = 4
	dataIP     = 8
	dataArgs   = 16
	dataSize   = 64
)

// maxSkip is the longest conditional jump: struct sock_filter has 8 bits for it.
const maxSkip = 255

// emitter holds the program while it is written.
type emitter struct {
	code []Instruction // in reverse
	rets []placedReturn
}

// placedReturn remembers the last place of a return of an action.
type placedReturn struct {
	action Action
	pos    int
}

// label is something to jump to: an instruction, by its index in
// emitter.code, or the return of an action, which is written where needed.
type label struct {
	pos    int // or returns
	action Action
}

func returning(a Action) label { return label{pos: returns, action: a} }

func (e *emitter) emit(code uint16, k uint32) int {
	e.code = append(e.code, Instruction{Code: code, K: k})
	return len(e.code) - 1
}

// reach returns the place of a label that the next instructions can jump to,
// after writing a return or a long jump nearby if there is none.
func (e *emitter) reach(l label) int {
	// The caller writes at most one more helper before its own jump.
	near := func(pos int) bool { return len(e.code)+1-pos-1 <= maxSkip }
	if l.pos != returns {
		if near(l.pos) {
			return l.pos
		}
		return e.emit(opJump, uint32(len(e.code)-l.pos-1))
	}
	for i := range e.rets {
		if r := &e.rets[i]; r.action == l.action {
			if !near(r.pos) {
				r.pos = e.emit(opRet, uint32(l.action))
			}
			return r.pos
		}
	}
	pos := e.emit(opRet, uint32(l.action))
	e.rets = append(e.rets, placedReturn{l.action, pos})
	return pos
}

// jump writes a comparison with k and returns where it is.
func (e *emitter) jump(code uint16, k uint32, yes, no label) label {
	y, n := e.reach(yes), e.reach(no)
	at := e.emit(code, k)
	e.code[at].JT, e.code[at].JF = uint8(at-y-1), uint8(at-n-1)
	return label{pos: at}
}

// emitTarget writes what a target leads to, if it is not there yet. loaded
// says that the word of its test is in the accumulator.
func (c *compiler) emitTarget(t target, loaded bool) label {
	if t.test == returns {
		return returning(t.action)
	}
	to := &c.tests[t.test]
	if !to.placed {
		c.emitTest(to)
	}
	if loaded {
		return label{pos: to.pos}
	}
	return label{pos: to.loadPos}
}

// emitTest writes a test, after the tests that follow it.
func (c *compiler) emitTest(t *test) {
	no, yes := c.emitAfter(t, t.no), c.emitAfter(t, t.yes)
	var at label
	switch {
	case t.op == wordGreater:
		at = c.jump(opJGT, t.value, yes, no)
	case t.op == wordGreaterEqual:
		at = c.jump(opJGE, t.value, yes, no)
	case t.op == wordMasked && t.value == 0:
		at = c.jump(opJSet, t.mask, no, yes)
	default:
		at = c.jump(opJEQ, t.value, yes, no)
	}
	t.pos = at.pos
	if t.op == wordMasked && t.value != 0 {
		t.pos = c.emit(opAnd, t.mask)
	}
	if t.load {
		t.loadPos = c.emit(opLoad, t.word.offset())
	}
	t.placed = true
}

// emitAfter writes what follows a test.
func (c *compiler) emitAfter(t *test, to target) label {
	loaded := to.test != returns && t.keepsWord() && t.word == c.tests[to.test].word
	return c.emitTarget(to, loaded)
}

// emitFilter writes the whole program. An audit architecture that the policy
// does not list kills the thread, as libseccomp's default does.
func (c *compiler) emitFilter() ([]Instruction, error) {
	c.code = make([]Instruction, 0, 512)
	next := returning(KillThread)
	for _, audit := range c.auditOrder() {
		tree := c.emitNumbers(audit)
		next = c.jump(opJEQ, audit, tree, next)
	}
	c.emit(opLoad, dataArch)
	if len(c.code) > MaxInstructions {
		return nil, fmt.Errorf("the filter has %d instructions, the kernel takes at most %d", len(c.code), MaxInstructions)
	}
	program := make([]Instruction, len(c.code))
	for i, in := range c.code {
		program[len(program)-1-i] = in
	}
	return program, nil
}

// auditOrder returns the audit architectures of the filter from the last to
// the first: the native one is asked for first.
func (c *compiler) auditOrder() []uint32 {
	audits := make([]uint32, 0, 2)
	for _, a := range c.native.family() {
		audit := a.Audit()
		if c.tables[a-1] != nil && audit != c.native.Audit() && !slices.Contains(audits, audit) {
			audits = append(audits, audit)
		}
	}
	return append(audits, c.native.Audit())
}

// emitNumbers writes everything for one audit architecture: load the number
// and search it.
func (c *compiler) emitNumbers(audit uint32) label {
	var root label
	switch audit {
	case auditAMD64:
		root = c.emitAMD64()
	case auditI386:
		root = c.emitABI(I386)
	case auditARM64:
		root = c.emitABI(ARM64)
	case auditARM:
		root = c.emitABI(ARM)
	}
	return c.emitLoad(dataNumber, root)
}

// emitAMD64 writes the trees of amd64 and x32, which share an audit
// architecture, and the test that tells them apart.
func (c *compiler) emitAMD64() label {
	var x32 label
	if c.tables[X32-1] != nil {
		x32 = c.emitABI(X32)
	} else {
		// A tracer makes the kernel skip a call by changing its number to
		// -1, and the filter is asked again (since Linux 4.8): that is not
		// an x32 call.
		x32 = c.jump(opJEQ, ^uint32(0), returning(c.defaultAction), returning(KillThread))
	}
	return c.jump(opJGE, x32Bit, x32, c.emitABI(AMD64))
}

// emitABI writes the tree of one ABI.
func (c *compiler) emitABI(a Arch) label {
	if c.tables[a-1] == nil {
		return returning(KillThread)
	}
	spans := c.spans[a-1]
	return c.emitTree(spans, cutLeaves(spans))
}

// emitLoad writes a load whose next instruction is at a label.
func (c *compiler) emitLoad(offset uint32, next label) label {
	if next.pos == returns {
		return next // nobody looks at the accumulator
	}
	if next.pos != len(c.code)-1 {
		c.emit(opJump, uint32(len(c.code)-next.pos-1))
	}
	return label{pos: c.emit(opLoad, offset)}
}
