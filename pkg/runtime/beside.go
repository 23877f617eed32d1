package runtime

import (
	"strings"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// overlap has the host make the control groups of version 1, a directory in each of a
// dozen trees, while the process is being born. A process that moves into them by itself
// does not need them before it first names one: to mount it, or to move there.
func (c *compiler) overlap() {
	if len(c.cg.Join) == 0 {
		return
	}
	for i := range c.cg.Setup {
		c.steps[c.setup+i].Aside()
	}
	for i := range c.steps {
		if s := &c.steps[i]; s.Actor == plan.Child && c.namesGroup(s.Call) {
			for s.When != plan.Always {
				i--
				s = &c.steps[i]
			}
			s.Awaits = true
			return
		}
	}
}

// namesGroup reports whether a call looks one of the container's control groups up.
func (c *compiler) namesGroup(call plan.Call) bool {
	name := ""
	switch call := call.(type) {
	case linux.OpenTree:
		name = call.Path
	case linux.Openat:
		name = call.Path
	case linux.Mount:
		name = call.Source
	}
	for _, p := range c.cg.Paths {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
