package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// request is what a process wants of a device.
type request struct {
	kind         byte
	major, minor uint32
	access       access
}

// runDeviceProgram interprets the part of eBPF that compileDevices uses, with the
// kernel's checks: every jump stays inside, every register is set before it is read,
// and the program ends.
func runDeviceProgram(program string, q request) (allowed bool, err error) {
	kind := uint32(2)
	if q.kind == 'b' {
		kind = 1
	}
	context := [3]uint32{kind | uint32(q.access)<<16, q.major, q.minor}
	var reg [11]uint64
	var set [11]bool
	set[regContext] = true
	for pc, steps := 0, 0; pc >= 0 && pc*8 < len(program) && steps <= len(program); pc, steps = pc+1, steps+1 {
		in := program[pc*8:]
		op, dst, src := in[0], in[1]&15, in[1]>>4
		off := int(int16(binary.LittleEndian.Uint16([]byte(in[2:4]))))
		imm := binary.LittleEndian.Uint32([]byte(in[4:8]))
		if !set[src] && (op == opLoadWord || op == opMove) || !set[dst] && op != opLoadWord && op != opMove && op != opMoveImm && op != opGoto && op != opExit {
			return false, fmt.Errorf("instruction %d reads a register before it is set", pc)
		}
		w := uint32(reg[dst])
		switch op {
		case opLoadWord:
			if src != regContext || off%4 != 0 || off < 0 || off > 8 {
				return false, fmt.Errorf("instruction %d loads from offset %d", pc, off)
			}
			reg[dst], set[dst] = uint64(context[off/4]), true
		case opMove:
			reg[dst], set[dst] = uint64(uint32(reg[src])), true
		case opMoveImm:
			reg[dst], set[dst] = uint64(imm), true
		case opAndImm:
			reg[dst] = uint64(w & imm)
		case opShiftImm:
			reg[dst] = uint64(w >> imm)
		case opGoto:
			pc += off
		case opIfEqual:
			if w == imm {
				pc += off
			}
		case opIfDiffers:
			if w != imm {
				pc += off
			}
		case opIfAnyBit:
			if w&imm != 0 {
				pc += off
			}
		case opExit:
			if !set[regResult] {
				return false, errors.New("no result")
			}
			return reg[regResult] == 1, nil
		default:
			return false, fmt.Errorf("instruction %d: unknown opcode %#x", pc, op)
		}
	}
	return false, errors.New("ran off the end")
}

// lastMatch is the meaning of rules, word for word: each access that is wanted is
// decided by the last rule that names the device and the access.
func lastMatch(list []specs.LinuxDeviceCgroup, q request) bool {
	for _, a := range []access{accessMknod, accessRead, accessWrite} {
		if q.access&a == 0 {
			continue
		}
		verdict := false
		for _, r := range list {
			all := (r.Type == "" || r.Type == "a") && wildcard(r.Major) < 0 && wildcard(r.Minor) < 0 && parseAccess(r.Access) == accessAll
			if (all || isAbout(r, q)) && parseAccess(r.Access)&a != 0 {
				verdict = r.Allow
			}
		}
		for _, r := range standardDevices {
			if r.covers(deviceRule{kind: q.kind, major: int64(q.major), minor: int64(q.minor)}) && r.access&a != 0 {
				verdict = true
			}
		}
		if !verdict {
			return false
		}
	}
	return true
}

func isAbout(r specs.LinuxDeviceCgroup, q request) bool {
	return (r.Type == "" || r.Type == "a" || r.Type[0] == q.kind) &&
		(wildcard(r.Major) < 0 || wildcard(r.Major) == int64(q.major)) && (wildcard(r.Minor) < 0 || wildcard(r.Minor) == int64(q.minor))
}

// verdictV1 is how the kernel judges by exceptions, security/device_cgroup.c: against
// a denying default one exception must grant everything that is wanted, against an
// allowing one any that names a wanted access denies.
func verdictV1(allow bool, exceptions []deviceRule, q request) bool {
	device := deviceRule{kind: q.kind, major: int64(q.major), minor: int64(q.minor)}
	for _, e := range exceptions {
		if !e.covers(device) {
			continue
		}
		if allow && e.access&q.access != 0 {
			return false
		}
		if !allow && e.access&q.access == q.access {
			return true
		}
	}
	return allow
}

func randomRules(r *rand.Rand) []specs.LinuxDeviceCgroup {
	number := func() *int64 {
		switch r.IntN(4) {
		case 0:
			return nil
		case 1:
			return ptr(int64(-1))
		}
		return ptr(int64(r.IntN(3) + 1))
	}
	list := make([]specs.LinuxDeviceCgroup, r.IntN(6))
	for i := range list {
		access := access(r.IntN(7) + 1)
		if r.IntN(2) == 0 {
			access = accessAll
		}
		list[i] = specs.LinuxDeviceCgroup{Allow: r.IntN(2) == 0, Type: []string{"a", "b", "c", "c", ""}[r.IntN(5)],
			Major: number(), Minor: number(), Access: access.String()}
	}
	return list
}

// TestDeviceProgramMeansLastMatch compares the compiled program with the meaning of
// the rules, for random rules and every request about a small set of devices.
func TestDeviceProgramMeansLastMatch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		list := randomRules(r)
		policy := newDevicePolicy(list)
		program := compileDevices(policy)
		for q := range requests() {
			got, err := runDeviceProgram(program, q)
			if err != nil {
				t.Fatalf("%+v: %v", list, err)
			}
			if want := lastMatch(list, q); got != want {
				t.Fatalf("rules %s: %c %d:%d %s: allowed %v, want %v", describe(list), q.kind, q.major, q.minor, q.access, got, want)
			}
		}
	}
}

// TestDeviceLinesMeanLastMatch does the same for version 1. A program that wants
// several accesses at once needs one exception for all of them there, so requests for
// one access are compared exactly, and no more is ever allowed than asked.
func TestDeviceLinesMeanLastMatch(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for range 2000 {
		list := randomRules(r)
		policy := newDevicePolicy(list)
		exceptions, err := policy.exceptions()
		if err != nil {
			refused++
			continue
		}
		for q := range requests() {
			got, want := verdictV1(policy.allow, exceptions, q), lastMatch(list, q)
			single := q.access&(q.access-1) == 0
			if got != want && (single || got) {
				t.Fatalf("rules %s: %c %d:%d %s: allowed %v, want %v; lines %v", describe(list), q.kind, q.major, q.minor, q.access, got, want, exceptions)
			}
		}
	}
	if refused == 0 || refused > 1900 {
		t.Errorf("%d of 2000 rule sets refused: the test does not test", refused)
	}
}

func requests() func(func(request) bool) {
	return func(yield func(request) bool) {
		for _, kind := range []byte{'b', 'c'} {
			for major := uint32(0); major < 5; major++ {
				for minor := uint32(0); minor < 5; minor++ {
					for a := access(1); a <= accessAll; a++ {
						if !yield(request{kind, major, minor, a}) {
							return
						}
					}
				}
			}
		}
	}
}

func describe(list []specs.LinuxDeviceCgroup) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "[allow %v %q %d:%d %s]", d.Allow, d.Type, wildcard(d.Major), wildcard(d.Minor), d.Access)
	}
	return b.String()
}

// TestV1RefusesHoles: the kernel would drop such a rule silently, and the device that
// the user meant to take away would stay.
func TestV1RefusesHoles(t *testing.T) {
	rules := []specs.LinuxDeviceCgroup{
		{Access: "rwm"},
		{Allow: true, Type: "b", Major: ptr(int64(8)), Access: "rw"},
		{Type: "b", Major: ptr(int64(8)), Minor: ptr(int64(1)), Access: "w"},
	}
	_, err := Plan(specOf("", &specs.LinuxResources{Devices: rules}), machineV1(), "c1")
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "b 8:1 w") {
		t.Errorf("error %v", err)
	}
	if _, err := Plan(specOf("", &specs.LinuxResources{Devices: rules}), machineV2(), "c1"); err != nil {
		t.Errorf("version 2 can: %v", err)
	}
}

// TestAllowAllNeedsNoFilter: a privileged container costs neither writes nor a program.
func TestAllowAllNeedsNoFilter(t *testing.T) {
	rules := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "a", Access: "rwm"}}}
	for _, f := range allMachines() {
		p, err := Plan(specOf("", rules), f, "c1")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range slices.Concat(p.Setup, p.Attach) {
			if s.From == "/linux/resources/devices" {
				t.Errorf("%s: %s", f.CgroupMode, s.String())
			}
		}
	}
}

// TestDeviceProgramListing shows the program for one rule of each kind.
func TestDeviceProgramListing(t *testing.T) {
	program := compileDevices(devicePolicy{rules: []deviceRule{
		{true, 'c', 1, 3, accessAll},
		{true, 'b', 8, anyNumber, accessRead},
		{false, 'b', 8, 1, accessRead | accessMknod},
	}})
	var b strings.Builder
	for i, line := range ListDeviceProgram(program) {
		fmt.Fprintf(&b, "%2d  %s\n", i, line)
	}
	golden(t, "device-program", []byte(b.String()))
}

// FuzzDeviceProgram: any rules that are taken compile to a program that ends.
func FuzzDeviceProgram(f *testing.F) {
	f.Add("c", int64(1), int64(3), "rwm", "b", int64(-1), int64(7), "r")
	f.Fuzz(func(t *testing.T, kind1 string, major1, minor1 int64, access1, kind2 string, major2, minor2 int64, access2 string) {
		list := []specs.LinuxDeviceCgroup{
			{Type: kind1, Major: &major1, Minor: &minor1, Access: access1, Allow: true},
			{Type: kind2, Major: &major2, Minor: &minor2, Access: access2},
		}
		if checkDevices(list) != nil {
			return
		}
		program := compileDevices(newDevicePolicy(list))
		for _, q := range []request{{'c', uint32(major1), uint32(minor1), accessAll}, {'b', uint32(major2), uint32(minor2), accessRead}} {
			if _, err := runDeviceProgram(program, q); err != nil {
				t.Errorf("%s: %v", describe(list), err)
			}
		}
	})
}
