package rootfs

import (
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Console is the register of the Unix socket that the terminal's master end is
// sent to.
const Console plan.Reg = "console"

// Terminal plans the container's terminal: a new pair in the container's own
// devpts. The master goes to the host over the console socket; the slave becomes
// standard input, output and error, the controlling terminal, and /dev/console.
//
// The slave is opened through the master (TIOCGPTPEER), not by its name, so
// nothing in the image can put another file in its place (CVE-2025-52565).
func Terminal(in Input) []plan.Step {
	b := &builder{Builder: plan.Build(plan.Child, plan.TerminalChapter), in: in, fresh: make(map[string]linux.FD)}
	const pointer = "/process/terminal"
	b.Do("a terminal of the container's own: the master end", linux.Openat2{
		Dir: rootReg, Path: "dev/pts/ptmx", Flags: linux.ORdwr | linux.ONoctty | linux.OCloexec,
		Resolve: linux.ResolveInRoot | linux.ResolveNoMagiclinks}).As("ptmx").For(pointer)
	b.Do("the slave end may be opened", linux.Ioctl{FD: "ptmx", Request: linux.Tiocsptlck, In: []uint16{0, 0}}).For(pointer)
	b.Do("the slave end, by its master and not by a name", linux.Ioctl{
		FD: "ptmx", Request: linux.Tiocgptpeer, Value: uint64(linux.ORdwr | linux.ONoctty | linux.OCloexec)}).As("tty").For(pointer)
	if size := in.Spec.Process.ConsoleSize; size != nil {
		b.Do("the window's size", linux.Ioctl{FD: "ptmx", Request: linux.Tiocswinsz,
			In: []uint16{uint16(size.Height), uint16(size.Width), 0, 0}}).For("/process/consoleSize")
	}
	b.Do("the master end goes to the host", linux.SendFD{Socket: linux.FD(Console), FD: "ptmx", Data: "/dev/ptmx"}).For(pointer)
	if !in.Joined && hasMount(in.Spec, "/dev") {
		b.Do("programs find the terminal as /dev/console too", linux.OpenTree{
			Dir: "tty", Flags: linux.OpenTreeClone | linux.OpenTreeCloexec | linux.AtEmptyPath}).As("tree").For(pointer)
		b.attach("tree", "/dev/console", false, pointer)
	}
	for fd := range 3 {
		b.Do("standard input, output and error are the terminal", linux.Dup3{Old: "tty", New: linux.FD(strconv.Itoa(fd))}).For(pointer)
	}
	if !in.Contexts { // else it is another process's, which goes on in this one's place
		b.Do("and it is the session's", linux.Ioctl{FD: "0", Request: linux.Tiocsctty}).For(pointer)
	}
	if uid := in.Spec.Process.User.UID; uid != 0 {
		b.Do("the user owns the terminal", linux.Fchownat{Dir: "tty", UID: uid, GID: ^uint32(0)}).Try().For(pointer)
	}
	return b.Steps
}

func hasMount(spec *specs.Spec, dest string) bool {
	for i := range spec.Mounts {
		if spec.Mounts[i].Destination == dest {
			return true
		}
	}
	return false
}
