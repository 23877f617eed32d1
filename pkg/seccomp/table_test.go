package seccomp

import (
	"go/build"
	"slices"
	"strings"
	"testing"
)

func TestTableIsInOrder(t *testing.T) {
	for i := 1; i < callCount; i++ {
		if callName(i-1) >= callName(i) {
			t.Errorf("%q before %q", callName(i-1), callName(i))
		}
	}
}

func TestTableFits(t *testing.T) {
	for i, row := range callNumbers {
		for a, number := range row.number {
			if number == noCall {
				continue
			}
			private := number >= armPrivateMark
			if private && (Arch(a+1) != ARM || slot(number) >= tableSize) || !private && number >= plainSlots {
				t.Errorf("%s of %s: number %#x has no slot", callName(i), Arch(a+1), number)
			}
		}
	}
}

func TestEachNameIsFoundFromEachHint(t *testing.T) {
	for want := range callCount {
		name := callName(want)
		for hint := 0; hint <= callCount; hint += 13 {
			if got, ok := findCall(name, hint); !ok || got != want {
				t.Fatalf("%s from %d: got %d, %t, want %d", name, hint, got, ok, want)
			}
			for _, missing := range []string{name + "\x00", name[:len(name)-1] + "\x00", ""} {
				if got, ok := findCall(missing, hint); ok {
					t.Fatalf("%q from %d: got %d", missing, hint, got)
				}
			}
		}
	}
}

// A few numbers from the kernel's tables, also the newest, by hand.
func TestNumbers(t *testing.T) {
	for _, test := range []struct {
		arch   Arch
		name   string
		number uint32
	}{
		{AMD64, "read", 0},
		{AMD64, "uretprobe", 335},
		{AMD64, "file_setattr", 469},
		{I386, "read", 3},
		{I386, "umount", 22},
		{I386, "umount2", 52},
		{I386, "_llseek", 140},
		{I386, "file_setattr", 469},
		{X32, "read", x32Bit},
		{X32, "execve", x32Bit | 520},
		{X32, "pwritev2", x32Bit | 547},
		{X32, "file_setattr", x32Bit | 469},
		{ARM64, "read", 63},
		{ARM64, "newfstatat", 79},
		{ARM64, "file_setattr", 469},
		{ARM, "read", 3},
		{ARM, "set_tls", 0xf0005},
		{ARM, "arm_fadvise64_64", 270},
		{ARM, "file_setattr", 469},
	} {
		number, ok := test.arch.Number(test.name)
		if !ok || number != test.number {
			t.Errorf("%s %s: got %d, %t, want %d", test.arch, test.name, number, ok, test.number)
		}
		if name, ok := test.arch.Name(test.number); !ok || name != test.name {
			t.Errorf("%s %d: got %s, %t, want %s", test.arch, test.number, name, ok, test.name)
		}
	}
	for _, test := range []struct {
		arch Arch
		name string
	}{
		{ARM64, "open"}, {X32, "uselib"}, {AMD64, "chown32"}, {AMD64, "nonsense"}, {I386, "accept"}, {0, "read"}, {9, "read"},
	} {
		if number, ok := test.arch.Number(test.name); ok {
			t.Errorf("%s %s: got %d", test.arch, test.name, number)
		}
	}
	if name, ok := AMD64.Name(400); ok {
		t.Errorf("amd64 400: got %s", name)
	}
}

func TestArchitectures(t *testing.T) {
	for _, a := range []Arch{AMD64, I386, ARM64, ARM} {
		got, err := ArchOf(a.String())
		if err != nil || got != a || !knownArch(a.OCI()) || a.Audit() == 0 {
			t.Errorf("%s: got %s, %v", a, got, err)
		}
	}
	for _, name := range []string{"x32", "mips", ""} {
		if a, err := ArchOf(name); err == nil {
			t.Errorf("%q: got %s", name, a)
		}
	}
}

// The runtime's lean binary links this package.
func TestImportsAreFew(t *testing.T) {
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{
		"cmp", "encoding/binary", "errors", "fmt", "slices", "strings",
		"github.com/opencontainers/runtime-spec/specs-go",
		"github.com/containr/containr/pkg/plan", "github.com/containr/containr/pkg/plan/linux",
	}
	for _, path := range pkg.Imports {
		if !slices.Contains(allowed, path) {
			t.Errorf("imports %s; allowed are %s", path, strings.Join(allowed, ", "))
		}
	}
}
