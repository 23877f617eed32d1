// Package profile makes OCI seccomp policies from docker's profiles: the one
// that docker itself uses by default, and those in files.
//
// # Theory of operation
//
// A docker profile is a policy for all machines and all containers: its groups
// of rules carry conditions on the architecture, the kernel and the container's
// capabilities ("allow mount if CAP_SYS_ADMIN"). [Target] says what they are, and
// what remains is a plain OCI policy for seccomp.Compile. A plain OCI policy is
// a docker profile without conditions, so [Load] reads both.
//
// Nothing here looks at the machine it runs on, but for the default of
// [Target.Arch].
package profile

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp"
)

// Target is the container, and the kernel, that a policy is for.
type Target struct {
	// Caps is the bounding set of the container, as names with the prefix
	// CAP_. Docker's conditions mean this set.
	Caps []string

	// Arch is the kernel's native ABI. The zero value is that of the running
	// program.
	Arch seccomp.Arch

	// Kernel is the version of the kernel. The zero value meets every
	// demand for a minimum.
	Kernel Kernel
}

// Kernel is a kernel version without its patch level.
type Kernel struct {
	Major, Minor int
}

// ParseKernel reads the version at the start of a kernel release, as uname -r
// prints it: "6.18.44-generic" is 6.18.
func ParseKernel(release string) (Kernel, error) {
	major, rest, ok := strings.Cut(release, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	k, err := parseVersion(major, rest[:end])
	if !ok || err != nil {
		return Kernel{}, fmt.Errorf("kernel release %q does not begin with <number>.<number>", release)
	}
	return k, nil
}

// parseVersion reads two decimal numbers without signs.
func parseVersion(major, minor string) (Kernel, error) {
	a, err := strconv.ParseUint(major, 10, 16)
	if err != nil {
		return Kernel{}, err
	}
	b, err := strconv.ParseUint(minor, 10, 16)
	return Kernel{int(a), int(b)}, err
}

// atLeast reports whether k is least or newer.
func (k Kernel) atLeast(least Kernel) bool {
	return k == Kernel{} || k.Major > least.Major || k.Major == least.Major && k.Minor >= least.Minor
}

// arch returns the target's ABI, and false if this program's has no table.
func (t Target) arch() (seccomp.Arch, bool) {
	if t.Arch != 0 {
		return t.Arch, true
	}
	a, err := seccomp.ArchOf(runtime.GOARCH)
	return a, err == nil
}

// dockerArch returns the target's architecture in the words of docker's
// conditions, which differ from GOARCH in one case.
func (t Target) dockerArch() string {
	a, ok := t.arch()
	switch {
	case !ok:
		return runtime.GOARCH
	case a == seccomp.I386:
		return "x86"
	}
	return a.String()
}

// document is a profile as it is written.
type document struct {
	DefaultAction    specs.LinuxSeccompAction `json:"defaultAction"`
	DefaultErrnoRet  *uint                    `json:"defaultErrnoRet"`
	DefaultErrno     string                   `json:"defaultErrno"` // podman's, the name of DefaultErrnoRet
	Architectures    []specs.Arch             `json:"architectures"`
	ArchMap          []archGroup              `json:"archMap"`
	Flags            []specs.LinuxSeccompFlag `json:"flags"`
	ListenerPath     string                   `json:"listenerPath"`
	ListenerMetadata string                   `json:"listenerMetadata"`
	Syscalls         []group                  `json:"syscalls"`
}

// archGroup is an architecture with those that its kernels also serve.
type archGroup struct {
	Arch     specs.Arch   `json:"architecture"`
	SubArchs []specs.Arch `json:"subArchitectures"`
}

// group is a rule with the conditions under which it belongs to the policy.
type group struct {
	Name     string                   `json:"name"` // before docker 1.12: one of Names
	Names    []string                 `json:"names"`
	Action   specs.LinuxSeccompAction `json:"action"`
	ErrnoRet *uint                    `json:"errnoRet"`
	Errno    string                   `json:"errno"` // podman's, the name of ErrnoRet
	Args     []specs.LinuxSeccompArg  `json:"args"`
	Comment  string                   `json:"comment"`
	Includes condition                `json:"includes"`
	Excludes condition                `json:"excludes"`
}

// condition is what docker calls a filter.
type condition struct {
	Caps      []string `json:"caps"`
	Arches    []string `json:"arches"`
	MinKernel string   `json:"minKernel"`
}

// policy evaluates a checked document for a target.
func (d *document) policy(t Target) *specs.LinuxSeccomp {
	p := &specs.LinuxSeccomp{
		DefaultAction:    d.DefaultAction,
		DefaultErrnoRet:  d.DefaultErrnoRet,
		Architectures:    d.architectures(t),
		Flags:            d.Flags,
		ListenerPath:     d.ListenerPath,
		ListenerMetadata: d.ListenerMetadata,
	}
	for i := range d.Syscalls {
		if g := &d.Syscalls[i]; g.appliesTo(t) {
			p.Syscalls = append(p.Syscalls, g.rule())
		}
	}
	return p
}

// architectures returns the OCI list: the one of the document, or the target's
// entry of its map.
func (d *document) architectures(t Target) []specs.Arch {
	a, ok := t.arch()
	for _, g := range d.ArchMap {
		if ok && g.Arch == a.OCI() {
			return append([]specs.Arch{g.Arch}, g.SubArchs...)
		}
	}
	return d.Architectures
}

// rule returns the group as an OCI rule.
func (g *group) rule() specs.LinuxSyscall {
	names := g.Names
	if g.Name != "" {
		names = []string{g.Name}
	}
	return specs.LinuxSyscall{Names: names, Action: g.Action, ErrnoRet: g.ErrnoRet, Args: g.Args}
}

// appliesTo reports whether the group belongs to the target's policy: all that
// it includes is there, and nothing that it excludes.
func (g *group) appliesTo(t Target) bool {
	has := func(name string) bool { return slices.Contains(t.Caps, name) }
	lacks := func(name string) bool { return !has(name) }
	arch := t.dockerArch()

	in, ex := &g.Includes, &g.Excludes
	switch {
	case slices.Contains(ex.Arches, arch), slices.ContainsFunc(ex.Caps, has):
		return false
	case ex.MinKernel != "" && t.Kernel.atLeast(ex.minKernel()):
		return false
	case len(in.Arches) > 0 && !slices.Contains(in.Arches, arch), slices.ContainsFunc(in.Caps, lacks):
		return false
	case in.MinKernel != "" && !t.Kernel.atLeast(in.minKernel()):
		return false
	}
	return true
}

// minKernel returns MinKernel, which check has found to be a version.
func (c *condition) minKernel() Kernel {
	k, _ := c.parseMinKernel()
	return k
}

func (c *condition) parseMinKernel() (Kernel, error) {
	major, minor, _ := strings.Cut(c.MinKernel, ".")
	k, err := parseVersion(major, minor)
	if err != nil || k == (Kernel{}) {
		return Kernel{}, fmt.Errorf("minKernel: %q is not <number>.<number>", c.MinKernel)
	}
	return k, nil
}
