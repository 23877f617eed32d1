package runtime

import (
	"io"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// WriteWords prints the program that Start would run for the plan on the
// architecture, instruction by instruction; see child.Program.WriteWords.
func WriteWords(w io.Writer, p *plan.Plan, arch linux.Arch, preserveFDs int) error {
	o := child.Options{Arch: arch, Values: fromOutside(p), FirstFD: 3 + preserveFDs}
	if _, waits := o.Values[start]; waits {
		o.Order = []plan.Reg{start}
	}
	prog, err := child.Lower(p, o)
	if err != nil {
		return err
	}
	return prog.WriteWords(w, p)
}

// fromOutside are the registers that the program reads and never sets: descriptors
// that the host opens. Their numbers here do not matter, since the program gets them
// under numbers of its own.
func fromOutside(p *plan.Plan) map[plan.Reg]int {
	values := make(map[plan.Reg]int)
	own := map[plan.Reg]bool{child.Sync: true}
	for i := range p.Steps {
		if p.Steps[i].Actor != plan.Host {
			own[p.Steps[i].Result] = true
		}
	}
	for i := range p.Steps {
		if p.Steps[i].Actor != plan.Host {
			readRegisters(p.Steps[i].Call.AppendArgs(nil), own, values)
		}
	}
	return values
}

func readRegisters(args []plan.Arg, own map[plan.Reg]bool, values map[plan.Reg]int) {
	for i := range args {
		if r := plan.Reg(args[i].Text); args[i].Kind == plan.RegArg && !own[r] {
			values[r] = -1
		}
		readRegisters(args[i].List, own, values)
	}
}

// WriteELF writes an executable file that makes the plan's container without any
// runtime, and returns the steps that it leaves out; see child.Standalone. It is for
// the machine's own architecture.
func WriteELF(w io.Writer, p *plan.Plan) (omitted []plan.Step, err error) {
	alone, omitted, err := child.Standalone(p)
	if err != nil {
		return nil, err
	}
	return omitted, child.WriteELF(w, alone)
}
