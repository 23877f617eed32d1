// Package security plans how the child gives up what the user's program must not
// have: resources, capabilities, ids, and the way back.
//
// # Theory of operation
//
// The order is forced by the kernel. Limits are set while there still is a
// capability to set them. The bounding set is emptied while CAP_SETPCAP is there.
// The keep-capabilities flag makes the permitted set survive the change of user
// id; groups are set before the user, because afterwards they cannot be. Then the
// sets are cut down to what is granted, ambient capabilities are raised from them,
// and no_new_privs closes the door: from here no execve can gain anything.
//
// Labels of security modules come before all of that: they are told in advance, while
// the child still has a procfs that is one for certain, and hold from the next execve
// on.
//
// A seccomp filter may be loaded with no_new_privs or with CAP_SYS_ADMIN. So with
// no_new_privs it is loaded last of all, and without it before the capabilities are
// dropped; Plan is told the filter's steps and puts them in the right place. A filter
// whose listener the host has to hand on comes before the host turns away.
package security

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Proc is the register of a procfs of the child's own, detached, through which it
// writes to files below /proc: nothing in the image can stand in the way.
const Proc plan.Reg = "ownproc"

// Input is what the planner reads.
type Input struct {
	Process *specs.Process
	Facts   *host.Facts
	// NoSetgroups leaves the caller's supplementary groups: the kernel would refuse to
	// change them, see namespace.Placement, or they are to be kept.
	NoSetgroups bool
	// UserNS says that the child is in a user namespace of its own.
	UserNS bool
	// Writable is WritableAnnotation, empty without Landlock.
	Writable string
	// Listens says that the filter leaves calls to an agent.
	Listens bool
}

// sets are the capability sets as bit masks.
type sets struct{ bounding, effective, permitted, inheritable, ambient uint64 }

// Limits plans what needs the capabilities that the rest takes away: resource
// limits and the out-of-memory score. The latter is written through the register
// Proc.
func Limits(in Input) ([]plan.Step, error) {
	b := plan.Build(plan.Child, plan.PrivilegeChapter)
	for i, r := range in.Process.Rlimits {
		resource, ok := linux.ResourceByName(r.Type)
		pointer := "/process/rlimits/" + strconv.Itoa(i)
		if !ok {
			return nil, fmt.Errorf("%s: unknown resource %q", pointer, r.Type)
		}
		for _, before := range in.Process.Rlimits[:i] {
			if before.Type == r.Type {
				return nil, fmt.Errorf("%s: %s is limited twice", pointer, r.Type)
			}
		}
		if r.Soft > r.Hard {
			return nil, fmt.Errorf("%s: %s: soft limit %d is above the hard limit %d", pointer, r.Type, r.Soft, r.Hard)
		}
		b.Do("resource limits", linux.Prlimit{Resource: resource, Soft: r.Soft, Hard: r.Hard}).For(pointer)
	}
	if score := in.Process.OOMScoreAdj; score != nil {
		if err := CheckScore(*score); err != nil {
			return nil, err
		}
		const why, pointer = "whom the kernel kills first when memory runs out", "/process/oomScoreAdj"
		b.Do(why, linux.Openat2{Dir: linux.FD(Proc), Path: "self/oom_score_adj", Flags: linux.OWronly | linux.OCloexec,
			Resolve: linux.ResolveBeneath | linux.ResolveNoXdev | linux.ResolveNoMagiclinks}).As("score").For(pointer)
		b.Do(why, linux.Write{FD: "score", Data: strconv.Itoa(*score)}).For(pointer)
	}
	return b.Steps, nil
}

// CheckScore refuses what is no out-of-memory score, proc_pid_oom_score_adj(5).
func CheckScore(score int) error {
	if score < -1000 || score > 1000 {
		return fmt.Errorf("/process/oomScoreAdj: %d is not between -1000 and 1000", score)
	}
	return nil
}

// Plan plans the loss of privileges. filter are the steps that load the seccomp
// filter; they are placed where the kernel accepts them. ready are steps that come
// when all privileges are gone, but that the filter need not allow if it is loaded
// last.
func Plan(in Input, ready, filter []plan.Step) ([]plan.Step, error) {
	caps := capabilities(in.Process.Capabilities, in.Facts.LastCapability)
	p := in.Process
	if err := checkUser(&p.User); err != nil {
		return nil, err
	}
	b := plan.Build(plan.Child, plan.PrivilegeChapter)
	const pointer = "/process/capabilities/bounding"
	for n := range uint64(in.Facts.LastCapability + 1) {
		if p.Capabilities != nil && caps.bounding&(1<<n) == 0 {
			b.Do("capabilities that no program in here can ever get", linux.Prctl{Option: linux.PrCapbsetDrop, Arg2: n}).For(pointer)
		}
	}
	if !p.NoNewPrivileges {
		b.Add(confine(in.Writable)) // as for a filter, it takes CAP_SYS_ADMIN or no_new_privs
		b.Add(filter)
	}
	identity(b, in)
	if p.Capabilities != nil {
		b.Do("what is left of root's powers", linux.Capset{Effective: caps.effective, Permitted: caps.permitted, Inheritable: caps.inheritable}).
			For("/process/capabilities")
		b.Do("no capability passes on by itself", linux.Prctl{Option: linux.PrCapAmbient, Arg2: linux.AmbientClearAll}).
			For("/process/capabilities/ambient")
		for n := range uint64(in.Facts.LastCapability + 1) {
			if caps.ambient&(1<<n) != 0 {
				b.Do("capabilities that a program without root keeps", linux.Prctl{Option: linux.PrCapAmbient, Arg2: linux.AmbientRaise, Arg3: n}).
					For("/process/capabilities/ambient")
			}
		}
	}
	if !p.NoNewPrivileges {
		b.Add(ready)
		return b.Steps, nil
	}
	b.Do("set-user-ID programs give nothing in here", linux.Prctl{Option: linux.PrSetNoNewPrivs, Arg2: 1}).For("/process/noNewPrivileges")
	b.Add(confine(in.Writable))
	if in.Listens {
		b.Add(filter)
		b.Add(ready)
		return b.Steps, nil
	}
	b.Add(ready)
	b.Add(filter)
	return b.Steps, nil
}

const (
	// unchanged is the id -1, which to setresuid(2) means: stay who you are.
	unchanged = ^uint32(0)
	// maxGroups is NGROUPS_MAX of setgroups(2).
	maxGroups = 65536
)

// checkUser refuses what would leave the process root, or would not fit. Groups that
// cannot exist the kernel refuses itself.
func checkUser(u *specs.User) error {
	switch {
	case u.UID == unchanged:
		return fmt.Errorf("/process/user/uid: %d is not a user id", u.UID)
	case u.GID == unchanged:
		return fmt.Errorf("/process/user/gid: %d is not a group id", u.GID)
	case len(u.AdditionalGids) > maxGroups:
		return fmt.Errorf("/process/user/additionalGids: %d groups, the kernel takes %d", len(u.AdditionalGids), maxGroups)
	}
	return nil
}

// identity plans groups, group and user.
func identity(b *plan.Builder, in Input) {
	u := in.Process.User
	if u.UID != 0 && in.Process.Capabilities != nil {
		b.Do("capabilities survive the change of user, to be cut down afterwards", linux.Prctl{Option: linux.PrSetKeepcaps, Arg2: 1})
	}
	if !in.NoSetgroups {
		b.Do("exactly these groups", linux.Setgroups{Groups: u.AdditionalGids}).For("/process/user/additionalGids")
	}
	b.Do("the program's group", linux.Setresgid{GID: u.GID}).For("/process/user/gid")
	b.Do("the program's user", linux.Setresuid{UID: u.UID}).For("/process/user/uid")
}

// lists are the five sets of capabilities.
func lists(c *specs.LinuxCapabilities) [5][]string {
	return [...][]string{c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient}
}

// known returns the number of a capability that the kernel has; last is the highest of these.
func known(name string, last uint) (uint, bool) {
	n, ok := linux.CapabilityByName(name)
	return uint(n), ok && uint(n) <= last
}

// Ungrantable tells the names of the capabilities that are asked for and that this kernel does not have, with a blank before each. A container is
// made without them, and whoever asked is to be warned (runtime-spec 1.3, config.md, Linux process).
func Ungrantable(c *specs.LinuxCapabilities, last uint) (names string) {
	if c == nil {
		return ""
	}
	for _, list := range lists(c) {
		for _, name := range list {
			if _, ok := known(name, last); !ok && !strings.Contains(names+" ", " "+name+" ") {
				names += " " + name
			}
		}
	}
	return names
}

// capabilities reads the five lists, without what this kernel does not have.
func capabilities(c *specs.LinuxCapabilities, last uint) (s sets) {
	if c == nil {
		return s
	}
	to := [...]*uint64{&s.bounding, &s.effective, &s.permitted, &s.inheritable, &s.ambient}
	for i, list := range lists(c) {
		for _, name := range list {
			if n, ok := known(name, last); ok {
				*to[i] |= 1 << n
			}
		}
	}
	s.effective &= s.permitted
	s.ambient &= s.permitted & s.inheritable
	return s
}
