package runtime

import (
	"github.com/containr/containr/pkg/cgroup"
)

// OOMKills counts the processes of a container that were killed because memory ran
// out. It is to be asked before Delete, with which the count goes. A container
// without control groups has none.
func (r *Runtime) OOMKills(id string) (uint64, error) {
	st, err := r.load(id)
	if err != nil || len(st.Cgroups) == 0 || st.Shared {
		return 0, err
	}
	return cgroup.Open(r.Facts.CgroupMode, st.Cgroups).OOMKills()
}
