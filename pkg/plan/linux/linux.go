// Package linux holds the Linux calls that plans are made of: one small struct
// for each system call and kernel structure, as data.
//
// # Theory of operation
//
// A struct's fields are what a planner decides; AppendArgs lays them out as the
// kernel takes them. Everything else (memory, printing, comparing, JSON) is
// derived from the arguments by package plan and internal/child, so a new call
// is one struct, two methods, and a line in the table of numbers.
//
// Descriptors are registers: an FD is the name of the step's result that opened
// it, or one of the few fixed numbers. Only the generic forms of calls are here
// (openat2 and not open, dup3 and not dup2), so that one plan fits every
// architecture.
//
// The package has no build tags and makes no call: it compiles everywhere.
package linux

import (
	"strconv"

	"github.com/containr/containr/pkg/plan"
)

// FD is a descriptor: a register's name, or a number as text, or CWD.
type FD string

// CWD is AT_FDCWD: paths are relative to the working directory.
const CWD FD = "AT_FDCWD"

var cwdName = plan.Names{List: []plan.Name{{Value: ^uint64(99), Name: "AT_FDCWD"}}}

// FDNumber is a descriptor with a fixed number.
func FDNumber(n int) FD { return FD(strconv.Itoa(n)) }

func (f FD) arg() plan.Arg {
	switch {
	case f == CWD:
		return plan.OneOf(^uint64(99), &cwdName)
	case f == "":
		return plan.Number(-1)
	case f[0] >= '0' && f[0] <= '9' || f[0] == '-':
		n, _ := strconv.Atoi(string(f)) // a name that starts with a digit is no register
		return plan.Number(n)
	}
	return plan.Value(plan.Reg(f))
}
