package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// The journal is the list of a plan's inverses, last step first, as text:
//
//	rmdir "/sys/fs/cgroup/pids/containr/abc"
//	stop "containr-abc.scope"
//	umount "/bundle/rootfs"
//
// It is written in one piece before the first step is made. Running it is harmless
// for what was never done, so nothing needs to be added while the plan runs; and a
// crash at any point leaves either no journal, and nothing done, or all of it.
// Not synced to disk: what it undoes does not outlive a boot either.

// stopAction is the word for the end of a unit of the system's, and of a user's, systemd.
var stopAction = map[bool]string{false: "stop", true: "stop-user"}

func writeJournal(path string, calls []plan.Call) error {
	var b strings.Builder
	for _, c := range calls {
		switch c := c.(type) {
		case linux.RemoveDir:
			b.WriteString("rmdir " + strconv.Quote(c.Path) + "\n")
		case linux.StopUnit:
			b.WriteString(stopAction[c.User] + " " + strconv.Quote(c.Unit) + "\n")
		case linux.Umount:
			b.WriteString("umount " + strconv.Quote(c.Target) + "\n")
		case journaled:
			action, operand := c.Entry()
			b.WriteString(action + " " + strconv.Quote(operand) + "\n")
		default:
			return fmt.Errorf("journal: %s cannot be undone later", c.Name())
		}
	}
	if err := sys.WriteFile(path, []byte(b.String())); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func (a Actions) readJournal(path string) ([]plan.Call, error) {
	text, err := sys.ReadFile(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var calls []plan.Call
	for line := range strings.Lines(string(text)) {
		action, quoted, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		operand, err := strconv.Unquote(quoted)
		if err != nil {
			break // the torn end of a write that a crash cut short: nothing was done yet
		}
		switch action {
		case "rmdir":
			calls = append(calls, linux.RemoveDir{Path: operand})
		case "umount":
			calls = append(calls, linux.Umount{Target: operand, Flags: linux.MntDetach})
		case stopAction[false], stopAction[true]:
			calls = append(calls, linux.StopUnit{User: action == stopAction[true], Unit: operand})
		default:
			if a.Read == nil {
				return nil, fmt.Errorf("journal %s: unknown action %q", path, action)
			}
			c, err := a.Read(action, operand)
			if err != nil {
				return nil, fmt.Errorf("journal %s: %w", path, err)
			}
			calls = append(calls, c)
		}
	}
	return calls, nil
}

func removeJournal(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
