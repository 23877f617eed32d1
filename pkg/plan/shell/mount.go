package shell

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containr/containr/internal/shellword"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// filesystem is what fsopen and fsconfig have said about a new file system, and the
// attributes of its mount.
type filesystem struct {
	kind, source string
	options      []string
	attrs        linux.MountAttrs
	made         bool
}

// bind is a detached copy of a mount, with what is to become of it once attached.
type bind struct {
	source    path
	recursive bool
	changes   []linux.MountSetattr
}

// mountCommand interprets the calls of mounting.
func (w *writer) mountCommand(i int) ([]command, error) {
	s := &w.steps[i]
	switch c := s.Call.(type) {
	case linux.Fsopen:
		w.regs[s.Result] = value{fs: &filesystem{kind: c.Type}}
		return nil, nil
	case linux.Fsconfig:
		return nil, w.fsconfig(c)
	case linux.Fsmount:
		v, ok := w.regs[plan.Reg(c.FS)]
		if !ok || v.fs == nil || !v.fs.made {
			return nil, errors.New("there is no file system to mount")
		}
		fs := *v.fs
		fs.attrs = c.Attrs
		w.regs[s.Result] = value{fs: &fs}
		return nil, nil
	case linux.OpenTree:
		return nil, w.openTree(s, c)
	case linux.MountSetattr:
		return w.setattr(c)
	case linux.MoveMount:
		return w.attach(i, c)
	case linux.Mount:
		return w.mount(s, c)
	case linux.PivotRoot, linux.Umount:
		return nil, w.pivot(s)
	}
	return nil, errors.New("a shell whose root is not the container's cannot do it")
}

func (w *writer) fsconfig(c linux.Fsconfig) error {
	v, ok := w.regs[plan.Reg(c.FS)]
	if !ok || v.fs == nil {
		return errors.New("there is no file system to configure")
	}
	switch {
	case c.Command == linux.FsconfigCreate:
		v.fs.made = true
	case c.Command == linux.FsconfigSetString && c.Key == "source":
		v.fs.source = c.Value
	case strings.Contains(c.Key+c.Value, ","):
		return errors.New("a mount option with a comma in it")
	case c.Command == linux.FsconfigSetString:
		v.fs.options = append(v.fs.options, c.Key+"="+c.Value)
	default:
		v.fs.options = append(v.fs.options, c.Key)
	}
	return nil
}

func (w *writer) openTree(s *plan.Step, c linux.OpenTree) error {
	source, err := w.at(c.Dir, c.Path)
	if err != nil {
		return err
	}
	if c.Flags&linux.OpenTreeClone == 0 {
		w.regs[s.Result] = value{moved: source}
		return nil
	}
	w.regs[s.Result] = value{bind: &bind{source: source, recursive: c.Flags&linux.AtRecursive != 0}}
	return nil
}

// setattr changes what is attached, and notes the change for what is not.
func (w *writer) setattr(c linux.MountSetattr) ([]command, error) {
	if c.UserNS != "" {
		return nil, errors.New("an id-mapped mount")
	}
	v := w.regs[plan.Reg(c.Dir)]
	switch {
	case c.Path != "":
		return nil, errors.New("a path below a descriptor")
	case !v.place.empty():
		return w.change(c, v.place), nil
	case v.bind != nil:
		v.bind.changes = append(v.bind.changes, c)
		return nil, nil
	}
	return nil, fmt.Errorf("it is not known what %q is", c.Dir)
}

// change writes the commands for mount_setattr(2) on an attached mount.
func (w *writer) change(c linux.MountSetattr, at path) []command {
	var list []command
	if c.Set|c.Clear != 0 {
		options := strings.Join(attrOptions(c.Set, c.Clear), ",")
		if c.Recursive {
			w.uses["remount_all"] = true
			list = append(list, run("remount_all %s %s", options, at)...)
		} else {
			list = append(list, run("mount -o remount,bind,%s -- %s", options, at)...)
		}
	}
	if c.Propagation != 0 {
		list = append(list, run("mount --make-%s%s -- %s", recursively(c.Recursive), propagation(c.Propagation), at)...)
	}
	return list
}

func recursively(yes bool) string {
	if yes {
		return "r"
	}
	return ""
}

// attrOptions are the attributes as options of mount(8).
func attrOptions(set, clear linux.MountAttrs) []string {
	var out []string
	for _, a := range [...]struct {
		attr      linux.MountAttrs
		name, not string
	}{
		{linux.AttrReadonly, "ro", "rw"}, {linux.AttrNosuid, "nosuid", "suid"}, {linux.AttrNodev, "nodev", "dev"},
		{linux.AttrNoexec, "noexec", "exec"}, {linux.AttrNoatime, "noatime", ""}, {linux.AttrStrictatime, "strictatime", ""},
		{linux.AttrNodiratime, "nodiratime", "diratime"}, {linux.AttrNosymfollow, "nosymfollow", "symfollow"},
	} {
		switch {
		case set&a.attr != 0:
			out = append(out, a.name)
		case clear&a.attr != 0 && a.not != "":
			out = append(out, a.not)
		}
	}
	if clear&linux.AttrAtime != 0 && set&linux.AttrAtime == 0 {
		out = append(out, "relatime")
	}
	return out
}

// flagOptions are the flags of mount(2) as options of mount(8).
func flagOptions(flags linux.MountFlags) []string {
	var out []string
	for _, f := range [...]struct {
		flag linux.MountFlags
		name string
	}{
		{linux.MsReadonly, "ro"}, {linux.MsNosuid, "nosuid"}, {linux.MsNodev, "nodev"}, {linux.MsNoexec, "noexec"},
		{linux.MsSynchronous, "sync"}, {linux.MsMandlock, "mand"}, {linux.MsDirsync, "dirsync"}, {linux.MsNosymfollow, "nosymfollow"},
		{linux.MsNoatime, "noatime"}, {linux.MsNodiratime, "nodiratime"}, {linux.MsRelatime, "relatime"},
		{linux.MsStrictatime, "strictatime"}, {linux.MsLazytime, "lazytime"},
	} {
		if flags&f.flag != 0 {
			out = append(out, f.name)
		}
	}
	return out
}

func propagation(flags linux.MountFlags) string {
	switch flags &^ linux.MsRec {
	case linux.MsPrivate:
		return "private"
	case linux.MsSlave:
		return "slave"
	case linux.MsShared:
		return "shared"
	case linux.MsUnbindable:
		return "unbindable"
	}
	return ""
}

// attach interprets move_mount(2): here the mount that was prepared is made.
func (w *writer) attach(i int, c linux.MoveMount) ([]command, error) {
	to, err := w.place(c.To)
	if err != nil {
		return nil, err
	}
	to = to.join(c.ToPath)
	from := plan.Reg(c.From)
	v, ok := w.regs[from]
	var list []command
	switch {
	case !ok || !v.place.empty():
		return nil, fmt.Errorf("%q is no mount that waits for its place", from)
	case v.fs != nil:
		list = v.fs.mount(to)
	case v.bind != nil:
		list = w.bindTo(v.bind, to)
	case !v.moved.empty():
		list = run("mount --move -- %s %s", v.moved, to)
	default:
		return nil, fmt.Errorf("%q is no mount", from)
	}
	switch {
	case from == "root":
		w.setRoot(to)
		list = append(list, run("root=%s", to)...)
	case w.used(from, i):
		name, err := variable(from)
		if err != nil {
			return nil, err
		}
		list = append(list, run("%s=%s", name, to)...)
		w.regs[from] = value{place: path{variable: name}, fs: v.fs}
	}
	return list, nil
}

// mount writes the command for a new file system. Read-only is set afterwards: at the
// mounting, the file system itself would become so, not only the mount.
func (f *filesystem) mount(at path) []command {
	options := append(attrOptions(f.attrs&^linux.AttrReadonly, 0), f.options...)
	list := newMount(f.kind, f.source, options, at)
	if f.attrs&linux.AttrReadonly != 0 {
		list = append(list, run("mount -o remount,bind,%s -- %s", strings.Join(attrOptions(f.attrs, 0), ","), at)...)
	}
	return list
}

func newMount(kind, source string, options []string, at path) []command {
	if source == "" {
		source = "none"
	}
	o := ""
	if len(options) > 0 {
		o = " -o " + shellword.Quote(strings.Join(options, ","))
	}
	return run("mount -t %s%s -- %s %s", shellword.Quote(kind), o, shellword.Quote(source), at)
}

func (w *writer) bindTo(b *bind, to path) []command {
	list := run("mount --%sbind -- %s %s", recursively(b.recursive), b.source, to)
	for _, c := range b.changes {
		list = append(list, w.change(c, to)...)
	}
	return list
}

// mount interprets mount(2), relative to the working directory, as the command is.
func (w *writer) mount(s *plan.Step, c linux.Mount) ([]command, error) {
	if w.pivoted {
		return nil, w.changeRoot(s, c)
	}
	target := path{rest: c.Target}
	options := flagOptions(c.Flags)
	switch {
	case c.Flags&linux.MsMove != 0:
		return nil, errors.New("a shell whose root is not the container's cannot move it there")
	case c.Flags&linux.MsRemount != 0 && c.Flags&linux.MsBind != 0:
		return run("mount -o %s -- %s", strings.Join(append([]string{"remount", "bind"}, options...), ","), target), nil
	case c.Flags&linux.MsBind != 0:
		return run("mount --%sbind -- %s %s", recursively(c.Flags&linux.MsRec != 0), shellword.Quote(c.Source), target), nil
	case propagation(c.Flags) != "":
		return run("mount --make-%s%s -- %s", recursively(c.Flags&linux.MsRec != 0), propagation(c.Flags), target), nil
	case c.Type == "":
		return nil, errors.New("an unknown use of mount(2)")
	}
	if c.Data != "" {
		options = append(options, c.Data)
	}
	return newMount(c.Type, c.Source, options, target), nil
}

// changeRoot interprets a change of the root's mount after it has been entered. The
// helper reaches it through the directory of the first process below /proc, by a link
// that must not be read as text.
func (w *writer) changeRoot(s *plan.Step, c linux.Mount) error {
	enter := `nsenter --mount="/proc/$pid/ns/mnt" -- mount --no-canonicalize`
	switch {
	case c.Target != "/":
		return errors.New("a mount inside the new root, after it was entered")
	case propagation(c.Flags) != "":
		w.swap.add(s, fmt.Sprintf(`%s --make-%s%s "/proc/$pid/root/"`, enter, recursively(c.Flags&linux.MsRec != 0), propagation(c.Flags)))
	case c.Flags&linux.MsRemount != 0 && c.Flags&linux.MsBind != 0:
		w.inside.add(s, fmt.Sprintf(`mount -o %s -- "$root"`, strings.Join(append([]string{"remount", "bind"}, flagOptions(c.Flags)...), ",")))
	default:
		return errors.New("a mount after the root was entered")
	}
	return nil
}

// pivot interprets the change of root, which the helper makes at the end.
func (w *writer) pivot(s *plan.Step) error {
	switch c := s.Call.(type) {
	case linux.PivotRoot:
		if c.NewRoot != "." || c.PutOld != "." || w.final.root.empty() {
			return errors.New("only the register root can become the root")
		}
		w.pivoted = true
		w.explain(s, "the helper does it when no tool of the host is needed any more")
		w.swap.add(s, `nsenter --mount="/proc/$pid/ns/mnt" -- sh -c 'cd "$1" && exec pivot_root . .' sh `+w.final.root.String())
	case linux.Umount:
		if !w.pivoted || c.Target != "." {
			return errors.New("only the host's tree is unmounted")
		}
		w.final.unmount = s
	}
	return nil
}
