package linux

import "github.com/containr/containr/pkg/plan"

// Prctl is prctl(2).
type Prctl struct {
	Option     PrctlOption
	Arg2, Arg3 uint64
}

func (Prctl) Name() string { return "prctl" }

func (c Prctl) AppendArgs(dst []plan.Arg) []plan.Arg {
	arg2 := plan.Number(c.Arg2)
	switch {
	case c.Option == PrCapbsetDrop:
		arg2 = plan.OneOf(c.Arg2, &capabilityNames)
	case c.Option == PrCapAmbient:
		arg2 = plan.OneOf(c.Arg2, &ambientNames)
	}
	arg3 := plan.Number(c.Arg3)
	if c.Option == PrCapAmbient && c.Arg2 == AmbientRaise {
		arg3 = plan.OneOf(c.Arg3, &capabilityNames)
	}
	return append(dst, plan.OneOf(uint64(c.Option), &prctlNames), arg2, arg3, plan.Number(0), plan.Number(0))
}

// Capset is capset(2) with _LINUX_CAPABILITY_VERSION_3; each set is a bit mask
// by capability number, see capabilities(7).
type Capset struct{ Effective, Permitted, Inheritable uint64 }

func (Capset) Name() string { return "capset" }

func (c Capset) AppendArgs(dst []plan.Arg) []plan.Arg {
	const version3 = 0x20080522
	half := func(label string, v uint64) plan.Arg {
		return plan.Flags(v&0xffffffff, &capabilityLow).Member(label, 4)
	}
	high := func(label string, v uint64) plan.Arg {
		return plan.Flags(v>>32, &capabilityHigh).Member(label, 4)
	}
	return append(dst,
		plan.Pointer(plan.Arg{Kind: plan.Hex, Num: version3}.Member("version", 4), plan.Number(0).Member("pid", 4)),
		plan.Pointer(
			half("effective", c.Effective), half("permitted", c.Permitted), half("inheritable", c.Inheritable),
			high("effective", c.Effective), high("permitted", c.Permitted), high("inheritable", c.Inheritable)))
}

// Setgroups is setgroups(2).
type Setgroups struct{ Groups []uint32 }

func (Setgroups) Name() string { return "setgroups" }

func (c Setgroups) AppendArgs(dst []plan.Arg) []plan.Arg {
	if len(c.Groups) == 0 {
		return append(dst, plan.Number(0), plan.Nil)
	}
	members := make([]plan.Arg, len(c.Groups))
	for i, g := range c.Groups {
		members[i] = plan.Number(g).Member("", 4)
	}
	return append(dst, plan.Number(len(c.Groups)), plan.Pointer(members...))
}

// Setresuid is setresuid(2) with one id for all three.
type Setresuid struct{ UID uint32 }

func (Setresuid) Name() string { return "setresuid" }

func (c Setresuid) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Number(c.UID), plan.Number(c.UID), plan.Number(c.UID))
}

// Setresgid is setresgid(2) with one id for all three.
type Setresgid struct{ GID uint32 }

func (Setresgid) Name() string { return "setresgid" }

func (c Setresgid) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Number(c.GID), plan.Number(c.GID), plan.Number(c.GID))
}

// Prlimit is prlimit(2) on the caller itself.
type Prlimit struct {
	Resource   Resource
	Soft, Hard uint64
}

func (Prlimit) Name() string { return "prlimit64" }

func (c Prlimit) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Number(0), plan.OneOf(uint64(c.Resource), &resourceNames),
		plan.Pointer(plan.OneOf(c.Soft, &infinityName).Member("rlim_cur", 8), plan.OneOf(c.Hard, &infinityName).Member("rlim_max", 8)),
		plan.Nil)
}

// JoinSessionKeyring is keyctl(2) with KEYCTL_JOIN_SESSION_KEYRING: a new
// keyring of that name, so that the host's session keys stay out of reach.
type JoinSessionKeyring struct{ Keyring string }

func (JoinSessionKeyring) Name() string { return "keyctl" }

func (c JoinSessionKeyring) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.OneOf(1, &keyctlNames), plan.String(c.Keyring))
}

// Seccomp is seccomp(2) with SECCOMP_SET_MODE_FILTER. Filter holds struct
// sock_filter instructions, 8 bytes each, in the machine's byte order.
type Seccomp struct {
	Flags  SeccompFlags
	Filter string
}

func (Seccomp) Name() string { return "seccomp" }

func (c Seccomp) AppendArgs(dst []plan.Arg) []plan.Arg {
	prog := plan.Pointer(
		plan.Number(len(c.Filter)/8).Member("len", 8),
		plan.Blob(c.Filter).Member("filter", 8))
	return append(dst, plan.OneOf(1, &seccompNames), plan.Flags(uint64(c.Flags), &seccompFlagNames), prog)
}

// Ioprio is ioprio_set(2) on the caller.
type Ioprio struct{ Class, Level int }

func (Ioprio) Name() string { return "ioprio_set" }

func (c Ioprio) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Number(1), plan.Number(0), plan.Number(c.Class<<13|c.Level))
}
