package child

import (
	"encoding/binary"
	"strings"

	"github.com/containr/containr/internal/filelimit"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// processName is what ps shows for a container that has been created and not
// started yet, and the memfd's name.
const processName = "containr-init"

// preambleCode is the instruction array that a new process runs in this process's
// memory before it executes its own program, see the package comment. Its pointers
// are offsets until relocate.
type preambleCode struct {
	data   []byte
	used   int   // of what is before the instructions
	at     []int // where in data the pointers are
	entry  int
	status int
	arch   linux.Arch
}

// The preamble's memory is a page with the status block and what instructions point to,
// which is some hundred bytes, and then the instructions.
const (
	preambleStatus = 0
	preambleCodeAt = 4096
)

// preamble moves every descriptor to its final number in two rounds, so that none
// lands on one that is still to be moved, and executes the program. A process in a
// new user namespace has no mapped ids yet; its capabilities survive the execve
// only as ambient ones, see capabilities(7).
func preamble(p *Program, memfd int, fds []int, clone *linux.Clone) *preambleCode {
	c := &preambleCode{data: make([]byte, preambleCodeAt, 2*preambleCodeAt), used: statusSize, entry: preambleCodeAt, status: preambleStatus, arch: p.Arch}
	binary.LittleEndian.PutUint64(c.data, messageFailed)
	binary.LittleEndian.PutUint64(c.data[statusSync:], uint64(fds[0]))
	binary.LittleEndian.PutUint64(c.data[statusCode:], FailureCode)

	high := p.FirstFD + len(fds)
	regs := c.reserve(8 * len(fds))
	for i, fd := range fds {
		c.call(linux.DupFD{FD: linux.FDNumber(fd), Least: high}, regs+8*i)
	}
	memfdReg := c.reserve(8)
	c.call(linux.DupFD{FD: linux.FDNumber(memfd), Least: high}, memfdReg)
	for i := range fds {
		c.dupTo(regs+8*i, p.FirstFD+i)
	}
	c.closeInherited(memfdReg, high)
	if clone != nil && clone.Flags&linux.CloneNewuser != 0 {
		c.raiseAmbient()
	}
	if soft, hard := filelimit.Original(); hard != 0 {
		// Go's runtime has raised it for itself. Who may not set it keeps what there is.
		c.data[c.call(linux.Prlimit{Resource: linux.RlimitNofile, Soft: soft, Hard: hard}, 0)+5] = flagAnyError
	}
	c.exec(memfdReg, p.For)
	return c
}

// waiter waits until the process that a pidfd stands for has ended, and ends.
func waiter(pidfd int, arch linux.Arch) *preambleCode {
	c := &preambleCode{data: make([]byte, preambleCodeAt, 2*preambleCodeAt), used: statusSize, entry: preambleCodeAt, status: preambleStatus, arch: arch}
	binary.LittleEndian.PutUint64(c.data[statusSync:], ^uint64(0)) // nobody is told of a failure
	binary.LittleEndian.PutUint64(c.data[statusCode:], FailureCode)
	const pollin = 1
	list := c.reserve(8) // struct pollfd
	binary.LittleEndian.PutUint32(c.data[list:], uint32(pidfd))
	binary.LittleEndian.PutUint16(c.data[list+4:], pollin)
	at := c.instruction("ppoll", 0)
	c.pointer(at, 0, list, false)
	binary.LittleEndian.PutUint64(c.data[at+24:], 1)
	c.instruction("exit_group", 0)
	return c
}

// TellsItIsFor reports whether a process's command line, as /proc has it, is that of a process
// with Options.For that has not executed another program yet.
func TellsItIsFor(commandLine, whom string) bool {
	return commandLine == processName+"\x00"+whom+"\x00"
}

// IsProgram reports whether what /proc/PID/exe leads to is a plan's program: a memfd, see memfd_create(2).
func IsProgram(exe string) bool { return strings.HasPrefix(exe, "/memfd:"+processName+" ") }

func (c *preambleCode) reserve(n int) int {
	at := (c.used + 7) &^ 7
	c.used = at + n
	return at
}

// call emits a call whose arguments are numbers, flags or structures of numbers.
func (c *preambleCode) call(call plan.Call, dst int) int {
	at := c.instruction(call.Name(), dst)
	for i, a := range call.AppendArgs(nil) {
		v := a.Num
		if a.Kind == plan.Struct {
			size := 0
			for _, m := range a.List {
				size += int(memberSize(&m))
			}
			p := c.reserve(size)
			v = uint64(p)
			for _, m := range a.List {
				if memberSize(&m) == 4 {
					binary.LittleEndian.PutUint32(c.data[p:], uint32(m.Num))
				} else {
					binary.LittleEndian.PutUint64(c.data[p:], m.Num)
				}
				p += int(memberSize(&m))
			}
			c.at = append(c.at, at+16+8*i)
		}
		binary.LittleEndian.PutUint64(c.data[at+16+8*i:], v)
	}
	return at
}

func (c *preambleCode) instruction(name string, dst int) int {
	at := len(c.data)
	c.data = append(c.data, make([]byte, InstructionSize)...)
	nr, _ := linux.SyscallNumber(name, c.arch)
	binary.LittleEndian.PutUint32(c.data[at:], nr)
	if dst != 0 {
		binary.LittleEndian.PutUint64(c.data[at+64:], uint64(dst))
		c.at = append(c.at, at+64)
	}
	binary.LittleEndian.PutUint32(c.data[at+72:], InstructionSize)
	binary.LittleEndian.PutUint32(c.data[at+76:], InstructionSize)
	return at
}

// pointer makes argument i of the instruction at an offset the address of another
// offset; with deref, the value there.
func (c *preambleCode) pointer(at, i, target int, deref bool) {
	binary.LittleEndian.PutUint64(c.data[at+16+8*i:], uint64(target))
	c.at = append(c.at, at+16+8*i)
	if deref {
		c.data[at+4] |= 1 << i
	}
}

func (c *preambleCode) dupTo(from, to int) {
	at := c.instruction("dup3", 0)
	c.pointer(at, 0, from, true)
	binary.LittleEndian.PutUint64(c.data[at+24:], uint64(to))
}

// closeInherited closes with execve what the caller itself inherited from a careless
// parent: the keeper would hold it as long as the container runs. Linux 5.10 has no
// flag for that: there the memfd is put first, and the others are closed at once.
func (c *preambleCode) closeInherited(memfd, first int) {
	at := c.call(linux.CloseRange{First: first, OnExec: true}, 0)
	c.data[at+5] = flagAnyError
	binary.LittleEndian.PutUint32(c.data[at+72:], 3*InstructionSize) // past what follows
	at = c.instruction("dup3", memfd)
	c.pointer(at, 0, memfd, true)
	binary.LittleEndian.PutUint64(c.data[at+24:], uint64(first))
	binary.LittleEndian.PutUint64(c.data[at+32:], uint64(linux.OCloexec))
	c.call(linux.CloseRange{First: first + 1}, 0)
}

// raiseAmbient makes every capability inheritable and ambient. Numbers that the
// kernel does not know are refused with EINVAL, which is tolerated.
func (c *preambleCode) raiseAmbient() {
	const all = 1<<(linux.LastCapability+1) - 1
	c.call(linux.Capset{Effective: all, Permitted: all, Inheritable: all}, 0)
	for n := range uint64(linux.LastCapability + 1) {
		at := c.call(linux.Prctl{Option: linux.PrCapAmbient, Arg2: linux.AmbientRaise, Arg3: n}, 0)
		c.data[at+5] = flagAnyError
	}
}

// exec emits execveat(memfd, "", {"containr-init", whom}, {}, AT_EMPTY_PATH), without whom if
// that is empty.
func (c *preambleCode) exec(memfd int, whom string) {
	empty := c.reserve(8)
	words := []string{processName, whom}
	if whom == "" {
		words = words[:1]
	}
	argv := c.reserve(8 * (len(words) + 1))
	for i, word := range words {
		text := c.reserve(len(word) + 1)
		copy(c.data[text:], word)
		binary.LittleEndian.PutUint64(c.data[argv+8*i:], uint64(text))
		c.at = append(c.at, argv+8*i)
	}
	at := c.instruction("execveat", 0)
	c.pointer(at, 0, memfd, true)
	c.pointer(at, 1, empty, false)
	c.pointer(at, 2, argv, false)
	c.pointer(at, 3, argv+8*len(words), false) // an empty vector
	const atEmptyPath = 0x1000
	binary.LittleEndian.PutUint64(c.data[at+16+8*4:], atEmptyPath)
}

// relocate turns offsets into addresses.
func (c *preambleCode) relocate(base uint64) {
	for _, at := range c.at {
		v := binary.LittleEndian.Uint64(c.data[at:])
		binary.LittleEndian.PutUint64(c.data[at:], v+base)
	}
}
