package child

import (
	"encoding/binary"
	"fmt"

	"github.com/containr/containr/pkg/plan"
)

// Kernel answers a system call of a simulated program: a result, or a negative
// errno. mem is the program's data segment, loaded at dataBase.
type Kernel func(nr uint32, args [6]uint64, mem []byte) int64

// Outcome is how a simulated program ended.
type Outcome struct {
	// Made lists the plan steps whose calls were made, in order; -1 is a call
	// that lowering added.
	Made []int
	// Failed is the step whose error was not tolerated, or -1.
	Failed int
	Errno  plan.Errno
}

// maxSimulated bounds a simulation. Programs jump forward, but for the keeper, who waits as long as
// there is somebody to wait for: a longer one is wrong, or has a kernel whose children never end.
const maxSimulated = 1 << 16

// Simulate runs the program in Go, with kernel in the place of the kernel. It is the
// reference for the assembly: the same instruction format, the same decisions, one
// line for each. stop ends the simulation before an instruction, as a successful
// execve or exit_group does.
func (p *Program) Simulate(kernel Kernel, stop func(nr uint32, result int64) bool) (Outcome, error) {
	mem := append([]byte(nil), p.Data...)
	word := func(at uint64) uint64 { return binary.LittleEndian.Uint64(mem[at-dataBase:]) }
	out := Outcome{Failed: -1}
	for pc := uint64(dataBase); len(out.Made) < maxSimulated; {
		in := decodeInstruction(mem[pc-dataBase:])
		args := in.Args
		for i := range args {
			if in.Deref&(1<<i) != 0 {
				args[i] = word(args[i])
			}
		}
		r := kernel(in.Nr, args, mem)
		out.Made = append(out.Made, p.StepOf(pc))
		if in.Dst != 0 {
			binary.LittleEndian.PutUint64(mem[in.Dst-dataBase:], uint64(r))
		}
		if stop(in.Nr, r) {
			return out, nil
		}
		switch errno := uint16(-r); {
		case plan.Errno(errno) == plan.EAGAIN && r < 0 && in.Again > 0:
			binary.LittleEndian.PutUint16(mem[pc-dataBase+6:], in.Again-1)
		case r >= 0 && in.Flags&flagClone != 0 && r != 0:
			pc += uint64(int64(in.Other))
		case r == 0 && in.Flags&flagZeroFails != 0 && in.Flags&flagClone == 0:
			out.Failed, out.Errno = p.StepOf(pc), plan.EPIPE
			return out, nil
		case r >= 0:
			pc += uint64(int64(in.Next))
		case in.Flags&flagAnyError != 0, errno == in.Ok[0], errno == in.Ok[1], errno == in.Ok[2], errno == in.Ok[3]:
			pc += uint64(int64(in.Other))
		default:
			out.Failed, out.Errno = p.StepOf(pc), plan.Errno(errno)
			return out, nil
		}
	}
	return out, fmt.Errorf("simulation: more than %d calls", maxSimulated)
}

func decodeInstruction(b []byte) Instruction {
	in := Instruction{Nr: binary.LittleEndian.Uint32(b), Deref: b[4], Flags: b[5], Again: binary.LittleEndian.Uint16(b[6:])}
	for i := range in.Ok {
		in.Ok[i] = binary.LittleEndian.Uint16(b[8+2*i:])
	}
	for i := range in.Args {
		in.Args[i] = binary.LittleEndian.Uint64(b[16+8*i:])
	}
	in.Dst = binary.LittleEndian.Uint64(b[64:])
	in.Next = int32(binary.LittleEndian.Uint32(b[72:]))
	in.Other = int32(binary.LittleEndian.Uint32(b[76:]))
	return in
}
