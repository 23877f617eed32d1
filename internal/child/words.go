package child

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// WriteWords prints the program instruction by instruction, the closest of the three
// zooms: what the interpreter reads is all there. p is the plan that was lowered.
//
//	0x00410460  fsopen 430        0x416bc8 0x1 0x0 0x0 0x0 0x0 -> [0x4141f0]
//	            13 child: fs = fsopen("proc", FSOPEN_CLOEXEC)
//	0x004104b0  openat2 437       [0x414200 root] 0x416bd0 0x414210 0x18 0x0 0x0 -> [0x414218]
//	            ENOENT: 0x00410550
//	            14 child: at = openat2(root, "proc", ...) or ENOENT
//
// A word in brackets is the address of the value: it is read when the call is made,
// because an earlier result is kept there; its register's name follows. The number
// before a step is its place in the plan, counted from 1; an instruction without one
// was added by lowering, for the reason given. Jumps are printed where they do not
// lead to the next instruction.
func (prog *Program) WriteWords(w io.Writer, p *plan.Plan) error {
	b := bufio.NewWriter(w)
	prog.writeHead(b)
	for i, step := range prog.Steps {
		at := uint64(dataBase + i*InstructionSize)
		in := decodeInstruction(prog.Data[i*InstructionSize:])
		var s *plan.Step
		if step >= 0 {
			s = &p.Steps[step]
		}
		prog.writeInstruction(b, at, &in, s)
		for _, jump := range jumps(at, &in) {
			fmt.Fprintf(b, "            %s\n", jump)
		}
		if s == nil {
			fmt.Fprintf(b, "            added: %s\n", prog.added(&in))
			continue
		}
		fmt.Fprintf(b, "            %d %s: %s\n", step+1, s.Actor, s)
	}
	return b.Flush()
}

// writeHead tells what lies where.
func (prog *Program) writeHead(w io.Writer) {
	fmt.Fprintf(w, "%s: %d instructions of %d bytes from %#x on, %d bytes of data with them, the code at %#x\n",
		prog.Arch, len(prog.Steps), InstructionSize, dataBase, len(prog.Data), textBase+elfText)
	for i, r := range prog.FDs {
		fmt.Fprintf(w, "descriptor %d: %s\n", prog.FirstFD+i, r)
	}
	fmt.Fprintln(w)
}

func (prog *Program) writeInstruction(w io.Writer, at uint64, in *Instruction, s *plan.Step) {
	var args []plan.Arg
	if s != nil {
		args = s.Call.AppendArgs(nil)
	}
	words := make([]string, len(in.Args))
	for k, v := range in.Args {
		words[k] = fmt.Sprintf("%#x", v)
		if in.Deref&(1<<k) != 0 {
			words[k] = "[" + strings.TrimSpace(words[k]+" "+prog.register(args, k, v)) + "]"
		}
	}
	result := ""
	if in.Dst != 0 {
		result = fmt.Sprintf(" -> [%#x]", in.Dst)
	}
	call := fmt.Sprintf("%s %d", linux.SyscallName(in.Nr, prog.Arch), in.Nr)
	fmt.Fprintf(w, "%#08x  %-17s %s%s\n", at, call, strings.Join(words, " "), result)
}

// register is the name of the register that argument k, at an address, stands for.
func (prog *Program) register(args []plan.Arg, k int, addr uint64) string {
	switch {
	case addr == prog.Status+statusSync:
		return string(Sync)
	case k < len(args) && args[k].Kind == plan.RegArg:
		return args[k].Text
	}
	return ""
}

// jumps tells where an instruction leads to, in words, unless it is the next one.
func jumps(at uint64, in *Instruction) []string {
	target := func(distance int32) string { return fmt.Sprintf("%#08x", at+uint64(int64(distance))) }
	var list []string
	if in.Next != InstructionSize {
		list = append(list, "success: "+target(in.Next))
	}
	if in.Flags&flagClone != 0 {
		list = append(list, "parent: "+target(in.Other))
	}
	if in.Flags&flagZeroFails != 0 {
		list = append(list, "0: fails with EPIPE")
	}
	errors := tolerated(in)
	if errors != "" {
		list = append(list, errors+": "+target(in.Other))
	}
	return list
}

func tolerated(in *Instruction) string {
	if in.Flags&flagAnyError != 0 {
		return "any error"
	}
	var names []string
	for _, e := range in.Ok {
		if e != 0 {
			names = append(names, plan.Errno(e).Name())
		}
	}
	return strings.Join(names, ", ")
}

// added says why lowering added an instruction. The kinds are told apart by their
// calls, so that programs that are only run carry no text for it.
func (prog *Program) added(in *Instruction) string {
	switch linux.SyscallName(in.Nr, prog.Arch) {
	case "fcntl":
		return "the user's program must not inherit this descriptor"
	case "mmap":
		return "results and times go to memory that the host shares"
	case "exit_group":
		return "the end; a program that gets here did not become the user's"
	case "read":
		return "wait for the host"
	case "write":
		if in.Args[2] == messagePauseSize {
			return "ask whether the next step may be made"
		}
		return "it is the host's turn"
	}
	return "?"
}
