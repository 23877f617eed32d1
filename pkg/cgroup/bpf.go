package cgroup

import (
	"encoding/binary"
	"strconv"

	"github.com/containr/containr/pkg/plan/linux"
)

// # The device filter of version 2
//
// Version 2 has no files for devices. Instead, the kernel runs an eBPF program of
// type BPF_PROG_TYPE_CGROUP_DEVICE, attached to the directory, whenever a process of
// the group opens or makes a device node. The program gets a pointer to struct
// bpf_cgroup_dev_ctx (include/uapi/linux/bpf.h) in register 1, three 32-bit words:
//
//	offset 0: access_type, the device's type in the low half (1 block, 2 character),
//	          the wanted accesses in the high half (1 make, 2 read, 4 write)
//	offset 4: major
//	offset 8: minor
//
// and returns 1 to allow, 0 to deny.
//
// Ours begins by taking the words apart:
//
//	r2 = access_type
//	w3 = w2              what is wanted: the accesses that nobody has decided on yet
//	w2 &= 0xffff         the type
//	w3 >>= 16
//	r4 = major
//	r5 = minor
//
// Then come the rules, the last one first, so that the first that fits decides. Each
// begins with tests that jump to the next rule if the device is another one (a
// wildcard needs no test):
//
//	if w2 != type goto next
//	if w4 != major goto next
//	if w5 != minor goto next
//
// A rule decides only on the accesses that it names. One that denies is done when
// any of them is wanted. One that allows strikes them off, and is done when nothing
// is left:
//
//	if w3 & accesses goto deny          w3 &= ~accesses
//	                                    if w3 == 0 goto allow
//
// If the rule names all three accesses, either is a plain "goto". At the end stands
// what happens without a rule, and the other outcome, if anything jumps there: the
// kernel's verifier refuses instructions that nothing reaches.

// The opcodes used, include/uapi/linux/bpf.h. All comparisons look at the low 32 bits
// of a register (class BPF_JMP32, Linux 5.1), so that numbers above 2^31 need no
// second thought.
const (
	opLoadWord  = 0x61 // BPF_LDX | BPF_MEM | BPF_W: dst = *(u32 *)(src + off)
	opMove      = 0xbc // BPF_ALU | BPF_MOV | BPF_X: dst = src
	opMoveImm   = 0xb4 // BPF_ALU | BPF_MOV | BPF_K: dst = imm
	opAndImm    = 0x54 // BPF_ALU | BPF_AND | BPF_K: dst &= imm
	opShiftImm  = 0x74 // BPF_ALU | BPF_RSH | BPF_K: dst >>= imm
	opGoto      = 0x05 // BPF_JMP | BPF_JA:          goto off
	opIfEqual   = 0x16 // BPF_JMP32 | BPF_JEQ | BPF_K: if dst == imm goto off
	opIfAnyBit  = 0x46 // BPF_JMP32 | BPF_JSET | BPF_K: if dst & imm goto off
	opIfDiffers = 0x56 // BPF_JMP32 | BPF_JNE | BPF_K: if dst != imm goto off
	opExit      = 0x95 // BPF_JMP | BPF_EXIT:        return r0
)

// The registers by their roles.
const (
	regResult  = 0
	regContext = 1
	regType    = 2
	regWanted  = 3
	regMajor   = 4
	regMinor   = 5
)

// instruction is struct bpf_insn before encoding.
type instruction struct {
	op       uint8
	dst, src uint8
	off      int16
	imm      int32
}

// assembler collects instructions and the jumps to be completed.
type assembler struct {
	code []instruction
	// jumps lists, for deny (0) and allow (1), the instructions that go there.
	jumps [2][]int
}

func (a *assembler) emit(in instruction) { a.code = append(a.code, in) }

// leave emits a jump to the outcome.
func (a *assembler) leave(in instruction, allow bool) {
	i := index(allow)
	a.jumps[i] = append(a.jumps[i], len(a.code))
	a.emit(in)
}

func index(allow bool) int {
	if allow {
		return 1
	}
	return 0
}

// compileDevices makes the filter program for a policy. It is little-endian, as are
// all machines that containr runs on.
func compileDevices(p devicePolicy) string {
	a := &assembler{code: make([]instruction, 0, 10+6*len(p.rules))}
	a.emit(instruction{op: opLoadWord, dst: regType, src: regContext, off: 0})
	a.emit(instruction{op: opMove, dst: regWanted, src: regType})
	a.emit(instruction{op: opAndImm, dst: regType, imm: 0xffff})
	a.emit(instruction{op: opShiftImm, dst: regWanted, imm: 16})
	a.emit(instruction{op: opLoadWord, dst: regMajor, src: regContext, off: 4})
	a.emit(instruction{op: opLoadWord, dst: regMinor, src: regContext, off: 8})
	for i := len(p.rules) - 1; i >= 0; i-- {
		a.rule(p.rules[i])
	}
	a.end(p.allow)
	if len(a.jumps[index(!p.allow)]) > 0 {
		a.end(!p.allow)
	}
	return a.encode()
}

// rule emits the tests of one rule and its decision.
func (a *assembler) rule(r deviceRule) {
	kind := int32(2)
	if r.kind == 'b' {
		kind = 1
	}
	var tests []int
	test := func(reg uint8, value int32) {
		tests = append(tests, len(a.code))
		a.emit(instruction{op: opIfDiffers, dst: reg, imm: value})
	}
	test(regType, kind)
	if r.major != anyNumber {
		test(regMajor, int32(uint32(r.major)))
	}
	if r.minor != anyNumber {
		test(regMinor, int32(uint32(r.minor)))
	}
	switch {
	case r.access == accessAll:
		a.leave(instruction{op: opGoto}, r.allow)
	case r.allow:
		a.emit(instruction{op: opAndImm, dst: regWanted, imm: int32(accessAll &^ r.access)})
		a.leave(instruction{op: opIfEqual, dst: regWanted, imm: 0}, true)
	default:
		a.leave(instruction{op: opIfAnyBit, dst: regWanted, imm: int32(r.access)}, false)
	}
	for _, t := range tests {
		a.code[t].off = distance(t, len(a.code))
	}
}

// end emits an outcome and completes the jumps to it.
func (a *assembler) end(allow bool) {
	i := index(allow)
	for _, j := range a.jumps[i] {
		a.code[j].off = distance(j, len(a.code))
	}
	a.emit(instruction{op: opMoveImm, dst: regResult, imm: int32(i)})
	a.emit(instruction{op: opExit})
}

// distance is a jump's offset: it counts from the instruction after the jump.
func distance(from, to int) int16 { return int16(to - from - 1) }

// encode lays out struct bpf_insn: opcode, two registers in a byte, offset,
// immediate.
func (a *assembler) encode() string {
	out := make([]byte, 0, 8*len(a.code))
	for _, in := range a.code {
		out = append(out, in.op, in.dst|in.src<<4)
		out = binary.LittleEndian.AppendUint16(out, uint16(in.off))
		out = binary.LittleEndian.AppendUint32(out, uint32(in.imm))
	}
	return string(out)
}

// devicesV2 adds the step that attaches the filter. Where everything is allowed
// there is nothing to filter.
func (l *limits) devicesV2() {
	p := newDevicePolicy(l.res.Devices)
	if p.allow && len(p.rules) == 0 {
		return
	}
	l.b.Do("allow devices", linux.DeviceFilter{Cgroup: l.dir, Program: compileDevices(p)}).For(at + "devices")
}

// ListDeviceProgram writes a compiled filter for a reader, a line for each
// instruction, in the notation of the comment at the top of this file. Jumps name the
// number of the instruction that they lead to.
func ListDeviceProgram(program string) []string {
	lines := make([]string, 0, len(program)/8)
	for pc := 0; (pc+1)*8 <= len(program); pc++ {
		code := []byte(program[pc*8 : pc*8+8])
		in := instruction{op: code[0], dst: code[1] & 15, src: code[1] >> 4,
			off: int16(binary.LittleEndian.Uint16(code[2:])), imm: int32(binary.LittleEndian.Uint32(code[4:]))}
		lines = append(lines, in.list(pc))
	}
	return lines
}

func (in instruction) list(pc int) string {
	reg := func(prefix string, r uint8) string { return prefix + strconv.Itoa(int(r)) }
	imm := strconv.FormatUint(uint64(uint32(in.imm)), 10)
	target := " goto " + strconv.Itoa(pc+1+int(in.off))
	dst := reg("w", in.dst)
	switch in.op {
	case opLoadWord:
		return reg("r", in.dst) + " = *(u32 *)(" + reg("r", in.src) + " + " + strconv.Itoa(int(in.off)) + ")"
	case opMove:
		return dst + " = " + reg("w", in.src)
	case opMoveImm:
		return dst + " = " + imm
	case opAndImm:
		return dst + " &= " + imm
	case opShiftImm:
		return dst + " >>= " + imm
	case opGoto:
		return target[1:]
	case opIfEqual:
		return "if " + dst + " == " + imm + target
	case opIfDiffers:
		return "if " + dst + " != " + imm + target
	case opIfAnyBit:
		return "if " + dst + " & " + imm + target
	case opExit:
		return "exit"
	}
	return "opcode " + strconv.Itoa(int(in.op))
}
