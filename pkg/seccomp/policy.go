package seccomp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Disabled reports whether a policy means that there is to be no filter at
// all: it is nil, or has neither a default action nor rules (as runc reads it).
func Disabled(policy *specs.LinuxSeccomp) bool {
	return policy == nil || policy.DefaultAction == "" && len(policy.Syscalls) == 0
}

// Compile makes the filter of a policy for a kernel whose native ABI is arch.
// The filter knows arch, and those of the policy's other architectures that
// such a kernel can serve.
//
// Errors name the field of the policy that is wrong. A policy that is
// [Disabled] is an error, for there is no program to return. Compile keeps no
// reference to the policy.
func Compile(policy *specs.LinuxSeccomp, arch Arch) (*Program, error) {
	if Disabled(policy) {
		return nil, errors.New("seccomp policy: no default action and no rules")
	}
	if !arch.valid() || arch == X32 {
		return nil, fmt.Errorf("seccomp policy: %s is not the native architecture of a kernel", arch)
	}
	c := compiler{
		native: arch,
		rules:  make([]rule, 0, len(policy.Syscalls)+multiplexedCalls),
		conds:  make([]condition, 0, len(policy.Syscalls)+multiplexedCalls),
	}
	flags, err := c.readPolicy(policy)
	if err != nil {
		return nil, fmt.Errorf("seccomp policy: %w", err)
	}
	c.buildTrees()
	instructions, err := c.emitFilter()
	if err != nil {
		return nil, fmt.Errorf("seccomp policy: %w", err)
	}
	return &Program{Instructions: instructions, Flags: flags, Unknown: c.unknown}, nil
}

// Check finds what is wrong with a policy on any architecture. What Compile may
// still find is two rules that contradict each other, and a program that is too
// long.
func Check(policy *specs.LinuxSeccomp) error {
	var c compiler // without a native ABI: no table is filled
	if _, err := c.readPolicy(policy); err != nil {
		return fmt.Errorf("seccomp policy: %w", err)
	}
	return nil
}

// compiler holds what is known about one policy while it is compiled.
type compiler struct {
	native        Arch
	abis          []Arch // of the filter, in the order of Arch.family
	defaultAction Action
	notify        bool // some rule asks for Notify
	unknown       []string

	conds  []condition              // backs rule.conds
	rules  []rule                   // in the policy's order
	links  []link                   // lists of rules, for the tables
	tables [archCount]*outcomeTable // by Arch-1; nil for an ABI not in the filter

	graph                     // of argument tests; see args.go
	spans   [archCount][]span // by Arch-1; see tree.go
	emitter                   // see emit.go
}

// rule is an alternative with conditions, all of which must hold.
type rule struct {
	action Action
	conds  []condition // one per argument, by ascending argument
	source int         // which of the policy's rules it comes from
}

// condition compares one argument.
type condition struct {
	arg   uint8
	op    operator
	value uint64
	mask  uint64 // of maskedEqual: value has no bits outside of it
}

// operator is the comparison of a condition.
type operator uint8

const (
	equal operator = iota + 1
	notEqual
	less
	lessEqual
	greater
	greaterEqual
	maskedEqual
)

// always reports whether the rule matches every call of an ABI: it has no
// conditions, or only masked ones whose mask is empty there.
func (r *rule) always(wide bool) bool {
	for i := range r.conds {
		mask := r.conds[i].mask
		if !wide {
			mask = uint64(uint32(mask))
		}
		if r.conds[i].op != maskedEqual || mask != 0 {
			return false
		}
	}
	return true
}

// outcomeTable is what the policy says about each number of one ABI.
type outcomeTable struct {
	entries [tableSize]entry
	last    int // highest slot that the policy names, private calls aside; -1 if none
}

// The table has one slot for each number that is in use or soon will be, and
// after them the slots of ARM's private calls. TestTableFits fails when a newer
// generated table does not fit.
const (
	plainSlots   = 576
	privateSlots = 8
	tableSize    = plainSlots + privateSlots
)

// entry is what one number gets. The zero entry is the default action.
type entry struct {
	rules  int32  // decided, undecided, or the first link of conditional rules, +1
	action Action // if decided
}

const (
	undecided = 0
	decided   = -1 // by a rule that always matches
)

// link is one element of a list of conditional rules.
type link struct {
	rule int32
	next int32 // as entry.rules
}

// slot returns the place in an outcomeTable of a number of the generated table.
func slot(number uint16) int {
	if number >= armPrivateMark {
		return plainSlots + int(number&^armPrivateMark)
	}
	return int(number)
}

// readPolicy checks the whole policy and fills the tables.
func (c *compiler) readPolicy(policy *specs.LinuxSeccomp) (Flags, error) {
	var err error
	c.defaultAction, err = parseAction(policy.DefaultAction, policy.DefaultErrnoRet)
	if err != nil {
		return 0, fmt.Errorf("defaultAction: %w", err)
	}
	if c.defaultAction == Notify {
		return 0, fmt.Errorf("defaultAction: %s cannot be the default: the program could not even be started", specs.ActNotify)
	}
	if err := c.readArchitectures(policy.Architectures); err != nil {
		return 0, err
	}
	for i := range policy.Syscalls {
		if err := c.readRule(i, &policy.Syscalls[i]); err != nil {
			return 0, fmt.Errorf("syscalls[%d]%w", i, err)
		}
	}
	return parseFlags(policy.Flags, c.notify)
}

// readArchitectures makes a table for the native ABI and for each listed one
// of its family. Others cannot occur on such a kernel and are left out.
func (c *compiler) readArchitectures(listed []specs.Arch) error {
	for i, a := range listed {
		if !knownArch(a) {
			return fmt.Errorf("architectures[%d]: unknown architecture %q", i, a)
		}
	}
	for _, a := range c.native.family() {
		if a == c.native || slices.Contains(listed, a.OCI()) {
			c.abis = append(c.abis, a)
			c.tables[a-1] = &outcomeTable{last: -1}
		}
	}
	return nil
}

// readRule adds one rule of the policy to the tables. Its errors begin with
// the rest of the field's path.
func (c *compiler) readRule(source int, call *specs.LinuxSyscall) error {
	action, err := parseAction(call.Action, call.ErrnoRet)
	if err != nil {
		return fmt.Errorf(".action: %w", err)
	}
	if len(call.Names) == 0 {
		return errors.New(".names: no system call named")
	}
	c.notify = c.notify || action == Notify
	first := len(c.rules)
	if err := c.readConditions(source, action, call.Args); err != nil {
		return err
	}
	end := len(c.rules)
	row := 0
	for i, name := range call.Names {
		if name == "" {
			return fmt.Errorf(".names[%d]: empty name", i)
		}
		var ok bool
		if row, ok = findCall(name, row); !ok {
			c.unknown = append(c.unknown, name)
			continue
		}
		for _, a := range c.abis {
			if err := c.addCall(a, &callNumbers[row], first, end); err != nil {
				return fmt.Errorf(".names[%d]: %s: %w", i, name, err)
			}
		}
	}
	return nil
}

// readConditions appends to c.rules what the arguments of one rule mean: one
// rule with all conditions, or one for each condition if two are on the same
// argument.
func (c *compiler) readConditions(source int, action Action, args []specs.LinuxSeccompArg) error {
	first := len(c.conds)
	var seen [maxArgs]bool
	separate := false
	for i, arg := range args {
		cond, err := parseCondition(arg)
		if err != nil {
			return fmt.Errorf(".args[%d]%w", i, err)
		}
		separate = separate || seen[cond.arg]
		seen[cond.arg] = true
		c.conds = append(c.conds, cond)
	}
	conds := c.conds[first:len(c.conds):len(c.conds)]
	if !separate {
		for i := range conds { // six at most
			for ; i > 0 && conds[i].arg < conds[i-1].arg; i-- {
				conds[i], conds[i-1] = conds[i-1], conds[i]
			}
		}
		c.rules = append(c.rules, rule{action: action, conds: conds, source: source})
		return nil
	}
	for i := range conds {
		c.rules = append(c.rules, rule{action: action, conds: conds[i : i+1 : i+1], source: source})
	}
	return nil
}

// maxArgs is the number of arguments of a system call.
const maxArgs = 6

// parseCondition reads one condition. Its errors begin with the rest of the
// field's path.
func parseCondition(arg specs.LinuxSeccompArg) (condition, error) {
	if arg.Index >= maxArgs {
		return condition{}, fmt.Errorf(".index: %d, but the last argument of a system call has index %d", arg.Index, maxArgs-1)
	}
	cond := condition{arg: uint8(arg.Index), value: arg.Value}
	switch arg.Op {
	case specs.OpEqualTo:
		cond.op = equal
	case specs.OpNotEqual:
		cond.op = notEqual
	case specs.OpLessThan:
		cond.op = less
	case specs.OpLessEqual:
		cond.op = lessEqual
	case specs.OpGreaterThan:
		cond.op = greater
	case specs.OpGreaterEqual:
		cond.op = greaterEqual
	case specs.OpMaskedEqual:
		cond.op, cond.mask, cond.value = maskedEqual, arg.Value, arg.ValueTwo&arg.Value
	default:
		return condition{}, fmt.Errorf(".op: unknown operator %q", arg.Op)
	}
	return cond, nil
}

// addCall enters c.rules[first:end] for one call into the table of one ABI.
func (c *compiler) addCall(a Arch, row *callRow, first, end int) error {
	t := c.tables[a-1]
	if a == I386 && row.mux != 0 {
		c.addMultiplexed(t, row.mux, first, end)
	}
	number := row.number[a-1]
	if number == noCall {
		return nil
	}
	if number < armPrivateMark {
		t.last = max(t.last, int(number))
	}
	e := &t.entries[slot(number)]
	for i := first; i < end; i++ {
		if err := c.addRule(e, i, a.wide()); err != nil {
			return err
		}
	}
	return nil
}

// addRule enters one rule into the outcome of one number.
func (c *compiler) addRule(e *entry, index int, wide bool) error {
	r := &c.rules[index]
	if r.action == c.defaultAction || e.rules == decided {
		return nil
	}
	if r.always(wide) {
		*e = entry{rules: decided, action: r.action}
		return nil
	}
	for at := e.rules; at != undecided; at = c.links[at-1].next {
		other := &c.rules[c.links[at-1].rule]
		if !slices.Equal(other.conds, r.conds) {
			continue
		}
		if other.action != r.action {
			return fmt.Errorf("same conditions as in syscalls[%d], but %s instead of %s", other.source, r.action, other.action)
		}
		return nil
	}
	c.links = append(c.links, link{rule: int32(index), next: e.rules})
	e.rules = int32(len(c.links))
	return nil
}

// multiplexedCalls is how many calls have sub-calls in addMultiplexed: most
// policies have them all.
const multiplexedCalls = 32

// addMultiplexed enters rules for a call of 32-bit x86 that can also be made
// through socketcall or ipc: they test the number in the first argument. The
// call's own arguments are behind a pointer then, where no filter can look; so
// a rule with conditions is entered, without them, only if it is stricter than
// the default.
func (c *compiler) addMultiplexed(t *outcomeTable, mux uint8, first, end int) {
	number := i386Socketcall
	if mux&muxIPC != 0 {
		number = i386IPC
	}
	e := &t.entries[number]
	if e.rules == decided {
		return
	}
	for i := first; i < end; i++ {
		r := c.rules[i]
		if r.action == c.defaultAction || !r.always(false) && !r.action.stricter(c.defaultAction) {
			continue
		}
		c.conds = append(c.conds, condition{op: equal, value: uint64(mux & muxNumber)})
		n := len(c.conds)
		c.rules = append(c.rules, rule{action: r.action, conds: c.conds[n-1 : n : n], source: r.source})
		// Two rules for the same sub-call with different actions come from
		// conditions that were dropped here: the first one counts.
		_ = c.addRule(e, len(c.rules)-1, false)
	}
}
