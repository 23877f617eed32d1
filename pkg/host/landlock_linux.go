package host

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// LandlockABI returns the version of Landlock's interface that the kernel has, landlock_create_ruleset(2): 1 came with Linux 5.13, 2
// with 5.19, 3 with 6.2. The error is ENOSYS where the kernel was built without, and EOPNOTSUPP where it was booted without.
func LandlockABI() (int, error) {
	abi, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0, errno
	}
	return int(abi), nil
}

// landlockWrites is the first version that knows all rights to change files, see linux.LandlockWrites: truncate(2) was the last of them.
const landlockWrites = 3

// WhyNoLandlock says why no container can be confined with Landlock here; empty if one can.
func WhyNoLandlock() string {
	abi, err := LandlockABI()
	switch {
	case errors.Is(err, unix.ENOSYS):
		return "this kernel has no Landlock"
	case errors.Is(err, unix.EOPNOTSUPP):
		return "Landlock is not among the security modules that the kernel was booted with"
	case err != nil:
		return "landlock_create_ruleset: " + err.Error()
	case abi < landlockWrites:
		return fmt.Sprintf("this kernel's Landlock (version %d of its interface) does not know all rights to write, which takes version %d, of Linux 6.2", abi, landlockWrites)
	}
	return ""
}
