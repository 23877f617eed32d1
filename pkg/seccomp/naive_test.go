package seccomp_test

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp"
)

// This file is a second reading of a policy: no tables, no tree, no graph, only
// the sentences of the package's documentation, asked anew for each call. The
// compiler's programs are compared with it.

const x32Bit = 0x40000000

// naive answers for one policy and native ABI.
type naive struct {
	policy  *specs.LinuxSeccomp
	native  seccomp.Arch
	def     seccomp.Action
	largest map[seccomp.Arch]int64
	rules   map[seccomp.Arch]map[uint32][]naiveRule
}

type naiveRule struct {
	action seccomp.Action
	args   []specs.LinuxSeccompArg
}

func number(value *uint, otherwise uint) seccomp.Action {
	if value != nil {
		return seccomp.Action(*value)
	}
	return seccomp.Action(otherwise)
}

func naiveAction(name specs.LinuxSeccompAction, errno *uint) seccomp.Action {
	switch name {
	case specs.ActKillProcess:
		return seccomp.KillProcess
	case specs.ActTrap:
		return seccomp.Trap
	case specs.ActErrno:
		return seccomp.Errno | number(errno, 1)
	case specs.ActTrace:
		return seccomp.Trace | number(errno, 1)
	case specs.ActAllow:
		return seccomp.Allow
	case specs.ActLog:
		return seccomp.Log
	case specs.ActNotify:
		return seccomp.Notify
	}
	return seccomp.KillThread
}

func family(native seccomp.Arch) []seccomp.Arch {
	switch native {
	case seccomp.ARM64, seccomp.ARM:
		return []seccomp.Arch{seccomp.ARM64, seccomp.ARM}
	}
	return []seccomp.Arch{seccomp.AMD64, seccomp.I386, seccomp.X32}
}

func newNaive(policy *specs.LinuxSeccomp, native seccomp.Arch) *naive {
	n := &naive{
		policy:  policy,
		native:  native,
		def:     naiveAction(policy.DefaultAction, policy.DefaultErrnoRet),
		largest: map[seccomp.Arch]int64{},
		rules:   map[seccomp.Arch]map[uint32][]naiveRule{},
	}
	for _, a := range family(native) {
		if a != native && !slices.Contains(policy.Architectures, a.OCI()) {
			continue
		}
		n.largest[a] = -1
		n.rules[a] = map[uint32][]naiveRule{}
		for _, call := range policy.Syscalls {
			for _, name := range call.Names {
				n.add(a, name, call)
			}
		}
	}
	return n
}

// add enters the alternatives of one rule for one name.
func (n *naive) add(a seccomp.Arch, name string, call specs.LinuxSyscall) {
	action := naiveAction(call.Action, call.ErrnoRet)
	alternatives := [][]specs.LinuxSeccompArg{call.Args}
	seen := map[uint]bool{}
	for _, arg := range call.Args {
		if seen[arg.Index] {
			alternatives = nil
			for i := range call.Args {
				alternatives = append(alternatives, call.Args[i:i+1])
			}
			break
		}
		seen[arg.Index] = true
	}
	if nr, ok := a.Number(name); ok {
		if nr < 0xf0000 || a != seccomp.ARM {
			n.largest[a] = max(n.largest[a], int64(nr))
		}
		for _, args := range alternatives {
			n.rules[a][nr] = append(n.rules[a][nr], naiveRule{action, args})
		}
	}
	mux, ok := multiplexed[name]
	if a != seccomp.I386 || !ok {
		return
	}
	for _, args := range alternatives {
		strict := int32(action&^0xffff) < int32(n.def&^0xffff)
		if action == n.def || !unconditional(args, false) && !strict {
			continue
		}
		n.rules[a][mux.number] = append(n.rules[a][mux.number], naiveRule{action, []specs.LinuxSeccompArg{
			{Index: 0, Op: specs.OpEqualTo, Value: mux.call},
		}})
	}
}

type muxCall struct {
	number uint32
	call   uint64
}

// multiplexed is how 32-bit x86 reaches calls through socketcall (102) and ipc
// (117): linux/net.h and linux/ipc.h.
var multiplexed = map[string]muxCall{
	"socket": {102, 1}, "bind": {102, 2}, "connect": {102, 3}, "listen": {102, 4}, "accept": {102, 5},
	"getsockname": {102, 6}, "getpeername": {102, 7}, "socketpair": {102, 8}, "send": {102, 9},
	"recv": {102, 10}, "sendto": {102, 11}, "recvfrom": {102, 12}, "shutdown": {102, 13},
	"setsockopt": {102, 14}, "getsockopt": {102, 15}, "sendmsg": {102, 16}, "recvmsg": {102, 17},
	"accept4": {102, 18}, "recvmmsg": {102, 19}, "sendmmsg": {102, 20},
	"semop": {117, 1}, "semget": {117, 2}, "semctl": {117, 3}, "semtimedop": {117, 4},
	"msgsnd": {117, 11}, "msgrcv": {117, 12}, "msgget": {117, 13}, "msgctl": {117, 14},
	"shmat": {117, 21}, "shmdt": {117, 22}, "shmget": {117, 23}, "shmctl": {117, 24},
}

func wide(a seccomp.Arch) bool { return a == seccomp.AMD64 || a == seccomp.ARM64 }

// abi finds out whose call it is, 0 if nobody's.
func (n *naive) abi(call seccomp.Call) seccomp.Arch {
	for _, a := range family(n.native) {
		isX32 := call.Number >= x32Bit
		if a.Audit() == call.Audit && (a == seccomp.X32 && isX32 || a == seccomp.AMD64 && !isX32 || a != seccomp.X32 && a != seccomp.AMD64) {
			return a
		}
	}
	return 0
}

// verdict returns what the policy says about a call.
func (n *naive) verdict(call seccomp.Call) seccomp.Action {
	a := n.abi(call)
	rules, listed := n.rules[a]
	if !listed {
		if a == seccomp.X32 && call.Number == ^uint32(0) && n.rules[seccomp.AMD64] != nil {
			return n.def // a tracer skips a call
		}
		return seccomp.KillThread
	}
	private := a == seccomp.ARM && call.Number >= 0xf0000 && call.Number < 0xf0008
	if !private && n.largest[a] >= 0 && int64(call.Number) > n.largest[a] && !lets(n.def) {
		return seccomp.Errno | 38
	}
	var matching []naiveRule
	for _, r := range rules[call.Number] {
		if r.action == n.def {
			continue
		}
		if unconditional(r.args, wide(a)) {
			return r.action
		}
		if matches(r.args, call, wide(a)) {
			matching = append(matching, r)
		}
	}
	if len(matching) == 0 {
		return n.def
	}
	best := matching[0]
	for _, r := range matching[1:] {
		if moreSpecific(r.args, best.args, wide(a)) {
			best = r
		}
	}
	return best.action
}

func lets(a seccomp.Action) bool {
	kind := a &^ 0xffff
	return kind == seccomp.Allow || kind == seccomp.Log || kind == seccomp.Trace
}

func unconditional(args []specs.LinuxSeccompArg, wide bool) bool {
	for _, arg := range args {
		if arg.Op != specs.OpMaskedEqual || wide && arg.Value != 0 || uint32(arg.Value) != 0 {
			return false
		}
	}
	return true
}

func matches(args []specs.LinuxSeccompArg, call seccomp.Call, wide bool) bool {
	for _, arg := range args {
		have, value, two := call.Args[arg.Index], arg.Value, arg.ValueTwo
		if !wide {
			have, value, two = uint64(uint32(have)), uint64(uint32(value)), uint64(uint32(two))
		}
		ok := false
		switch arg.Op {
		case specs.OpEqualTo:
			ok = have == value
		case specs.OpNotEqual:
			ok = have != value
		case specs.OpLessThan:
			ok = have < value
		case specs.OpLessEqual:
			ok = have <= value
		case specs.OpGreaterThan:
			ok = have > value
		case specs.OpGreaterEqual:
			ok = have >= value
		case specs.OpMaskedEqual:
			ok = have&value == two&value
		}
		if !ok {
			return false
		}
	}
	return true
}

// moreSpecific reports whether a goes before b where both match.
func moreSpecific(a, b []specs.LinuxSeccompArg, wide bool) bool {
	byIndex := func(x, y specs.LinuxSeccompArg) int { return int(x.Index) - int(y.Index) }
	a, b = slices.SortedFunc(slices.Values(a), byIndex), slices.SortedFunc(slices.Values(b), byIndex)
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if x.Index != y.Index {
			return x.Index > y.Index
		}
		if class(x.Op) != class(y.Op) {
			return class(x.Op) > class(y.Op)
		}
		u, v := datum(x), datum(y)
		if !wide {
			u, v = uint64(uint32(u)), uint64(uint32(v))
		}
		if u != v {
			return (u < v) == (class(x.Op) == 2)
		}
	}
	return len(a) < len(b)
}

func class(op specs.LinuxSeccompOperator) int {
	switch op {
	case specs.OpGreaterEqual, specs.OpGreaterThan:
		return 1
	case specs.OpLessEqual, specs.OpLessThan:
		return 2
	}
	return 3
}

func datum(arg specs.LinuxSeccompArg) uint64 {
	if arg.Op == specs.OpMaskedEqual {
		return arg.ValueTwo & arg.Value
	}
	return arg.Value
}

// corners returns calls that probe every boundary of the policy: for each
// number and ABI of the kernel, each value of a condition and its neighbours,
// with and without high bits.
func (n *naive) corners(highest uint32, visit func(seccomp.Call)) {
	values := make([][]uint64, 6)
	for i := range values {
		values[i] = []uint64{0, ^uint64(0)}
	}
	for _, call := range n.policy.Syscalls {
		for _, arg := range call.Args {
			for _, v := range []uint64{arg.Value, arg.ValueTwo} {
				values[arg.Index] = append(values[arg.Index], v-1, v, v+1, v^1<<32, v|1<<63, uint64(uint32(v)), ^v)
			}
		}
	}
	conditional := map[string]bool{}
	for _, call := range n.policy.Syscalls {
		for _, name := range call.Names {
			conditional[name] = conditional[name] || len(call.Args) > 0
		}
	}
	for _, a := range family(n.native) {
		base := uint32(0)
		if a == seccomp.X32 {
			base = x32Bit
		}
		numbers := []uint32{
			base + highest, 0xeffff, 0xf0000, 0xf0001, 0xf0005, 0xf0006, 0xf0007, 0xf0008, 0xf0009,
			x32Bit - 1, x32Bit, 1 << 31, ^uint32(0) - 1, ^uint32(0),
		}
		for nr := range highest {
			numbers = append(numbers, base+nr)
		}
		for _, nr := range numbers {
			call := seccomp.Call{Number: nr, Audit: a.Audit()}
			name, _ := a.Name(nr)
			if !conditional[name] && nr != 102 && nr != 117 {
				visit(call)
				continue
			}
			n.visitArgs(call, values, visit)
		}
	}
	for _, audit := range []uint32{0, 1, 0xc00000f3, ^uint32(0)} {
		visit(seccomp.Call{Number: 1, Audit: audit})
	}
}

// visitArgs visits each value of each argument, and all pairs of arguments at
// one value each.
func (n *naive) visitArgs(call seccomp.Call, values [][]uint64, visit func(seccomp.Call)) {
	for i := range values {
		for _, v := range values[i] {
			c := call
			c.Args[i] = v
			visit(c)
			for j := i + 1; j < len(values); j++ {
				for _, w := range values[j] {
					c.Args[j] = w
					visit(c)
				}
				c.Args[j] = 0
			}
		}
	}
	for sub := range uint64(26) { // of socketcall and ipc
		c := call
		c.Args[0] = sub
		visit(c)
	}
}

func describe(call seccomp.Call) string {
	return fmt.Sprintf("audit %#x number %#x args %#x", call.Audit, call.Number, call.Args)
}
