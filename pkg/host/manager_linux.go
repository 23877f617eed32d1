package host

import (
	"path"
	"strings"

	"github.com/containr/containr/internal/systemd"
)

// ProbeManager finds out which systemd the user may ask for control groups, and what it
// has to give: the system's for the administrator, which is not asked anything yet, else
// the user's own. The question to that one is why this is not a part of Probe; the error
// wraps systemd.ErrNotRunning where there is none.
func (f *Facts) ProbeManager() error {
	if f.Root() {
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
