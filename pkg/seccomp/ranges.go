package seccomp

import (
	"errors"
	"fmt"
	"strings"
)

// Range is a run of system call numbers of one ABI that the program treats
// alike.
type Range struct {
	First, Last uint32

	// Test is the instruction where the program begins to look at the
	// arguments, and 0 if it does not.
	Test int

	// Action is what the program returns for all of the range if Test is 0.
	Action Action
}

// Ranges returns what the program does with each number of an ABI, in order
// and without a gap. It follows the instructions, not the policy, for all
// numbers at once.
func (p *Program) Ranges(a Arch) ([]Range, error) {
	if !a.valid() {
		return nil, fmt.Errorf("seccomp program: no ranges for %s", a)
	}
	w := walker{program: p, audit: a.Audit()}
	first, last := uint32(0), ^uint32(0)
	switch a {
	case AMD64:
		last = x32Bit - 1
	case X32:
		first = x32Bit
	}
	if err := w.walk(0, dataNumber, first, last); err != nil {
		return nil, fmt.Errorf("seccomp program: %w", err)
	}
	return w.ranges, nil
}

// walker follows a program for a range of numbers.
type walker struct {
	program *Program
	audit   uint32
	ranges  []Range
}

// walk follows the program from pc for numbers first to last. loaded is the
// offset of the word in the accumulator: the number or the architecture.
func (w *walker) walk(pc int, loaded, first, last uint32) error {
	for ; pc < len(w.program.Instructions); pc++ {
		in := w.program.Instructions[pc]
		switch in.Code {
		case opLoad:
			if in.K != dataNumber && in.K != dataArch {
				w.add(Range{First: first, Last: last, Test: pc})
				return nil
			}
			loaded = in.K
		case opRet:
			w.add(Range{First: first, Last: last, Action: Action(in.K)})
			return nil
		case opJump:
			pc += int(in.K)
		case opJEQ, opJGE, opJGT:
			if loaded == dataArch {
				pc += in.skip(w.audit)
				continue
			}
			return w.branch(pc, first, last)
		default:
			return fmt.Errorf("instruction %d: code %#x in the search for the number", pc, in.Code)
		}
	}
	return errors.New("no return at its end")
}

// branch walks on both sides of a comparison of the number, in ascending order.
func (w *walker) branch(pc int, first, last uint32) error {
	in := w.program.Instructions[pc]
	// cuts are where the answer changes.
	cuts := []uint32{in.K}
	if in.Code != opJGE && in.K != ^uint32(0) {
		cuts = append(cuts, in.K+1)
	}
	for _, cut := range cuts {
		if first < cut && cut <= last {
			if err := w.walk(pc+1+in.skip(first), dataNumber, first, cut-1); err != nil {
				return err
			}
			first = cut
		}
	}
	return w.walk(pc+1+in.skip(first), dataNumber, first, last)
}

// add appends a range, or lengthens the last one.
func (w *walker) add(r Range) {
	if n := len(w.ranges); n > 0 {
		before := &w.ranges[n-1]
		if before.Test == r.Test && before.Action == r.Action {
			before.Last = r.Last
			return
		}
	}
	w.ranges = append(w.ranges, r)
}

// Tree returns the ranges of all ABIs of a native one's family as text: the
// leaves of the search trees from left to right.
func (p *Program) Tree(native Arch) (string, error) {
	var b strings.Builder
	for _, a := range native.family() {
		ranges, err := p.Ranges(a)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s\n", a)
		for _, r := range ranges {
			fmt.Fprintf(&b, "  %s\n", r.text(a))
		}
	}
	return b.String(), nil
}

// text returns a range in words.
func (r Range) text(a Arch) string {
	first := numberText(a.Audit(), r.First)
	what := r.Action.String()
	if r.Test != 0 {
		what = fmt.Sprintf("ask the arguments, from instruction %d", r.Test)
	}
	switch {
	case r.First == r.Last:
		return fmt.Sprintf("%s: %s", first, what)
	case r.Last == ^uint32(0) || a == AMD64 && r.Last == x32Bit-1:
		return fmt.Sprintf("%s and above: %s", first, what)
	}
	return fmt.Sprintf("%s to %s: %s", first, numberText(a.Audit(), r.Last), what)
}
