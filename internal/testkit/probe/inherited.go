package probe

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/containr/containr/internal/testkit/procfs"
)

// The variables in which the Go runtime and package syscall keep what execve handed over (Go 1.19 to 1.26).
const (
	symMask   = "runtime.initSigmask"      // the blocked signals: 64 bits
	symAction = "runtime.fwdSig"           // one word per signal: its action before Go took it; 1 is SIG_IGN
	symNofile = "syscall.origRlimitNofile" // pointer to {soft, hard}; nil if Go left the limit alone
)

// sigIgn is SIG_IGN as the kernel stores it.
const sigIgn = 1

// inheritedSignals combines what Go remembers of the signals it took with what it left alone: nowIgnored, the
// SigIgn line of /proc/self/status.
func inheritedSignals(nowIgnored procfs.Signals) (InheritedSignals, error) {
	mask, err := variable(symMask)
	if err != nil {
		return InheritedSignals{}, err
	}
	actions, err := variable(symAction)
	if err != nil {
		return InheritedSignals{}, err
	}
	s := InheritedSignals{Blocked: procfs.Signals(mask[0]), Ignored: nowIgnored}
	for sig := 1; sig < len(actions) && sig <= 64; sig++ {
		if actions[sig] == sigIgn {
			s.Ignored |= 1 << (sig - 1)
		}
	}
	return s, nil
}

// inheritedNofile returns the soft limit of open files before Go raised it, nil if it did not.
func inheritedNofile() (*uint64, error) {
	ptr, err := variable(symNofile)
	if err != nil || ptr[0] == 0 {
		return nil, err
	}
	words, err := memory(ptr[0], 8)
	if err != nil {
		return nil, err
	}
	return &words[0], nil
}

// variable returns the 64-bit words of a variable of this program, found by name in its own symbol table.
func variable(name string) ([]uint64, error) {
	exe, err := elf.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	syms, err := exe.Symbols()
	if err != nil {
		return nil, fmt.Errorf("symbols of /proc/self/exe: %w", err)
	}
	for _, s := range syms {
		if s.Name == name {
			return memory(s.Value, s.Size)
		}
	}
	return nil, fmt.Errorf("no variable %s in /proc/self/exe", name)
}

// memory reads this process at an address. The program is static and not position independent, so a symbol's value
// is its address.
func memory(addr, size uint64) ([]uint64, error) {
	f, err := os.Open("/proc/self/mem")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, size)
	if _, err := f.ReadAt(buf, int64(addr)); err != nil {
		return nil, err
	}
	words := make([]uint64, size/8)
	for i := range words {
		words[i] = binary.NativeEndian.Uint64(buf[8*i:])
	}
	return words, nil
}
