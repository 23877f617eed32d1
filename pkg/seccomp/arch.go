package seccomp

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Arch is a system call ABI: one table of numbers. A kernel serves several;
// the kernel tells a filter which by an audit architecture, and tells x32 from
// amd64 by a bit in the number.
type Arch uint8

// The known ABIs. The zero Arch is none of them.
const (
	AMD64 Arch = iota + 1 // 64-bit x86
	I386                  // 32-bit x86, also reached by int 0x80 from 64-bit programs
	X32                   // amd64 with 32-bit pointers; its numbers carry x32Bit
	ARM64
	ARM // the EABI; the old ABI is not supported, nor does libseccomp
)

// archCount is the number of columns of the generated table.
const archCount = 5

// x32Bit is set in the number of a call made with the x32 ABI
// (__X32_SYSCALL_BIT, Linux arch/x86/include/uapi/asm/unistd.h).
const x32Bit = 0x40000000

// Audit architectures, the values of seccomp_data.arch (AUDIT_ARCH_* of
// linux/audit.h: an ELF machine number, a bit for 64 and one for little endian).
const (
	auditAMD64 = 0xc000003e
	auditI386  = 0x40000003
	auditARM64 = 0xc00000b7
	auditARM   = 0x40000028
)

// ArchOf returns the ABI native to a Go architecture (a GOARCH value).
func ArchOf(goarch string) (Arch, error) {
	for _, a := range []Arch{AMD64, I386, ARM64, ARM} {
		if a.String() == goarch {
			return a, nil
		}
	}
	return 0, fmt.Errorf("no system call table for architecture %q", goarch)
}

// String returns the ABI's name: its GOARCH value, or "x32".
func (a Arch) String() string {
	switch a {
	case AMD64:
		return "amd64"
	case I386:
		return "386"
	case X32:
		return "x32"
	case ARM64:
		return "arm64"
	case ARM:
		return "arm"
	}
	return fmt.Sprintf("Arch(%d)", uint8(a))
}

// Audit returns the value that the kernel puts into seccomp_data.arch for
// calls of this ABI. AMD64 and X32 share one.
func (a Arch) Audit() uint32 {
	switch a {
	case AMD64, X32:
		return auditAMD64
	case I386:
		return auditI386
	case ARM64:
		return auditARM64
	case ARM:
		return auditARM
	}
	return 0
}

// OCI returns the ABI's name in an OCI runtime configuration.
func (a Arch) OCI() specs.Arch {
	switch a {
	case AMD64:
		return specs.ArchX86_64
	case I386:
		return specs.ArchX86
	case X32:
		return specs.ArchX32
	case ARM64:
		return specs.ArchAARCH64
	case ARM:
		return specs.ArchARM
	}
	return ""
}

// valid reports whether a is one of the constants above.
func (a Arch) valid() bool { return a >= AMD64 && a <= ARM }

// wide reports whether arguments are 64 bits. On the others, x32 included, a
// rule looks at the low 32 bits only.
func (a Arch) wide() bool { return a == AMD64 || a == ARM64 }

// family returns the ABIs that one kernel may serve together with a, in the
// order in which a filter asks for them; none with the zero Arch.
func (a Arch) family() []Arch {
	switch a {
	case AMD64, X32, I386:
		return []Arch{AMD64, X32, I386}
	case ARM64, ARM:
		return []Arch{ARM64, ARM}
	}
	return nil
}

// knownArch reports whether an OCI configuration may name this architecture.
// The list is that of the OCI runtime specification 1.3.
func knownArch(a specs.Arch) bool {
	switch a {
	case specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64,
		specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32,
		specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
		specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X,
		specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64, specs.ArchLOONGARCH64,
		specs.ArchM68K, specs.ArchSH, specs.ArchSHEB:
		return true
	}
	return false
}
