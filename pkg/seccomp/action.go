package seccomp

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Action is what a filter returns for a call: what the kernel is to do with it
// in the upper half, and a number for the tracer or the caller in the lower
// (SECCOMP_RET_* of linux/seccomp.h).
type Action uint32

// The actions of the kernel. Errno and Trace carry a number, see [Action.Data].
const (
	KillProcess Action = 0x80000000
	KillThread  Action = 0x00000000
	Trap        Action = 0x00030000
	Errno       Action = 0x00050000
	Notify      Action = 0x7fc00000
	Trace       Action = 0x7ff00000
	Log         Action = 0x7ffc0000
	Allow       Action = 0x7fff0000
)

const (
	actionData = 0x0000ffff // the lower half

	eperm  = 1
	enosys = 38

	maxErrno = 4095 // MAX_ERRNO; the kernel would silently lower a larger one
)

// Kind returns the action without its number.
func (a Action) Kind() Action { return a &^ actionData }

// Data returns the number that comes with the action: the errno of Errno, the
// message of Trace, otherwise 0.
func (a Action) Data() uint16 { return uint16(a & actionData) }

// permissive reports whether the kernel executes the call after all, perhaps
// with someone watching.
func (a Action) permissive() bool {
	switch a.Kind() {
	case Allow, Log, Trace:
		return true
	}
	return false
}

// stricter reports whether a comes before b in the kernel's order of
// precedence, which is that of the values as signed numbers (seccomp(2)).
func (a Action) stricter(b Action) bool { return int32(a.Kind()) < int32(b.Kind()) }

// String returns the action in the words of this package's listings.
func (a Action) String() string {
	switch a.Kind() {
	case KillProcess:
		return "kill process"
	case KillThread:
		return "kill thread"
	case Trap:
		return "trap"
	case Errno:
		switch a.Data() {
		case eperm:
			return "errno EPERM"
		case enosys:
			return "errno ENOSYS"
		}
		return fmt.Sprintf("errno %d", a.Data())
	case Notify:
		return "notify"
	case Trace:
		return fmt.Sprintf("trace %d", a.Data())
	case Log:
		return "log"
	case Allow:
		return "allow"
	}
	return fmt.Sprintf("unknown action %#08x", uint32(a))
}

// parseAction reads the action of a policy and its errno, nil if none was
// given. Errors do not say where the action stands.
func parseAction(name specs.LinuxSeccompAction, errno *uint) (Action, error) {
	var a Action
	switch name {
	case specs.ActKill, specs.ActKillThread:
		a = KillThread
	case specs.ActKillProcess:
		a = KillProcess
	case specs.ActTrap:
		a = Trap
	case specs.ActErrno:
		return withNumber(Errno, errno, maxErrno)
	case specs.ActTrace:
		return withNumber(Trace, errno, actionData)
	case specs.ActAllow:
		a = Allow
	case specs.ActLog:
		a = Log
	case specs.ActNotify:
		a = Notify
	case "":
		return 0, fmt.Errorf("no action")
	default:
		return 0, fmt.Errorf("unknown action %q", name)
	}
	if errno != nil {
		return 0, fmt.Errorf("errnoRet %d with %s, which returns none", *errno, name)
	}
	return a, nil
}

// withNumber adds the number of an action that has one; EPERM if not given.
func withNumber(kind Action, number *uint, largest uint) (Action, error) {
	if number == nil {
		return kind | eperm, nil
	}
	if *number > largest {
		return 0, fmt.Errorf("errnoRet %d is larger than %d", *number, largest)
	}
	return kind | Action(*number), nil
}
