package rootfs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containr/containr/pkg/plan/linux"
)

// options are a mount's options, sorted by what they act on.
type options struct {
	bind, recursive bool
	remount         bool
	copyUp          bool
	// idmap and recIdmap ask for other owners of files: of the mount, and of all
	// mounts below it as well.
	idmap, recIdmap bool
	// subpath is what of a bind's source is shown, see SubpathOption.
	subpath string
	// images are those of an overlay's layers, see ImageOption.
	images []string
	// space is where an overlay's upper directory is, see SpaceOption.
	space string
	// secrets are files of a mount of SecretsType.
	secrets [][]string
	// set and clear are attributes of the mount; recSet and recClear those of all
	// mounts below it as well.
	set, clear, recSet, recClear linux.MountAttrs
	propagation                  linux.MountFlags
	// super are flags of the file system, data its own parameters.
	super, data []string
}

// The option names of the runtime specification, "Linux mount options".
var attrOptions = [...]struct {
	name       string
	set, clear linux.MountAttrs
}{
	{"ro", linux.AttrReadonly, 0}, {"rw", 0, linux.AttrReadonly},
	{"nosuid", linux.AttrNosuid, 0}, {"suid", 0, linux.AttrNosuid},
	{"nodev", linux.AttrNodev, 0}, {"dev", 0, linux.AttrNodev},
	{"noexec", linux.AttrNoexec, 0}, {"exec", 0, linux.AttrNoexec},
	{"nodiratime", linux.AttrNodiratime, 0}, {"diratime", 0, linux.AttrNodiratime},
	{"nosymfollow", linux.AttrNosymfollow, 0}, {"symfollow", 0, linux.AttrNosymfollow},
	{"noatime", linux.AttrNoatime, linux.AttrAtime}, {"atime", 0, linux.AttrAtime},
	{"strictatime", linux.AttrStrictatime, linux.AttrAtime}, {"nostrictatime", 0, linux.AttrAtime},
	{"relatime", 0, linux.AttrAtime}, {"norelatime", linux.AttrStrictatime, linux.AttrAtime},
}

var propagationOptions = [...]struct {
	name string
	flag linux.MountFlags
}{
	{"private", linux.MsPrivate}, {"rprivate", linux.MsPrivate | linux.MsRec},
	{"slave", linux.MsSlave}, {"rslave", linux.MsSlave | linux.MsRec},
	{"shared", linux.MsShared}, {"rshared", linux.MsShared | linux.MsRec},
	{"unbindable", linux.MsUnbindable}, {"runbindable", linux.MsUnbindable | linux.MsRec},
}

// parseOptions sorts the options; those that are not known are the file system's.
func parseOptions(list []string) (*options, error) {
	o := new(options)
	for _, name := range list {
		if rest, ok := strings.CutPrefix(name, SubpathOption); ok {
			o.subpath = rest
			continue
		}
		if rest, ok := strings.CutPrefix(name, ImageOption); ok {
			o.images = append(o.images, rest)
			continue
		}
		if rest, ok := strings.CutPrefix(name, SpaceOption); ok {
			o.space = rest
			continue
		}
		if rest, ok := strings.CutPrefix(name, SecretOption); ok {
			s := strings.Split(rest, ":")
			if len(s) != 5 {
				return nil, errSecret
			}
			o.secrets = append(o.secrets, s)
			continue
		}
		if !o.attr(name) && !o.propagate(name) && !o.kind(name) {
			if strings.HasPrefix(name, "idmap=") || strings.HasPrefix(name, "ridmap=") {
				return nil, fmt.Errorf("option %q: the maps belong in uidMappings and gidMappings of the mount", name)
			}
			o.data = append(o.data, name)
		}
	}
	return o, nil
}

func (o *options) attr(name string) bool {
	for _, a := range &attrOptions {
		if a.name == name {
			o.set, o.clear = o.set&^a.clear|a.set, o.clear&^a.set|a.clear
			return true
		}
		if len(name) == len(a.name)+1 && name[0] == 'r' && name[1:] == a.name {
			o.recSet, o.recClear = o.recSet&^a.clear|a.set, o.recClear&^a.set|a.clear
			return true
		}
	}
	return false
}

func (o *options) propagate(name string) bool {
	for _, p := range &propagationOptions {
		if p.name == name {
			o.propagation = p.flag
			return true
		}
	}
	return false
}

func (o *options) kind(name string) bool {
	switch name {
	case "bind":
		o.bind = true
	case "rbind":
		o.bind, o.recursive = true, true
	case "remount":
		o.remount = true
	case "tmpcopyup":
		o.copyUp = true
	case "idmap":
		o.idmap = true
	case "ridmap":
		o.idmap, o.recIdmap = true, true
	case "sync", "dirsync", "lazytime", "mand":
		o.super = append(o.super, name)
	case "async", "nolazytime", "nomand", "defaults", "silent", "loud", "iversion", "noiversion", "acl", "noacl":
		// What the kernel does anyway, or has given up.
	default:
		return false
	}
	return true
}

// saysOwner reports whether the top of a tmpfs gets its owner or mode by an option.
func (o *options) saysOwner() bool {
	return slices.ContainsFunc(o.data, func(d string) bool {
		return strings.HasPrefix(d, "mode=") || strings.HasPrefix(d, "uid=") || strings.HasPrefix(d, "gid=")
	})
}

// attrs are the attributes of a mount that has nothing below it.
func (o *options) attrs() linux.MountAttrs { return o.set | o.recSet&^o.clear }

// mountFlags are the attributes as flags of mount(2).
func (o *options) mountFlags() linux.MountFlags { return attrFlags(o.attrs()) }

// remountFlags are those for a mount that has some already: a remount takes away
// what it does not repeat.
func (o *options) remountFlags(has linux.MountFlags) linux.MountFlags {
	return has&^attrFlags(o.clear|o.recClear) | o.mountFlags()
}

func attrFlags(attrs linux.MountAttrs) linux.MountFlags {
	var flags linux.MountFlags
	for _, p := range [...]struct {
		attr linux.MountAttrs
		flag linux.MountFlags
	}{
		{linux.AttrReadonly, linux.MsReadonly}, {linux.AttrNosuid, linux.MsNosuid}, {linux.AttrNodev, linux.MsNodev},
		{linux.AttrNoexec, linux.MsNoexec}, {linux.AttrNoatime, linux.MsNoatime}, {linux.AttrNodiratime, linux.MsNodiratime},
		{linux.AttrStrictatime, linux.MsStrictatime}, {linux.AttrNosymfollow, linux.MsNosymfollow},
	} {
		if attrs&p.attr != 0 {
			flags |= p.flag
		}
	}
	return flags
}
