package security

import (
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// WritableAnnotation names the directories, with colons between them, that the program and all that it starts may write
// below; OCI has no field for that. Landlock refuses every other change of a file by its name, whoever its owner is and
// whatever capabilities the program has.
const WritableAnnotation = "org.containr.landlock.writable"

// confine plans the Landlock domain. The directories are looked up as the program sees them, without links: none in the
// image can widen what was asked for.
func confine(writable string) []plan.Step {
	if writable == "" {
		return nil
	}
	const ruleset, pointer = "ruleset", "/annotations/" + WritableAnnotation
	b := plan.Build(plan.Child, plan.PrivilegeChapter)
	b.Do("Landlock: no file is changed, made or removed", linux.LandlockCreateRuleset{Handled: linux.LandlockWrites}).As(ruleset).For(pointer)
	allow := func(n int, why, dir string, rights linux.LandlockRights) {
		reg := plan.Reg("beneath" + strconv.Itoa(n))
		b.Do(why, linux.Openat2{Dir: linux.CWD, Path: dir, Flags: linux.OPath | linux.ODirectory | linux.OCloexec,
			Resolve: linux.ResolveNoMagiclinks | linux.ResolveNoSymlinks}).As(reg).For(pointer)
		b.Do(why, linux.LandlockAddRule{Ruleset: ruleset, Allowed: rights, Parent: reg}).For(pointer)
		b.Do(why, linux.Close{FD: linux.FD(reg)}).For(pointer)
	}
	allow(0, "but devices are written to", "/dev", linux.LandlockWriteFile)
	for i, dir := range strings.Split(writable, ":") {
		allow(i+1, "and below this directory all is allowed that was", dir, linux.LandlockWrites)
	}
	b.Do("from here on, for this process and all that come of it", linux.LandlockRestrictSelf{Ruleset: ruleset}).For(pointer)
	b.Do("nobody can add to it", linux.Close{FD: ruleset}).For(pointer)
	return b.Steps
}
