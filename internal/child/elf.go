package child

import (
	"encoding/binary"
	"fmt"

	"github.com/containr/containr/pkg/plan/linux"
)

// elfText is where the code begins in the text segment: after the ELF header (64
// bytes) and three program headers (56 bytes each).
const elfText = 0x100

// machine numbers of elf(5).
const (
	machineAMD64 = 62
	machineARM64 = 183
)

// ELF returns the program as an executable file.
func (p *Program) ELF(interpreter []byte) ([]byte, error) {
	page, err := p.firstPage(interpreter)
	if err != nil {
		return nil, err
	}
	return append(page, p.Data...), nil
}

// firstPage makes what is before the data segment in the file: the headers, a prologue
// and the interpreter's code.
//
//	segment 1  read, execute  page 0        at textBase
//	segment 2  read, write    from page 1   at dataBase
//	segment 3  the stack is not executable
func (p *Program) firstPage(interpreter []byte) ([]byte, error) {
	page := make([]byte, 4096)
	code, err := prologue(p.Arch, dataBase, p.Status)
	if err != nil {
		return nil, err
	}
	code = append(code, interpreter...)
	if elfText+len(code) > len(page) {
		return nil, fmt.Errorf("elf: %d bytes of code do not fit in a page", len(code))
	}
	copy(page[elfText:], code)
	elfHeader(page, p.Arch)
	segment := func(i int, kind, flags uint32, offset, addr, size uint64) {
		b := page[64+56*i:]
		binary.LittleEndian.PutUint32(b, kind)
		binary.LittleEndian.PutUint32(b[4:], flags)
		for k, v := range []uint64{offset, addr, addr, size, size, 4096} {
			binary.LittleEndian.PutUint64(b[8+8*k:], v)
		}
	}
	const load, stack, read, write, exec = 1, 0x6474e551, 4, 2, 1
	segment(0, load, read|exec, 0, textBase, 4096)
	segment(1, load, read|write, 4096, dataBase, uint64(len(p.Data)))
	segment(2, stack, read|write, 0, 0, 0)
	return page, nil
}

func elfHeader(b []byte, arch linux.Arch) {
	copy(b, "\x7fELF\x02\x01\x01")
	machine := uint16(machineAMD64)
	if arch == linux.ARM64 {
		machine = machineARM64
	}
	const executable, version, headerSize, programHeaderSize, programHeaders = 2, 1, 64, 56, 3
	binary.LittleEndian.PutUint16(b[16:], executable)
	binary.LittleEndian.PutUint16(b[18:], machine)
	binary.LittleEndian.PutUint32(b[20:], version)
	binary.LittleEndian.PutUint64(b[24:], textBase+elfText)
	binary.LittleEndian.PutUint64(b[32:], headerSize)
	binary.LittleEndian.PutUint16(b[52:], headerSize)
	binary.LittleEndian.PutUint16(b[54:], programHeaderSize)
	binary.LittleEndian.PutUint16(b[56:], programHeaders)
}

// prologue is the code at the program's entry: it loads the interpreter's two
// registers and falls through to it.
func prologue(arch linux.Arch, pc, status uint64) ([]byte, error) {
	le := binary.LittleEndian
	switch arch {
	case linux.AMD64:
		b := le.AppendUint64([]byte{0x48, 0xbb}, pc)               // mov rbx, pc
		return le.AppendUint64(append(b, 0x49, 0xbd), status), nil // mov r13, status
	case linux.ARM64:
		b := le.AppendUint32(nil, 0x58000093) // ldr x19, .+16
		b = le.AppendUint32(b, 0x580000b4)    // ldr x20, .+20
		b = le.AppendUint32(b, 0x14000006)    // b .+24
		b = le.AppendUint32(b, 0xd503201f)    // nop
		return le.AppendUint64(le.AppendUint64(b, pc), status), nil
	}
	return nil, ErrUnsupported
}
