package runtime

import (
	"cmp"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// fsopen opens a procfs that shows the processes of a namespace, which only one of them can. The programs there see that
// process. Root there would own the namespace of users that it makes, and could do with it as it likes (cap_capable). So it
// is not dumpable, and nobody: what is left takes CAP_SYS_PTRACE over the host's users. And who has that finds a process with an empty root and a single descriptor, the socket that it answers by, and with no capability but over
// that namespace, which is all that fsopen(2) asks for. Where there are no such namespaces, it has CAP_SYS_ADMIN.
//
// What it answers is not believed: the kernel is asked whether it is a procfs, which has an option that no other file system
// has, and refuses one that none has; those with the oldest parser take every word.
func (e *execution) fsopen() (int, error) {
	regs := map[plan.Reg]int{}
	for i := range e.plan.Steps {
		if s, ok := e.plan.Steps[i].Call.(linux.Setns); ok {
			switch s.Flags {
			case linux.CloneNewuser:
				regs[users] = e.regs[plan.Reg(s.FD)]
			case linux.CloneNewpid:
				regs[processes] = e.regs[plan.Reg(s.FD)]
			}
		}
	}
	p := new(plan.Plan)
	for i := range opener {
		s := opener[i].step(plan.Child)
		if j, ok := s.Call.(linux.Setns); ok && regs[plan.Reg(j.FD)] == 0 {
			continue
		}
		p.Steps = append(p.Steps, s)
	}
	p.Steps[0].Actor = plan.Host
	prog, err := child.Lower(p, child.Options{Arch: goarch, Values: regs, FirstFD: 3})
	if err != nil {
		return -1, err
	}
	proc, err := child.Start(prog, new(linux.Clone), regs)
	if err != nil {
		return -1, err
	}
	fd, helper, refused := -1, 0, error(unix.ESRCH)
	for {
		ev, err := proc.Next()
		switch {
		case err == nil && ev.Kind == child.Inside:
			if helper == 0 && e.isChild(ev.PID) {
				helper = ev.PID
				defer reap(helper)
			}
		case err == nil && ev.Kind == child.Failed:
			refused = unix.Errno(ev.Errno)
		case err == nil && ev.Kind == child.Descriptor && fd >= 0:
			_ = unix.Close(ev.FD) // one was asked for
		case err == nil && ev.Kind == child.Descriptor && fd < 0:
			fd, refused = ev.FD, unix.FsconfigSetString(ev.FD, "hidepid", "0")
			if refused == nil && unix.FsconfigSetString(fd, "no option", "0") == nil {
				refused = unix.EINVAL
			}
		case err != nil, ev.Kind == child.Closed:
			proc.Close()
			reap(proc.PID)
			if refused = cmp.Or(err, refused); refused != nil && fd >= 0 {
				_ = unix.Close(fd) // nothing was done with it
			}
			return fd, refused
		}
	}
}

// users and processes are the registers of what is joined.
const (
	users     plan.Reg = "users"
	processes plan.Reg = "processes"
	empty              = "a process with an empty root"
	admin              = 1 << 21 // CAP_SYS_ADMIN
	nobody             = 65534
)

// opener is what that process does, and the one that makes it.
var opener = [...]written{
	{why: empty, call: linux.Clone{}},
	{why: empty, call: linux.Prctl{Option: linux.PrSetDumpable}}, // before it is in anybody's sight
	{why: empty, call: linux.Setns{FD: linux.FD(users), Flags: linux.CloneNewuser}},
	{why: empty, call: linux.Setgroups{}, try: true}, // refused where nobody may change them
	{why: empty, call: linux.Setresgid{}, try: true}, // root of the namespace, if that has one, and not of the host
	{why: empty, call: linux.Setresuid{}, try: true},
	{why: empty, call: linux.Unshare{Flags: linux.CloneNewns}},
	{why: empty, call: linux.Mount{Target: "/", Flags: linux.MsPrivate | linux.MsRec}},
	{why: empty, call: linux.Mount{Source: "tmpfs", Target: "/proc", Type: "tmpfs"}},
	{why: empty, call: linux.Chdir{Path: "/proc"}},
	{why: empty, call: linux.PivotRoot{NewRoot: ".", PutOld: "."}, try: true},
	{why: empty, call: linux.Umount{Target: ".", Flags: linux.MntDetach}, when: plan.Then},
	{why: empty, call: linux.Mount{Source: ".", Target: "/", Flags: linux.MsMove}, when: plan.Else}, // the root is an initramfs
	{why: empty, call: linux.Chroot{Path: "."}, when: plan.Else},
	{why: empty, call: linux.Chdir{Path: "/"}},
	{why: empty, call: linux.Setns{FD: linux.FD(processes), Flags: linux.CloneNewpid}},
	{why: empty, call: linux.CloseRange{First: 4}},
	{why: empty, call: linux.Close{FD: "0"}, try: true},
	{why: empty, call: linux.Close{FD: "1"}, try: true},
	{why: empty, call: linux.Close{FD: "2"}, try: true},
	{why: empty, call: linux.Prctl{Option: linux.PrSetKeepcaps, Arg2: 1}},
	{why: empty, call: linux.Setresgid{GID: nobody}, try: true}, // it may have no number there
	{why: empty, call: linux.Setresuid{UID: nobody}, try: true},
	{why: empty, call: linux.Capset{Effective: admin, Permitted: admin}},
	{why: empty, call: linux.Unshare{Flags: linux.CloneNewuser | linux.CloneNewns}, try: true},
	{why: empty, call: linux.Clone{Flags: linux.CloneParent}, as: born},
	{why: empty, call: linux.WriteReg{FD: linux.FD(child.Sync), Value: born, Size: child.InsideSize}, when: plan.Else},
	{why: empty, call: linux.ExitGroup{}, when: plan.Else},
	{why: empty, call: linux.Fsopen{Type: "proc"}, as: "fs"},
	{why: empty, call: linux.SendFD{Socket: linux.FD(child.Sync), FD: "fs", Data: "fs"}},
	{why: empty, call: linux.ExitGroup{}},
}
