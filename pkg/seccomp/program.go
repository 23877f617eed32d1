package seccomp

import (
	"encoding/binary"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Flags are the flags for seccomp(SECCOMP_SET_MODE_FILTER, flags, program).
type Flags uint32

// The flags of linux/seccomp.h, with the first kernel that knows them.
const (
	FlagTSync            Flags = 1 << 0 // all threads get the filter (3.17)
	FlagLog              Flags = 1 << 1 // actions other than allow may be logged (4.14)
	FlagSpecAllow        Flags = 1 << 2 // keep speculative store bypass on (4.17)
	FlagNewListener      Flags = 1 << 3 // return a descriptor for Notify (5.0)
	FlagTSyncESRCH       Flags = 1 << 4 // FlagTSync fails with ESRCH, so that FlagNewListener may join it (5.7)
	FlagWaitKillableRecv Flags = 1 << 5 // a call being notified waits killably (5.19)
)

// flagTSyncName is not in the OCI specification, but runc and crun take it.
const flagTSyncName = "SECCOMP_FILTER_FLAG_TSYNC"

// Instruction is one instruction of classic BPF, struct sock_filter of
// linux/filter.h.
type Instruction struct {
	Code   uint16 // what to do: the op* values of emit.go are all that occur
	JT, JF uint8  // instructions to skip if a comparison holds, and if not
	K      uint32 // operand
}

// MaxInstructions is the length of the longest program that the kernel takes
// (BPF_MAXINSNS, linux/bpf_common.h).
const MaxInstructions = 4096

// instructionSize is sizeof(struct sock_filter).
const instructionSize = 8

// Program is a compiled policy.
type Program struct {
	Instructions []Instruction

	// Flags are to be given to seccomp(2) with the program. FlagNewListener
	// is among them if and only if some rule's action is Notify.
	Flags Flags

	// Unknown lists the names in the policy that are not system calls of any
	// architecture, in the policy's order. Their rules are not in the program.
	Unknown []string
}

// AppendTo appends the program to buf as an array of struct sock_filter, as the
// filter member of struct sock_fprog wants it. All ABIs of this package are
// little endian.
func (p *Program) AppendTo(buf []byte) []byte {
	for _, in := range p.Instructions {
		buf = binary.LittleEndian.AppendUint16(buf, in.Code)
		buf = append(buf, in.JT, in.JF)
		buf = binary.LittleEndian.AppendUint32(buf, in.K)
	}
	return buf
}

// Size returns the length in bytes of what AppendTo appends.
func (p *Program) Size() int { return len(p.Instructions) * instructionSize }

// parseFlags returns the flags of a policy. A policy without any list of flags
// gets FlagSpecAllow, as with runc and crun: store bypass mitigation costs much
// and is opt-in everywhere else since Linux 5.16. An empty list means no flags.
func parseFlags(names []specs.LinuxSeccompFlag, notify bool) (Flags, error) {
	var flags Flags
	if names == nil {
		flags = FlagSpecAllow
	}
	for i, name := range names {
		switch name {
		case flagTSyncName:
			flags |= FlagTSync
		case specs.LinuxSeccompFlagLog:
			flags |= FlagLog
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= FlagSpecAllow
		case specs.LinuxSeccompFlagWaitKillableRecv:
			if !notify {
				return 0, fmt.Errorf("flags[%d]: %s needs a rule with action %s", i, name, specs.ActNotify)
			}
			flags |= FlagWaitKillableRecv
		default:
			return 0, fmt.Errorf("flags[%d]: unknown flag %q", i, name)
		}
	}
	if notify {
		flags |= FlagNewListener
		if flags&FlagTSync != 0 {
			flags |= FlagTSyncESRCH
		}
	}
	return flags, nil
}
