package namespace

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Hub is a user namespace with a network namespace of its own, which an ordinary user has made. Containers whose user
// namespaces are made in it can be connected with each other there: whoever is root of the hub has all rights over the
// networks of both sides, which nobody has over those of two namespaces that lie side by side.
type Hub struct {
	// User and Network are paths of the namespaces.
	User, Network string
	// UIDs and GIDs are the hub's maps: a container's ids are those of the hub.
	UIDs, GIDs []specs.LinuxIDMapping
}

// Plan is the function of that name for a container that is born in a hub. One that shares the users of another container is
// where that one was born; nothing changes for it. Only containr has hubs: a runtime that is not given this method, see
// runtime.Input, is linked without it.
func (hub Hub) Plan(spec *specs.Spec, f *host.Facts) (*Placement, error) {
	p, err := Plan(spec, f)
	if err != nil || p.New&linux.CloneNewuser == 0 {
		return p, err
	}
	open := plan.Build(plan.Host, plan.NamespaceChapter)
	enter := plan.Build(plan.Keeper, plan.NamespaceChapter)
	for _, n := range []struct {
		path, what string
		reg        plan.Reg
		flag       linux.CloneFlags
	}{
		{hub.User, "the ids of the user's own networks: who is root there may connect what is born there", "hub_user", linux.CloneNewuser},
		{hub.Network, "the network where the user's bridges are: it stays as long as somebody is in it", "hub_net", linux.CloneNewnet},
	} {
		open.Do(n.what, linux.OpenHost{Path: n.path, Flags: linux.OCloexec}).As(n.reg)
		enter.Do(n.what, linux.Setns{FD: linux.FD(n.reg), Flags: n.flag})
		enter.Do("entered", linux.Close{FD: linux.FD(n.reg)})
	}
	p.Open = append(open.Steps, p.Open...)
	p.Before = append(enter.Steps, p.Before...)
	b := plan.Build(plan.Host, plan.NamespaceChapter)
	if p.NoSetgroups {
		b.Do("an ordinary user may map groups only if the container cannot drop any", within("setgroups", "deny")).Early()
	}
	for _, m := range []struct {
		file       string
		list, hubs []specs.LinuxIDMapping
	}{{"uid_map", spec.Linux.UIDMappings, hub.UIDs}, {"gid_map", spec.Linux.GIDMappings, hub.GIDs}} {
		inner, err := translate(m.list, m.hubs)
		if err != nil {
			return nil, fmt.Errorf("/linux/%sMappings: %w", m.file[:3], err)
		}
		b.Do("ids inside and what they are in the hub", within(m.file, mapText(inner))).Early().For("/linux/" + m.file[:3] + "Mappings")
	}
	p.Map = b.Steps
	return p, nil
}

func within(file, data string) linux.WriteWithin {
	return linux.WriteWithin{Path: "/proc/" + linux.PIDWord + "/" + file, PID: PID, Data: data}
}

// translate has the outer ids of a map be those of a hub.
func translate(list, hub []specs.LinuxIDMapping) (out []specs.LinuxIDMapping, err error) {
	for _, m := range list {
		for m.Size > 0 {
			part := m
			for _, h := range hub {
				if m.HostID >= h.HostID && m.HostID-h.HostID < h.Size {
					offset := m.HostID - h.HostID
					part.HostID, part.Size = h.ContainerID+offset, min(m.Size, h.Size-offset)
					break
				}
				part.Size = 0
			}
			if part.Size == 0 {
				return nil, fmt.Errorf("id %d of the host is none of the user's own networks' namespace", m.HostID)
			}
			out = append(out, part)
			m.ContainerID, m.HostID, m.Size = m.ContainerID+part.Size, m.HostID+part.Size, m.Size-part.Size
		}
	}
	return out, nil
}

func mapText(list []specs.LinuxIDMapping) string {
	var text strings.Builder
	for _, m := range list {
		fmt.Fprintf(&text, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return text.String()
}
