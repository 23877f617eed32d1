package linux

import "github.com/containr/containr/pkg/plan"

// LandlockRights are accesses to files that Landlock can refuse, LANDLOCK_ACCESS_FS_* of landlock(7).
type LandlockRights uint64

// LandlockWrites are the rights by which something in a tree changes: contents, names and sizes. Linux 6.2 knows all of them.
// LandlockWriteFile are those of them that a file itself can have.
const (
	LandlockWriteFile LandlockRights = 1<<1 | 1<<14
	LandlockWrites                   = LandlockWriteFile | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12 | 1<<13
)

var landlockNames = plan.Names{List: []plan.Name{
	{Value: 1 << 1, Name: "LANDLOCK_ACCESS_FS_WRITE_FILE"}, {Value: 1 << 4, Name: "LANDLOCK_ACCESS_FS_REMOVE_DIR"}, {Value: 1 << 5, Name: "LANDLOCK_ACCESS_FS_REMOVE_FILE"}, {Value: 1 << 6, Name: "LANDLOCK_ACCESS_FS_MAKE_CHAR"},
	{Value: 1 << 7, Name: "LANDLOCK_ACCESS_FS_MAKE_DIR"}, {Value: 1 << 8, Name: "LANDLOCK_ACCESS_FS_MAKE_REG"}, {Value: 1 << 9, Name: "LANDLOCK_ACCESS_FS_MAKE_SOCK"}, {Value: 1 << 10, Name: "LANDLOCK_ACCESS_FS_MAKE_FIFO"},
	{Value: 1 << 11, Name: "LANDLOCK_ACCESS_FS_MAKE_BLOCK"}, {Value: 1 << 12, Name: "LANDLOCK_ACCESS_FS_MAKE_SYM"}, {Value: 1 << 13, Name: "LANDLOCK_ACCESS_FS_REFER"}, {Value: 1 << 14, Name: "LANDLOCK_ACCESS_FS_TRUNCATE"},
}}

// LandlockCreateRuleset is landlock_create_ruleset(2): what is refused from now on, but for rules.
type LandlockCreateRuleset struct{ Handled LandlockRights }

func (LandlockCreateRuleset) Name() string { return "landlock_create_ruleset" }

func (c LandlockCreateRuleset) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Pointer(plan.Flags(uint64(c.Handled), &landlockNames).Member("handled_access_fs", 8)), plan.Number(8), plan.Number(0))
}

// LandlockAddRule is landlock_add_rule(2) with LANDLOCK_RULE_PATH_BENEATH: what is allowed below a directory. The
// kernel's structure is packed and ends with the 4 bytes of the descriptor; here it has 8, of which it reads 4.
type LandlockAddRule struct {
	Ruleset FD
	Allowed LandlockRights
	Parent  plan.Reg
}

func (LandlockAddRule) Name() string { return "landlock_add_rule" }

func (c LandlockAddRule) AppendArgs(dst []plan.Arg) []plan.Arg {
	rule := plan.Pointer(plan.Flags(uint64(c.Allowed), &landlockNames).Member("allowed_access", 8), plan.Value(c.Parent).Member("parent_fd", 8))
	return append(dst, c.Ruleset.arg(), plan.Number(1), rule, plan.Number(0))
}

// LandlockRestrictSelf is landlock_restrict_self(2), for the caller and all that come of it.
type LandlockRestrictSelf struct{ Ruleset FD }

func (LandlockRestrictSelf) Name() string { return "landlock_restrict_self" }

func (c LandlockRestrictSelf) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.Ruleset.arg(), plan.Number(0))
}
