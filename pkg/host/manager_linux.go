package host

import (
	"path"
	"strings"

	"github.com/containr/containr/internal/systemd"
)

// ProbeDelegatable finds out which files of a control group may be given to a user who
// is to manage what is below it: the kernel lists them since 4.15. It costs the reading
// of a file that few containers need.
func (f *Facts) ProbeDelegatable() {
	f.Delegatable = strings.Fields(readWord("/sys/kernel/cgroup/delegate"))
	if len(f.Delegatable) == 0 { // sysfs is not mounted, or masked
		f.Delegatable = []string{"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"}
	}
}

// ProbeManager finds out which systemd the user may ask for control groups, and what it
// has to give: the system's for the administrator, which is not asked anything yet, else
// the user's own. The question to that one is why this is not a part of Probe; the error
// wraps systemd.ErrNotRunning where there is none.
func (f *Facts) ProbeManager() error {
	if f.Administrator() {
		f.Manager = "/"
		return nil
	}
	m, err := systemd.Dial(true)
	if err != nil {
		return err
	}
	defer m.Close()
	if f.Manager, err = m.ControlGroup(); err != nil {
		return err
	}
	if f.CgroupMode == CgroupV2 {
		h := &f.Hierarchies[0]
		h.Controllers = strings.Fields(readWord(path.Join(h.Path, f.Manager, "cgroup.controllers")))
	}
	return nil
}
