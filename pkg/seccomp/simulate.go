package seccomp

import (
	"errors"
	"fmt"
)

// Call is what the kernel shows a filter of a system call: struct seccomp_data
// of linux/seccomp.h.
type Call struct {
	Number uint32 // with x32's bit if made by that ABI
	Audit  uint32 // see Arch.Audit
	IP     uint64 // instruction pointer; no compiled policy looks at it
	Args   [maxArgs]uint64
}

// word returns the 32 bits at an offset of struct seccomp_data.
func (c *Call) word(offset uint32) (uint32, error) {
	var value uint64
	switch {
	case offset%4 != 0 || offset >= dataSize:
		return 0, fmt.Errorf("load from offset %d", offset)
	case offset == dataNumber:
		return c.Number, nil
	case offset == dataArch:
		return c.Audit, nil
	case offset < dataArgs:
		value = c.IP
	default:
		value = c.Args[(offset-dataArgs)/8]
	}
	if offset%8 != 0 {
		value >>= 32
	}
	return uint32(value), nil
}

// Simulate runs the program for one call, as the kernel would. It returns what
// the program returns and how many instructions were executed. It knows the
// instructions that this package and libseccomp make; another instruction, or a
// program without an end, is an error.
func (p *Program) Simulate(call Call) (action Action, executed int, err error) {
	var a uint32
	for pc := 0; pc < len(p.Instructions); pc++ {
		in := p.Instructions[pc]
		executed++
		switch in.Code {
		case opLoad:
			if a, err = call.word(in.K); err != nil {
				return 0, executed, fmt.Errorf("seccomp program: instruction %d: %w", pc, err)
			}
		case opAnd:
			a &= in.K
		case opJump:
			pc += int(in.K)
		case opRet:
			return Action(in.K), executed, nil
		case opJEQ, opJGT, opJGE, opJSet:
			pc += in.skip(a)
		default:
			return 0, executed, fmt.Errorf("seccomp program: instruction %d: unknown code %#x", pc, in.Code)
		}
	}
	return 0, executed, errors.New("seccomp program: no return at its end")
}

// skip returns how many instructions a comparison skips.
func (in Instruction) skip(a uint32) int {
	var holds bool
	switch in.Code {
	case opJEQ:
		holds = a == in.K
	case opJGT:
		holds = a > in.K
	case opJGE:
		holds = a >= in.K
	case opJSet:
		holds = a&in.K != 0
	}
	if holds {
		return int(in.JT)
	}
	return int(in.JF)
}
