package linux

import "github.com/containr/containr/pkg/plan"

// SchedPolicy is a scheduling policy, sched(7).
type SchedPolicy uint32

// The scheduling policies (include/uapi/linux/sched.h).
const (
	SchedOther    SchedPolicy = 0
	SchedFIFO     SchedPolicy = 1
	SchedRR       SchedPolicy = 2
	SchedBatch    SchedPolicy = 3
	SchedISO      SchedPolicy = 4
	SchedIdle     SchedPolicy = 5
	SchedDeadline SchedPolicy = 6
)

var schedPolicyNames = plan.Names{Zero: "SCHED_OTHER", List: []plan.Name{
	{Value: 0, Name: "SCHED_OTHER"},
	{Value: 1, Name: "SCHED_FIFO"},
	{Value: 2, Name: "SCHED_RR"},
	{Value: 3, Name: "SCHED_BATCH"},
	{Value: 4, Name: "SCHED_ISO"},
	{Value: 5, Name: "SCHED_IDLE"},
	{Value: 6, Name: "SCHED_DEADLINE"},
}}

// SchedPolicyByName finds a policy by its C name.
func SchedPolicyByName(name string) (SchedPolicy, bool) {
	n, ok := byName(&schedPolicyNames, name)
	return SchedPolicy(n), ok
}

// SchedFlags are the SCHED_FLAG_ bits of sched_setattr(2).
type SchedFlags uint64

var schedFlagNames = plan.Names{List: []plan.Name{
	{Value: 0x1, Name: "SCHED_FLAG_RESET_ON_FORK"},
	{Value: 0x2, Name: "SCHED_FLAG_RECLAIM"},
	{Value: 0x4, Name: "SCHED_FLAG_DL_OVERRUN"},
	{Value: 0x8, Name: "SCHED_FLAG_KEEP_POLICY"},
	{Value: 0x10, Name: "SCHED_FLAG_KEEP_PARAMS"},
	{Value: 0x20, Name: "SCHED_FLAG_UTIL_CLAMP_MIN"},
	{Value: 0x40, Name: "SCHED_FLAG_UTIL_CLAMP_MAX"},
}}

// SchedFlagByName finds a flag by its C name.
func SchedFlagByName(name string) (SchedFlags, bool) {
	n, ok := byName(&schedFlagNames, name)
	return SchedFlags(n), ok
}

// SchedSetattr is sched_setattr(2), Linux 3.14, on the caller. Runtime, Deadline and
// Period are nanoseconds.
type SchedSetattr struct {
	Policy                    SchedPolicy
	Flags                     SchedFlags
	Nice                      int32
	Priority                  uint32
	Runtime, Deadline, Period uint64
}

func (SchedSetattr) Name() string { return "sched_setattr" }

// schedAttrSize is sizeof(struct sched_attr) with the members for clamping the
// utilization, Linux 5.3.
const schedAttrSize = 56

func (c SchedSetattr) AppendArgs(dst []plan.Arg) []plan.Arg {
	attr := plan.Pointer(
		plan.Number(schedAttrSize).Member("size", 4),
		plan.OneOf(uint64(c.Policy), &schedPolicyNames).Member("sched_policy", 4),
		plan.Flags(uint64(c.Flags), &schedFlagNames).Member("sched_flags", 8),
		plan.Number(c.Nice).Member("sched_nice", 4),
		plan.Number(c.Priority).Member("sched_priority", 4),
		plan.Number(c.Runtime).Member("sched_runtime", 8),
		plan.Number(c.Deadline).Member("sched_deadline", 8),
		plan.Number(c.Period).Member("sched_period", 8),
		plan.Number(0).Member("sched_util_min", 4),
		plan.Number(0).Member("sched_util_max", 4))
	return append(dst, plan.Number(0), attr, plan.Number(0))
}

// SchedSetaffinity is sched_setaffinity(2) on the caller. Mask has a bit for each CPU,
// the lowest 64 in the first word.
type SchedSetaffinity struct{ Mask []uint64 }

func (SchedSetaffinity) Name() string { return "sched_setaffinity" }

func (c SchedSetaffinity) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Number(0), plan.Number(8*len(c.Mask)), bits(c.Mask))
}

func bits(mask []uint64) plan.Arg {
	members := make([]plan.Arg, len(mask))
	for i, w := range mask {
		members[i] = plan.Arg{Kind: plan.Hex, Num: w}.Member("", 8)
	}
	return plan.Pointer(members...)
}

// MemoryPolicy is a mode of set_mempolicy(2) with its MPOL_F_ bits.
type MemoryPolicy uint64

// The modes that came after the oldest kernel that containr runs on.
const (
	MpolPreferredMany      MemoryPolicy = 5 // Linux 5.15
	MpolWeightedInterleave MemoryPolicy = 6 // Linux 6.9
	MpolNumaBalancing      MemoryPolicy = 0x2000
)

var memoryPolicyNames = plan.Names{Zero: "MPOL_DEFAULT", List: []plan.Name{
	{Value: 0, Name: "MPOL_DEFAULT"},
	{Value: 1, Name: "MPOL_PREFERRED"},
	{Value: 2, Name: "MPOL_BIND"},
	{Value: 3, Name: "MPOL_INTERLEAVE"},
	{Value: 4, Name: "MPOL_LOCAL"},
	{Value: uint64(MpolPreferredMany), Name: "MPOL_PREFERRED_MANY"},
	{Value: uint64(MpolWeightedInterleave), Name: "MPOL_WEIGHTED_INTERLEAVE"},
}}

var memoryFlagNames = plan.Names{List: []plan.Name{
	{Value: 0x2000, Name: "MPOL_F_NUMA_BALANCING"},
	{Value: 0x4000, Name: "MPOL_F_RELATIVE_NODES"},
	{Value: 0x8000, Name: "MPOL_F_STATIC_NODES"},
}}

// MemoryPolicyByName finds a mode by its C name.
func MemoryPolicyByName(name string) (MemoryPolicy, bool) {
	n, ok := byName(&memoryPolicyNames, name)
	return MemoryPolicy(n), ok
}

// MemoryFlagByName finds a flag by its C name.
func MemoryFlagByName(name string) (MemoryPolicy, bool) {
	n, ok := byName(&memoryFlagNames, name)
	return MemoryPolicy(n), ok
}

// MemoryPolicyNames lists the C names of the modes and of the flags.
func MemoryPolicyNames() (modes, flags []string) {
	for _, m := range memoryPolicyNames.List {
		modes = append(modes, m.Name)
	}
	for _, f := range memoryFlagNames.List {
		flags = append(flags, f.Name)
	}
	return modes, flags
}

// SetMempolicy is set_mempolicy(2) on the caller; execve keeps the policy. Nodes has a
// bit for each memory node.
type SetMempolicy struct {
	Mode, Flags MemoryPolicy
	Nodes       []uint64
}

func (SetMempolicy) Name() string { return "set_mempolicy" }

// AppendArgs says one bit more than there are: the kernel looks at one less.
func (c SetMempolicy) AppendArgs(dst []plan.Arg) []plan.Arg {
	mode := plan.OneOf(uint64(c.Mode), &memoryPolicyNames)
	if c.Flags != 0 {
		mode = plan.Flags(uint64(c.Mode|c.Flags), modeWithFlags(c.Mode))
	}
	if len(c.Nodes) == 0 {
		return append(dst, mode, plan.Nil, plan.Number(0))
	}
	return append(dst, mode, bits(c.Nodes), plan.Number(64*len(c.Nodes)+1))
}

// modeWithFlags names a mode that stands in one number with flags.
func modeWithFlags(mode MemoryPolicy) *plan.Names {
	list := memoryFlagNames.List
	for _, m := range memoryPolicyNames.List {
		if m.Value == uint64(mode) && mode != 0 {
			list = append([]plan.Name{m}, list...)
		}
	}
	return &plan.Names{List: list}
}
