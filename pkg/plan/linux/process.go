package linux

import "github.com/containr/containr/pkg/plan"

// Clone is clone3(2), Linux 5.3: the step after which two processes exist. The
// new one continues with the next step as the Child.
type Clone struct {
	Flags CloneFlags
	// Cgroup is a directory of cgroup v2 that the child is born into
	// (CLONE_INTO_CGROUP, Linux 5.7); empty for none.
	Cgroup FD
	// Silent children send no signal when they end.
	Silent bool
}

func (Clone) Name() string { return "clone3" }

// CloneArgsSize is sizeof(struct clone_args) of version 2, Linux 5.7.
const CloneArgsSize = 88

func (c Clone) AppendArgs(dst []plan.Arg) []plan.Arg {
	flags, cgroup, signal := c.Flags, plan.Number(0), uint64(17)
	if c.Cgroup != "" {
		flags |= CloneIntoCgroup
		cgroup = c.Cgroup.arg()
	}
	if c.Silent || c.Flags&CloneParent != 0 {
		signal = 0 // a sibling ends with the signal of the caller; clone3 takes no other
	}
	zero := plan.Number(0)
	args := plan.Pointer(
		plan.Flags(uint64(flags), &cloneFlagNames).Member("flags", 8), zero.Member("pidfd", 8),
		zero.Member("child_tid", 8), zero.Member("parent_tid", 8),
		plan.OneOf(signal, &signalNames).Member("exit_signal", 8), zero.Member("stack", 8),
		zero.Member("stack_size", 8), zero.Member("tls", 8), zero.Member("set_tid", 8),
		zero.Member("set_tid_size", 8), cgroup.Member("cgroup", 8))
	return append(dst, args, plan.Number(CloneArgsSize))
}

// Setns is setns(2): join the namespaces of the kinds in Flags that FD stands
// for, a file of /proc/PID/ns or (Linux 5.8) a pidfd.
type Setns struct {
	FD    FD
	Flags CloneFlags
}

func (Setns) Name() string { return "setns" }

func (c Setns) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.FD.arg(), plan.Flags(uint64(c.Flags), &cloneFlagNames))
}

// Unshare is unshare(2).
type Unshare struct{ Flags CloneFlags }

func (Unshare) Name() string { return "unshare" }

func (c Unshare) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Flags(uint64(c.Flags), &cloneFlagNames))
}

// Setsid is setsid(2).
type Setsid struct{}

func (Setsid) Name() string { return "setsid" }

func (Setsid) AppendArgs(dst []plan.Arg) []plan.Arg { return dst }

// Umask is umask(2).
type Umask struct{ Mask uint32 }

func (Umask) Name() string { return "umask" }

func (c Umask) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, plan.Mode(c.Mask)) }

// Sethostname is sethostname(2).
type Sethostname struct{ Hostname string }

func (Sethostname) Name() string { return "sethostname" }

func (c Sethostname) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Hostname), plan.Number(len(c.Hostname)))
}

// Setdomainname is setdomainname(2).
type Setdomainname struct{ Domain string }

func (Setdomainname) Name() string { return "setdomainname" }

func (c Setdomainname) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Domain), plan.Number(len(c.Domain)))
}

// Personality is personality(2).
type Personality struct{ Persona uint32 }

func (Personality) Name() string { return "personality" }

func (c Personality) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Number(c.Persona))
}

// Execve is execve(2).
type Execve struct {
	Path string
	Args []string
	Env  []string
}

func (Execve) Name() string { return "execve" }

func (c Execve) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Path), plan.Strings(c.Args), plan.Strings(c.Env))
}

// Wait4 is wait4(2) for a child, or, if PID is empty, for any child and any thread that the caller traces; the status goes
// to Status. It tells the end of a child, and, though nobody asks for it, that one has stopped which the caller traces: see
// PtraceDetach. It fails with ECHILD when there are no more. A process is told after all threads of it that the caller
// traces.
type Wait4 struct{ PID, Status plan.Reg }

func (Wait4) Name() string { return "wait4" }

func (c Wait4) AppendArgs(dst []plan.Arg) []plan.Arg {
	who := plan.Number(-1)
	if c.PID != "" {
		who = plan.Value(c.PID)
	}
	return append(dst, who, plan.Address(c.Status), plan.Flags(0x40000000, &waitNames), plan.Nil)
}

// PtraceDetach is ptrace(2), PTRACE_DETACH, without a signal: who stopped goes on, and is not traced. A program makes its
// parent trace it by PTRACE_TRACEME, without asking.
type PtraceDetach struct{ PID plan.Reg }

func (PtraceDetach) Name() string { return "ptrace" }

func (c PtraceDetach) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.OneOf(17, &ptraceNames), plan.Value(c.PID), plan.Number(0), plan.Number(0))
}

// Ppoll is ppoll(2) without a timeout for one descriptor of which no event is asked
// for: it returns when the other end of the descriptor is gone, and for one that has no
// other end never.
type Ppoll struct{ FD plan.Reg }

func (Ppoll) Name() string { return "ppoll" }

func (c Ppoll) AppendArgs(dst []plan.Arg) []plan.Arg {
	fds := plan.Pointer(plan.Value(c.FD).Member("fd", 4), plan.Number(0).Member("events", 4))
	return append(dst, fds, plan.Number(1), plan.Nil, plan.Nil)
}

// Waitid is waitid(2) for the end of one process. Status gets si_status of struct
// siginfo: the exit code, or the number of the signal that ended it. The word after
// si_status is padding, which the kernel leaves zero.
type Waitid struct {
	PID    plan.Reg
	Status plan.Reg
}

func (Waitid) Name() string { return "waitid" }

// AppendArgs lays out the 128 bytes of struct siginfo of a 64-bit kernel, with
// si_status at offset 24.
func (c Waitid) AppendArgs(dst []plan.Arg) []plan.Arg {
	const pid, exited = 1, 4
	zero := plan.Number(0)
	info := []plan.Arg{zero.Member("si_signo", 4), zero.Member("si_errno", 4), zero.Member("si_code", 8),
		zero.Member("si_pid", 4), zero.Member("si_uid", 4), plan.Home(c.Status).Member("si_status", 8)}
	for range 12 {
		info = append(info, zero.Member("", 8))
	}
	return append(dst, plan.OneOf(pid, &waitTypeNames), plan.Value(c.PID), plan.Pointer(info...),
		plan.Flags(exited, &waitNames), plan.Nil)
}

// ExitWith is exit_group(2) with the code in a register, of which the kernel takes
// the low 8 bits.
type ExitWith struct{ Code plan.Reg }

func (ExitWith) Name() string { return "exit_group" }

func (c ExitWith) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, plan.Value(c.Code)) }

// ExitGroup is exit_group(2).
type ExitGroup struct{ Code int }

func (ExitGroup) Name() string { return "exit_group" }

func (c ExitGroup) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, plan.Number(c.Code)) }

// UnblockSignals is rt_sigprocmask(2) with SIG_SETMASK and the empty set: the
// launcher is born with every signal blocked, the program must not be.
type UnblockSignals struct{}

func (UnblockSignals) Name() string { return "rt_sigprocmask" }

func (UnblockSignals) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.OneOf(2, &sigmaskNames), plan.Pointer(plan.Number(0).Member("", 8)), plan.Nil, plan.Number(8))
}

// DefaultAction is rt_sigaction(2) with SIG_DFL.
type DefaultAction struct{ Signal int }

func (DefaultAction) Name() string { return "rt_sigaction" }

func (c DefaultAction) AppendArgs(dst []plan.Arg) []plan.Arg {
	zero := plan.Number(0)
	action := plan.Pointer(zero.Member("sa_handler", 8), zero.Member("sa_flags", 8), zero.Member("sa_restorer", 8), zero.Member("sa_mask", 8))
	return append(dst, plan.OneOf(uint64(c.Signal), &signalNames), action, plan.Nil, plan.Number(8))
}
