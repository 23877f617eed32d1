package rootfs

import (
	"slices"
	"strings"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// selinuxAttr is the extended attribute that holds a file's SELinux label.
const selinuxAttr = "security.selinux"

// label is the label of the container's mounts. Where SELinux is not active nobody would
// look at it, and nothing depends on it, so it is left out. (A label of the process is
// refused there: it confines.)
func (b *builder) label() string {
	if !b.in.Facts.SELinux {
		return ""
	}
	return b.in.Spec.Linux.MountLabel
}

// labels reports whether a new file system gets the configuration's SELinux label as a
// whole, by the option "context". What the kernel makes up (processes, devices,
// control groups) has labels of its own; message queues take the option too, but files
// that are made in them do not follow it.
func (b *builder) labels(fstype string, o *options) bool {
	if b.label() == "" || slices.ContainsFunc(o.data, func(d string) bool { return strings.HasPrefix(d, "context=") }) {
		return false
	}
	switch fstype {
	case "proc", "sysfs", "cgroup", "cgroup2", "mqueue":
		return false
	}
	return true
}

const whyLabel, labelPointer = "its SELinux label, so that the container's programs may use it and no others", "/linux/mountLabel"

// labelNew labels a file system before it is made.
func (b *builder) labelNew(fstype string, o *options) {
	if b.labels(fstype, o) {
		b.Do(whyLabel, linux.Fsconfig{FS: "fs", Command: linux.FsconfigSetString, Key: "context", Value: b.label()}).For(labelPointer)
	}
}

// labelMade labels the root of one that takes no such option.
func (b *builder) labelMade(fstype string, reg plan.Reg) {
	label := b.label()
	if label == "" || fstype != "mqueue" {
		return
	}
	b.Do(whyLabel, linux.Openat{Dir: linux.FD(reg), Path: ".", Flags: linux.ODirectory | linux.OCloexec}).As("top").For(labelPointer)
	b.Do(whyLabel, linux.Fsetxattr{FD: "top", Attr: selinuxAttr, Value: label}).For(labelPointer)
}
