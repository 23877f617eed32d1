package seccomp

import (
	"fmt"
	"strings"
)

// Disassemble returns the program as text, one numbered line for each
// instruction. System calls and architectures are named, a jump to a return is
// shown as that return, and a jump to the next line is left unsaid:
//
//	0  load arch
//	1  if not arch == amd64: kill thread
//	2  load number
//	3  if number >= 39 (getpid): goto 7
//	4  if number == 2 (open): errno EPERM, else allow
func (p *Program) Disassemble() string {
	var b strings.Builder
	states := p.states()
	for pc := range p.Instructions {
		fmt.Fprintf(&b, "%4d  %s\n", pc, p.text(pc, states[pc]))
	}
	return b.String()
}

// state is what is known when an instruction is reached.
type state struct {
	reached bool
	offset  uint32 // of the word in the accumulator
	mask    uint32 // that was put over it
	audit   uint32 // the audit architecture if it has been asked, or 0
}

// states computes the state at each instruction. Jumps go only forward, so one
// pass is enough. Where two ways meet the first one is as good as the other:
// this compiler joins ways only where the state is the same or does not matter.
func (p *Program) states() []state {
	states := make([]state, len(p.Instructions))
	enter := func(pc int, s state) {
		if pc < len(states) && !states[pc].reached {
			states[pc] = s
		}
	}
	enter(0, state{reached: true, mask: ^uint32(0)})
	for pc, in := range p.Instructions {
		s := states[pc]
		switch in.Code {
		case opRet:
		case opLoad:
			s.offset, s.mask = in.K, ^uint32(0)
			enter(pc+1, s)
		case opAnd:
			s.mask &= in.K
			enter(pc+1, s)
		case opJump:
			enter(pc+1+int(in.K), s)
		default:
			enter(pc+1+int(in.JF), s)
			if s.offset == dataArch && in.Code == opJEQ {
				s.audit = in.K
			}
			enter(pc+1+int(in.JT), s)
		}
	}
	return states
}

// text returns one instruction in words.
func (p *Program) text(pc int, s state) string {
	in := p.Instructions[pc]
	switch in.Code {
	case opLoad:
		return "load " + wordName(in.K)
	case opAnd:
		return fmt.Sprintf("mask with %#x", in.K)
	case opJump:
		return p.destination(pc + 1 + int(in.K))
	case opRet:
		return Action(in.K).String()
	case opJEQ, opJGT, opJGE, opJSet:
		yes, no := p.destination(pc+1+int(in.JT)), p.destination(pc+1+int(in.JF))
		switch {
		case in.JF == 0:
			return fmt.Sprintf("if %s: %s", in.question(s), yes)
		case in.JT == 0:
			return fmt.Sprintf("if not %s: %s", in.question(s), no)
		}
		return fmt.Sprintf("if %s: %s, else %s", in.question(s), yes, no)
	}
	return fmt.Sprintf("unknown code %#x %d %d %#x", in.Code, in.JT, in.JF, in.K)
}

// destination says where a jump goes.
func (p *Program) destination(pc int) string {
	if pc < len(p.Instructions) && p.Instructions[pc].Code == opRet {
		return Action(p.Instructions[pc].K).String()
	}
	return fmt.Sprintf("goto %d", pc)
}

// question returns a comparison in words.
func (in Instruction) question(s state) string {
	left := wordName(s.offset)
	if s.mask != ^uint32(0) {
		left += fmt.Sprintf(" & %#x", s.mask)
	}
	operator := "=="
	switch in.Code {
	case opJSet:
		return fmt.Sprintf("%s & %#x != 0", left, in.K)
	case opJGT:
		operator = ">"
	case opJGE:
		operator = ">="
	}
	switch {
	case s.offset == dataArch:
		return fmt.Sprintf("%s %s %s", left, operator, auditName(in.K))
	case s.offset == dataNumber && in.Code == opJGE && in.K == x32Bit:
		return fmt.Sprintf("%s >= %#x (any x32 call)", left, in.K)
	case s.offset == dataNumber:
		return fmt.Sprintf("%s %s %s", left, operator, numberText(s.audit, in.K))
	}
	return fmt.Sprintf("%s %s %#x", left, operator, in.K)
}

// wordName names a word of struct seccomp_data.
func wordName(offset uint32) string {
	switch offset {
	case dataNumber:
		return "number"
	case dataArch:
		return "arch"
	}
	name, half := "ip", "low"
	if offset >= dataArgs {
		name = fmt.Sprintf("argument%d", (offset-dataArgs)/8)
	}
	if offset%8 != 0 {
		half = "high"
	}
	return name + "." + half
}

// auditName names an audit architecture by its ABI, amd64 for that of amd64
// and x32.
func auditName(audit uint32) string {
	for _, a := range []Arch{AMD64, I386, ARM64, ARM} {
		if a.Audit() == audit {
			return a.String()
		}
	}
	return fmt.Sprintf("%#x", audit)
}

// numberText renders a number with the name that it has in its ABI, if any.
func numberText(audit, number uint32) string {
	a := abiOf(audit, number)
	if a == X32 {
		plain := fmt.Sprintf("x32 %d", number&^x32Bit)
		switch {
		case number == ^uint32(0):
			plain = "-1"
		case number > 1<<31:
			plain = fmt.Sprintf("%#x", number)
		}
		if name, ok := a.Name(number); ok {
			return fmt.Sprintf("%s (%s)", plain, name)
		}
		return plain
	}
	if name, ok := a.Name(number); ok {
		return fmt.Sprintf("%d (%s)", number, name)
	}
	return fmt.Sprint(number)
}

// abiOf returns the ABI of a number under an audit architecture.
func abiOf(audit, number uint32) Arch {
	switch audit {
	case auditAMD64:
		if number >= x32Bit {
			return X32
		}
		return AMD64
	case auditI386:
		return I386
	case auditARM64:
		return ARM64
	case auditARM:
		return ARM
	}
	return 0
}
