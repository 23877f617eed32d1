package rootfs

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// # An overlay of layers with other owners
//
// The layers of an image are on disk once, with the owners that the image names, and
// every container is to see them with its own: 0 in a layer is the container's root,
// which is 100000 outside. The kernel maps no overlay, but it takes layers that are
// mapped (Linux 5.19). So the layers, and the directory that the container writes to,
// are mapped, and the overlay is made of these. On disk all owners stay those that the
// container sees: what looks at a layer afterwards has nothing to translate.
//
// Who mounts the overlay needs rights in the host's user namespace, for the marks of
// deleted files are attributes of class trusted; and mapped layers must have a place in
// the tree of mounts. The host's own tree is no place for them, and the child, in its user
// namespace, has no such rights. So it is the keeper, the child's parent, which first gets
// mounts of its own. The finished overlay goes to the child by its descriptor, attached
// nowhere, and the mapped layers are taken away before the child is born: no process that
// is the container's root can ever reach them.
//
// The overlay is made, and its work directory filled, with the keeper's ids, which no map
// of the container has, and the kernel writes no file whose owner it cannot write down.
// The map of these mounts therefore has one id more: root outside is mounterID on disk,
// which no file keeps for longer than a copy takes.
//
// Only containr has layers. MapLayers, with all that it plans, is reached by
// Input.MapLayers alone, which the engine sets: so the linker leaves it out of
// containr-runtime, which is to be small, since it is loaded again for each verb. There an
// overlay with mapped owners is refused.

// mounterID is what the host's root is called in the layers of a container with a map.
const mounterID = 1<<32 - 2

// Layers are the steps that MapLayers adds to those of a container. There are none where no
// owners are mapped.
type Layers struct {
	// Host are the host's steps before the child is born: the directories with layers,
	// each a mount that has the container's owners, attached nowhere yet.
	Host []plan.Step
	// Keeper are those of the keeper before the child is born: each overlay, finished and
	// attached nowhere.
	Keeper []plan.Step
	// Handed are those of the keeper afterwards: it has no use for the overlays any more.
	Handed []plan.Step
	// Born are those of the child before it takes the ids of its user namespace: it opens
	// what only the host's root can reach, the place of a root with mapped owners.
	Born []plan.Step
}

// mappedOverlay reports whether a mount is an overlay whose layers are mapped.
func mappedOverlay(in *Input, m *specs.Mount) bool {
	return in.MapLayers != nil && m.Type == "overlay" && isMapped(m)
}

// layerTrees finds the directories that an overlay's layers are in: one that all of the
// image's are below, the first of those, and one that has the upper and the work directory.
func layerTrees(o *options) (lower, first, upper string, err error) {
	work := ""
	for _, d := range o.data {
		if rest, ok := strings.CutPrefix(d, "upperdir="); ok {
			upper = path.Dir(rest)
		}
		if rest, ok := strings.CutPrefix(d, "workdir="); ok {
			work = path.Dir(rest)
		}
		if rest, ok := strings.CutPrefix(d, "lowerdir="); ok {
			first, _, _ = strings.Cut(rest, ":")
			if lower, _ = relativeLower([]string{d}); lower == "" {
				lower = path.Dir(first)
			}
		}
	}
	switch {
	case lower == "" || !path.IsAbs(lower):
		return "", "", "", fmt.Errorf("an overlay whose layers are to be mapped needs their names as lowerdir, absolute and all of them below one directory that is not /")
	case upper != work:
		return "", "", "", fmt.Errorf("upperdir and workdir are to be in one directory if the layers of an overlay are to be mapped")
	}
	return lower, first, upper, nil
}

// The registers of the mapped directories, and of the overlay that is made of them, of one
// of the configuration's mounts.
func lowerReg(pointer string) plan.Reg { return plan.Reg("layers" + path.Base(pointer)) }
func upperReg(pointer string) plan.Reg { return plan.Reg("changes" + path.Base(pointer)) }

// MapLayers plans all overlays of mapped layers that in.Spec has, up to the descriptors
// that Plan attaches. It is what Input.MapLayers is for. An error names the mount: options
// that are none, layers that are not below one directory, a kernel before 5.19.
func MapLayers(in Input) (Layers, error) {
	host, handed := plan.Build(plan.Host, plan.RootfsChapter), plan.Build(plan.Keeper, plan.RootfsChapter)
	keeper := &builder{Builder: plan.Build(plan.Keeper, plan.RootfsChapter), in: in}
	for i := range in.Spec.Mounts {
		m := &in.Spec.Mounts[i]
		if !mappedOverlay(&in, m) {
			continue
		}
		if len(keeper.Steps) == 0 {
			keeper.Do("mounts of the keeper's own, to put overlays together where nobody else sees them", linux.Unshare{Flags: linux.CloneNewns})
			keeper.Do("nothing of it appears on the host", linux.Mount{Target: "/", Flags: linux.MsSlave | linux.MsRec})
		}
		pointer := "/mounts/" + strconv.Itoa(i)
		err := openLayers(host, in, m, pointer)
		if err == nil {
			err = keeper.assemble(m, pointer)
		}
		if err != nil {
			return Layers{}, fmt.Errorf("%s (%s): %w", pointer, m.Destination, err)
		}
		handed.Do("the keeper holds nothing of the container's", linux.Close{FD: linux.FD(mappedReg(pointer))})
	}
	layers := Layers{Host: host.Steps, Keeper: keeper.Steps, Handed: handed.Steps}
	if first := in.Spec.Mounts; len(first) > 0 && path.Clean(first[0].Destination) == "/" && isMapped(&first[0]) {
		child := plan.Build(plan.Child, plan.RootfsChapter)
		openPlace(child, in.Root, "/mounts/0")
		layers.Born = child.Steps
	}
	return layers, nil
}

// openLayers plans what the host does: the directories with the layers, each as a mount
// that has the container's owners, attached nowhere yet.
func openLayers(b *plan.Builder, in Input, m *specs.Mount, pointer string) error {
	o, err := parseOptions(m.Options)
	if err != nil {
		return err
	}
	if !in.Facts.HasMappedLayers() {
		return fmt.Errorf("an overlay of id-mapped layers needs Linux 5.19, this is %s", in.Facts.Kernel)
	}
	lower, _, upper, err := layerTrees(o)
	if err != nil {
		return err
	}
	users, err := idmapUsers(b, in, m, true, pointer)
	if err != nil {
		return err
	}
	for _, tree := range []struct {
		reg  plan.Reg
		path string
		set  linux.MountAttrs
		what string
	}{
		{lowerReg(pointer), lower, linux.AttrIdmap | linux.AttrReadonly, "the layers of images"},
		{upperReg(pointer), upper, linux.AttrIdmap, "the container's own layer"},
	} {
		if tree.path == "" {
			continue
		}
		b.Do(tree.what+", to be seen with other owners", linux.OpenTree{Dir: linux.CWD, Path: tree.path, Flags: linux.OpenTreeClone | linux.OpenTreeCloexec}).
			As(tree.reg).For(pointer)
		b.Do("who their files belong to, seen through this mount", linux.MountSetattr{Dir: linux.FD(tree.reg), Set: tree.set, UserNS: users}).For(pointer)
	}
	return nil
}

// assemble plans what the keeper does: the overlay of the host's mounts.
func (b *builder) assemble(m *specs.Mount, pointer string) error {
	o, err := parseOptions(m.Options)
	if err != nil {
		return err
	}
	lower, first, upper, err := layerTrees(o)
	if err != nil {
		return err
	}
	lowerFD, upperFD := linux.FD(lowerReg(pointer)), linux.FD(upperReg(pointer))
	b.Do("the layers get a place, as overlayfs takes them by their names", linux.MoveMount{From: lowerFD, To: linux.CWD, ToPath: lower}).For(pointer)
	b.mappedImages(o, pointer)
	if upper != "" {
		b.Do("and so does the layer to write to", linux.MoveMount{From: upperFD, To: linux.CWD, ToPath: upper}).For(pointer)
	}
	o.set |= linux.AttrNodev // as of every file system that is mounted in a user namespace
	before := len(b.Steps)
	if err := b.overlay(m, o, "stack", pointer); err != nil {
		return err
	}
	if _, moved := b.Steps[before].Call.(linux.Chdir); moved {
		b.Do("out of the layers again", linux.Chdir{Path: "/"}).For(pointer)
	}
	b.Do("the overlay, to be handed to the container", linux.OpenTree{Dir: "stack", Flags: linux.OpenTreeClone | linux.OpenTreeCloexec | linux.AtEmptyPath}).
		As(mappedReg(pointer)).For(pointer)
	const below, nothing = "all of this in one tree: the kernel waits for all processors at each that is taken away", "nothing of the host's is left open"
	b.Do(below, linux.MoveMount{From: "stack", To: linux.CWD, ToPath: first}).For(pointer)
	b.Do(nothing, linux.Close{FD: "stack"})
	const gone = "the container is born without a view of it"
	if upper != "" {
		if first == upper || strings.HasPrefix(first, upper+"/") { // a mount cannot be moved to a place in itself
			b.Do(gone, linux.Umount{Target: upper, Flags: linux.MntDetach}).For(pointer)
		} else {
			b.Do(below, linux.MoveMount{From: upperFD, To: linux.CWD, ToPath: first}).For(pointer)
		}
		b.Do(nothing, linux.Close{FD: upperFD})
	}
	b.Do(gone, linux.Umount{Target: lower, Flags: linux.MntDetach}).For(pointer)
	b.Do(nothing, linux.Close{FD: lowerFD})
	return nil
}
