// Package namespace plans which namespaces a container is born into, which it
// joins, and what its user and group ids mean outside.
//
// # Theory of operation
//
// New namespaces are flags of the clone3 call that makes the container: the
// process is born in all of them at once and has never seen the old ones. What is
// to be joined is opened by the host before, and entered with setns(2) by the
// child, which has a single thread as setns wants it.
//
// A process cannot change its own process id namespace, nor the user namespace
// that new namespaces will belong to, except for its children. When the second
// is joined, a runner joins it first and then clones the container; Placement
// says so in Before.
//
// Who is born among the processes of another container is seen by them at once, and those
// with CAP_SYS_PTRACE reach what it reaches. So when process ids are joined the child only
// prepares the container; when nothing of the host is in its sight any more it has a sibling,
// born there, which goes on in its place. Placement says so in Processes. A container with
// new users cannot do so: its processes have no rights over the namespace that they would
// have to enter. There a runner joins it before the birth. Nor can such a container mount a
// procfs of that namespace, which belongs to other users.
//
// Ids in a new user namespace mean nothing until somebody outside writes the map.
// These are host steps right after the clone; until then the child waits, and after
// it the child takes the ids 0, which now exist. What clocks show in a new time
// namespace the child writes itself; see planOffsets.
package namespace

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Placement is what a container's namespaces ask of the plan.
type Placement struct {
	// New are the clone flags of the namespaces to make.
	New linux.CloneFlags
	// Open are host steps that open the namespaces to join.
	Open []plan.Step
	// Before are steps of the runner, which joins what its child shall be
	// born into; empty when no runner is needed for that.
	Before []plan.Step
	// Map are host steps that write the id maps, after the clone.
	Map []plan.Step
	// Join are the child's first steps.
	Join []plan.Step
	// Processes is the register of a namespace of processes that the container's is to be
	// born into, by whoever has prepared it and is not in there; empty if there is none, or
	// if it is born there at once.
	Processes plan.Reg
	// NoSetgroups is set where the kernel will refuse setgroups(2), because an
	// ordinary user wrote the group map.
	NoSetgroups bool
}

// NoSetgroups reports whether the kernel refuses setgroups(2) in a user namespace with
// this map, because an ordinary user wrote it.
func NoSetgroups(gids []specs.LinuxIDMapping, f *host.Facts) bool {
	single := !f.Root() && f.Capabilities&(1<<7) == 0
	return single && len(gids) == 1 && gids[0].Size == 1
}

// PID is the register that holds the container's process id.
const PID plan.Reg = "pid"

// The kinds of namespaces, in the order in which they are joined: the user
// namespace first, since it grants the right to join the others, the mount
// namespace last, since paths change with it.
var kinds = [...]struct {
	oci  specs.LinuxNamespaceType
	flag linux.CloneFlags
	what string
}{
	{specs.UserNamespace, linux.CloneNewuser, "user and group ids"},
	{specs.PIDNamespace, linux.CloneNewpid, "processes"},
	{specs.NetworkNamespace, linux.CloneNewnet, "network"},
	{specs.IPCNamespace, linux.CloneNewipc, "shared memory and message queues"},
	{specs.UTSNamespace, linux.CloneNewuts, "host name"},
	{specs.CgroupNamespace, linux.CloneNewcgroup, "view of control groups"},
	{specs.TimeNamespace, linux.CloneNewtime, "clocks since boot"},
	{specs.MountNamespace, linux.CloneNewns, "mounts"},
}

// Plan reads linux.namespaces and the id mappings.
func Plan(spec *specs.Spec, f *host.Facts) (*Placement, error) {
	p := new(Placement)
	if spec.Linux == nil {
		return nil, errors.New("linux: the configuration has no such part")
	}
	if err := checkKinds(spec.Linux.Namespaces); err != nil {
		return nil, err
	}
	joinedUser := false
	for _, k := range kinds {
		for i := range spec.Linux.Namespaces {
			ns := &spec.Linux.Namespaces[i]
			if ns.Type != k.oci {
				continue
			}
			if ns.Path == "" {
				p.New |= k.flag
				continue
			}
			pointer := "/linux/namespaces/" + strconv.Itoa(i)
			joinedUser = joinedUser || k.flag == linux.CloneNewuser
			p.join(k.flag, k.what, ns.Path, pointer, joinedUser)
		}
	}
	if p.New&linux.CloneNewtime != 0 && f.NoTimeNamespace {
		return nil, errors.New("/linux/namespaces: this kernel has no time namespaces (CONFIG_TIME_NS)")
	}
	if err := p.planMaps(spec, f, joinedUser); err != nil {
		return nil, err
	}
	return p, p.planOffsets(spec)
}

func checkKinds(list []specs.LinuxNamespace) error {
	for i, ns := range list {
		known := false
		for _, k := range kinds {
			known = known || k.oci == ns.Type
		}
		if !known {
			return fmt.Errorf("/linux/namespaces/%d: unknown namespace type %q", i, ns.Type)
		}
		for _, other := range list[:i] {
			if other.Type == ns.Type {
				return fmt.Errorf("/linux/namespaces/%d: namespace type %q is there twice", i, ns.Type)
			}
		}
	}
	return nil
}

// join plans to open a namespace and to enter it: by the runner when the child has
// to be born inside, else by the child.
func (p *Placement) join(flag linux.CloneFlags, what, path, pointer string, afterUser bool) {
	reg := plan.Reg("ns_" + strconv.Itoa(len(p.Open)))
	b := plan.Build(plan.Host, plan.NamespaceChapter)
	b.Do("the "+what+" to share", linux.OpenHost{Path: path, Flags: linux.OCloexec}).As(reg).For(pointer)
	p.Open = append(p.Open, b.Steps...)
	actor, why := plan.Child, "share the "+what+" of "+path
	switch {
	case flag == linux.CloneNewpid && p.New&linux.CloneNewuser == 0:
		p.Processes, why = reg, "who will be born late shares the "+what+" of "+path+": this process does not, and is not seen there"
	case flag == linux.CloneNewpid, flag == linux.CloneNewuser, afterUser:
		actor = plan.Keeper
	}
	b = plan.Build(actor, plan.NamespaceChapter)
	b.Do(why, linux.Setns{FD: linux.FD(reg), Flags: flag}).For(pointer)
	if actor == plan.Keeper {
		p.Before = append(p.Before, b.Steps...)
	} else {
		p.Join = append(p.Join, b.Steps...)
	}
}

// planMaps writes the maps of a new user namespace.
func (p *Placement) planMaps(spec *specs.Spec, f *host.Facts, joinedUser bool) error {
	uids, gids := spec.Linux.UIDMappings, spec.Linux.GIDMappings
	if p.New&linux.CloneNewuser == 0 {
		if len(uids)+len(gids) > 0 && len(p.Before) == 0 {
			return errors.New("/linux/uidMappings: ids are mapped but there is no user namespace")
		}
		if joinedUser {
			p.NoSetgroups = len(gids) > 0 && NoSetgroups(gids, f) // these are then the maps that it has
			p.Join = append(becomeRoot("is the one of the namespace now, if that has one", plan.EINVAL), p.Join...)
		}
		return nil
	}
	if len(uids) == 0 || len(gids) == 0 {
		return errors.New("/linux/uidMappings: a new user namespace needs uid and gid mappings")
	}
	b := plan.Build(plan.Host, plan.NamespaceChapter)
	single := !f.Root() && f.Capabilities&(1<<7) == 0
	if p.NoSetgroups = NoSetgroups(gids, f); p.NoSetgroups {
		b.Do("an ordinary user may map groups only if the container cannot drop any", linux.WriteProc{PID: PID, File: "setgroups", Data: "deny"}).Early()
	}
	if err := writeMap(b, "uid_map", uids, f.Newuidmap, single); err != nil {
		return err
	}
	if err := writeMap(b, "gid_map", gids, f.Newgidmap, single); err != nil {
		return err
	}
	p.Map = b.Steps
	if !WithoutRoot(uids, gids, f) { // else it stays who it is, with all rights in the namespace that it was born into
		p.Join = append(becomeRoot("exists now"), p.Join...)
	}
	return nil
}

// WithoutRoot reports whether a user namespace with these maps, an ordinary user's own, has no user 0 or no group 0 that one
// could become. It is false if the maps are not known, as of a namespace that was joined.
func WithoutRoot(uids, gids []specs.LinuxIDMapping, f *host.Facts) bool {
	lacks := func(maps []specs.LinuxIDMapping) bool {
		for _, m := range maps {
			if m.ContainerID == 0 {
				return false
			}
		}
		return len(maps) > 0
	}
	return !f.Root() && (lacks(uids) || lacks(gids))
}

// becomeRoot has the child take the ids 0 of the user namespace that it is in: those that
// it has from outside may mean nobody there, who gets nowhere.
func becomeRoot(why string, tolerated ...plan.Errno) []plan.Step {
	b := plan.Build(plan.Child, plan.NamespaceChapter)
	b.Do("group 0 "+why, linux.Setresgid{}).Ok(tolerated...)
	b.Do("user 0 "+why, linux.Setresuid{}).Ok(tolerated...)
	b.Do("its files in /proc belong to it again, which the change of user took away", linux.Prctl{Option: linux.PrSetDumpable, Arg2: 1})
	return b.Steps
}

// writeMap plans the writing of one map. The kernel lets an ordinary user write a
// map of a single line for the own id; ranges need the set-user-ID helper.
func writeMap(b *plan.Builder, file string, list []specs.LinuxIDMapping, helper string, ordinary bool) error {
	if ordinary && (len(list) > 1 || list[0].Size > 1) {
		if helper == "" {
			return fmt.Errorf("%s: more ids than the own one, and new%s is not installed (Debian package uidmap)", file, strings.Replace(file, "_", "", 1))
		}
		var triples []uint32
		for _, m := range list {
			triples = append(triples, m.ContainerID, m.HostID, m.Size)
		}
		b.Do("ids inside and what they are outside, as /etc/sub"+file[:3]+" grants them",
			linux.MapIDs{Program: helper, PID: PID, Map: triples}).Early().For("/linux/" + file[:3] + "Mappings")
		return nil
	}
	b.Do("ids inside and what they are outside",
		linux.WriteProc{PID: PID, File: file, Data: mapText(list)}).Early().For("/linux/" + file[:3] + "Mappings")
	return nil
}

// Flag is the clone flag of a kind of namespace, 0 for an unknown kind.
func Flag(kind specs.LinuxNamespaceType) linux.CloneFlags {
	for _, k := range kinds {
		if k.oci == kind {
			return k.flag
		}
	}
	return 0
}
