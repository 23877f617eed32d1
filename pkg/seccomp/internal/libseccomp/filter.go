//go:build libseccomp

package libseccomp

// #cgo LDFLAGS: -lseccomp
// #include <errno.h>
// #include <seccomp.h>
// #include <stdlib.h>
//
// static int resolve(uint32_t arch, char *name, int *number) {
//	*number = seccomp_syscall_resolve_name_arch(arch, name);
//	return *number != __NR_SCMP_ERROR;
// }
import "C"

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp"
)

// ErrConflict means that the library refuses a rule because of an earlier one.
var ErrConflict = errors.New("rule contradicts an earlier one")

// Number returns the library's number of a system call, without x32's bit. It
// is negative if the ABI lacks the call or multiplexes it; false means that the
// library does not know the name.
func Number(a seccomp.Arch, name string) (int, bool) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	var number C.int
	ok := C.resolve(token(a.OCI()), cname, &number)
	if a == seccomp.X32 && number >= 0 {
		number &^= 0x40000000
	}
	return int(number), ok != 0
}

// token returns the library's value for an architecture.
func token(a specs.Arch) C.uint32_t {
	name := C.CString(strings.ToLower(strings.TrimPrefix(string(a), "SCMP_ARCH_")))
	defer C.free(unsafe.Pointer(name))
	return C.seccomp_arch_resolve_name(name)
}

// Compile makes the library's filter of a policy for a native ABI, with its
// binary tree if asked. Actions are those of this module's package, so that
// only the library's part is compared.
func Compile(policy *specs.LinuxSeccomp, native seccomp.Arch, tree bool, action func(specs.LinuxSeccompAction, *uint) seccomp.Action) (*seccomp.Program, error) {
	def := action(policy.DefaultAction, policy.DefaultErrnoRet)
	ctx := C.seccomp_init(C.uint32_t(def))
	if ctx == nil {
		return nil, errors.New("seccomp_init failed")
	}
	defer C.seccomp_release(ctx)
	if err := setArchitectures(ctx, policy, native); err != nil {
		return nil, err
	}
	if tree {
		C.seccomp_attr_set(ctx, C.SCMP_FLTATR_CTL_OPTIMIZE, 2)
	}
	for i := range policy.Syscalls {
		if err := addRule(ctx, &policy.Syscalls[i], def, action); err != nil {
			return nil, fmt.Errorf("syscalls[%d]: %w", i, err)
		}
	}
	return export(ctx)
}

// setArchitectures makes the filter one for the native ABI, whatever machine
// this is, and for the policy's others of the same family.
func setArchitectures(ctx C.scmp_filter_ctx, policy *specs.LinuxSeccomp, native seccomp.Arch) error {
	add := func(a specs.Arch) error {
		if rc := C.seccomp_arch_add(ctx, token(a)); rc != 0 && rc != -C.EEXIST {
			return fmt.Errorf("seccomp_arch_add %s: %d", a, rc)
		}
		return nil
	}
	if err := add(native.OCI()); err != nil {
		return err
	}
	if token(native.OCI()) != C.seccomp_arch_native() {
		C.seccomp_arch_remove(ctx, C.seccomp_arch_native())
	}
	for _, a := range policy.Architectures {
		if err := add(a); err != nil {
			return err
		}
	}
	return nil
}

// addRule adds one rule as runc does.
func addRule(ctx C.scmp_filter_ctx, call *specs.LinuxSyscall, def seccomp.Action, action func(specs.LinuxSeccompAction, *uint) seccomp.Action) error {
	act := action(call.Action, call.ErrnoRet)
	if act == def {
		return nil
	}
	conds := make([]C.struct_scmp_arg_cmp, len(call.Args))
	seen := map[uint]bool{}
	separate := false
	for i, arg := range call.Args {
		conds[i] = C.struct_scmp_arg_cmp{
			arg: C.uint(arg.Index), op: operator(arg.Op),
			datum_a: C.scmp_datum_t(arg.Value), datum_b: C.scmp_datum_t(arg.ValueTwo),
		}
		separate = separate || seen[arg.Index]
		seen[arg.Index] = true
	}
	for _, name := range call.Names {
		cname := C.CString(name)
		number := C.seccomp_syscall_resolve_name(cname)
		C.free(unsafe.Pointer(cname))
		if number == C.__NR_SCMP_ERROR {
			continue
		}
		alternatives := [][]C.struct_scmp_arg_cmp{conds}
		if separate {
			alternatives = nil
			for i := range conds {
				alternatives = append(alternatives, conds[i:i+1])
			}
		}
		for _, c := range alternatives {
			rc := C.seccomp_rule_add_array(ctx, C.uint32_t(act), number, C.uint(len(c)), unsafe.SliceData(c))
			if rc == -C.EEXIST {
				return ErrConflict
			}
			if rc != 0 {
				return fmt.Errorf("seccomp_rule_add_array %s: %d", name, rc)
			}
		}
	}
	return nil
}

func operator(op specs.LinuxSeccompOperator) C.enum_scmp_compare {
	switch op {
	case specs.OpNotEqual:
		return C.SCMP_CMP_NE
	case specs.OpLessThan:
		return C.SCMP_CMP_LT
	case specs.OpLessEqual:
		return C.SCMP_CMP_LE
	case specs.OpEqualTo:
		return C.SCMP_CMP_EQ
	case specs.OpGreaterEqual:
		return C.SCMP_CMP_GE
	case specs.OpGreaterThan:
		return C.SCMP_CMP_GT
	}
	return C.SCMP_CMP_MASKED_EQ
}

// export reads the filter back as a program.
func export(ctx C.scmp_filter_ctx) (*seccomp.Program, error) {
	file, err := os.CreateTemp("", "libseccomp")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := os.Remove(file.Name()); err != nil {
		return nil, err
	}
	if rc := C.seccomp_export_bpf(ctx, C.int(file.Fd())); rc != 0 {
		return nil, fmt.Errorf("seccomp_export_bpf: %d", rc)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	code, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	program := &seccomp.Program{Instructions: make([]seccomp.Instruction, len(code)/8)}
	if err := binary.Read(bytes.NewReader(code), binary.LittleEndian, program.Instructions); err != nil {
		return nil, err
	}
	return program, nil
}
