package namespace

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// clocks are those that a time namespace shifts, time_namespaces(7).
var clocks = [...]string{"boottime", "monotonic"}

// planOffsets shifts the clocks of a new time namespace. That can be done only as long
// as no process is in it: so the child makes the namespace for its children first,
// writes what is different there, and then enters it itself.
func (p *Placement) planOffsets(spec *specs.Spec) error {
	offsets := spec.Linux.TimeOffsets
	if len(offsets) == 0 {
		return nil
	}
	if p.New&linux.CloneNewtime == 0 {
		return errors.New("/linux/timeOffsets: they need a new time namespace")
	}
	text, err := offsetLines(offsets)
	if err != nil {
		return err
	}
	const pointer = "/linux/timeOffsets"
	p.New &^= linux.CloneNewtime
	b := plan.Build(plan.Child, plan.NamespaceChapter)
	b.Do("clocks of its own, which nobody has looked at", linux.Unshare{Flags: linux.CloneNewtime}).For("/linux/namespaces")
	b.Do("they are ahead of the host's, or behind", linux.Openat{Dir: linux.CWD, Path: "/proc/self/timens_offsets", Flags: linux.OWronly | linux.OCloexec}).
		As("offsets").For(pointer)
	b.Do("they are ahead of the host's, or behind", linux.Write{FD: "offsets", Data: text}).For(pointer)
	b.Do("from here on it has these clocks", linux.Openat{Dir: linux.CWD, Path: "/proc/self/ns/time_for_children", Flags: linux.OCloexec}).
		As("clocks").For(pointer)
	b.Do("from here on it has these clocks", linux.Setns{FD: "clocks", Flags: linux.CloneNewtime}).For(pointer)
	p.Join = append(p.Join, b.Steps...)
	return nil
}

// offsetLines writes offsets as /proc/PID/timens_offsets takes them: "monotonic 10 5".
func offsetLines(offsets map[string]specs.LinuxTimeOffset) (string, error) {
	names := make([]string, 0, len(offsets))
	for name := range offsets {
		names = append(names, name)
	}
	sort.Strings(names)
	var text strings.Builder
	for _, name := range names {
		if name != clocks[0] && name != clocks[1] {
			return "", fmt.Errorf("/linux/timeOffsets/%s: unknown clock; there are boottime and monotonic", name)
		}
		o := offsets[name]
		if o.Nanosecs >= 1e9 {
			return "", fmt.Errorf("/linux/timeOffsets/%s/nanosecs: %d is a second or more", name, o.Nanosecs)
		}
		fmt.Fprintf(&text, "%s %d %d\n", name, o.Secs, o.Nanosecs)
	}
	return text.String(), nil
}
