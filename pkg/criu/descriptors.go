package criu

import (
	"strconv"
	"strings"
)

// DescriptorsFile is a file in the directory of a checkpoint: what the first three
// descriptors of the first process were, as a JSON list of three strings. runc and crun
// keep it too.
const DescriptorsFile = "descriptors.json"

// File names an open file that no mount of the container has: mount is the kernel's
// number of the mount that it was opened on.
func File(mount int, inode uint64) string {
	return "file[" + strconv.FormatInt(int64(mount), 16) + ":" + strconv.FormatUint(inode, 16) + "]"
}

// Terminal names a terminal of the host, by its number and that of the file system it is
// on.
func Terminal(rdev, dev uint64) string {
	return "tty[" + strconv.FormatUint(rdev, 16) + ":" + strconv.FormatUint(dev, 16) + "]"
}

// DumpDescriptors names those descriptors that criu would otherwise look for in the
// container. Pipes and sockets need not be named.
func DumpDescriptors(names []string) []string {
	var list []string
	for i, name := range names {
		if first(names, i) && (strings.HasPrefix(name, "file[") || strings.HasPrefix(name, "tty[")) {
			list = append(list, name)
		}
	}
	return list
}

// InheritDescriptors puts descriptors in the place of those with these names: that of
// names[i] is fds+i. Names come with a checkpoint, so what is not of the four kinds, with
// numbers in the brackets, is left out.
func InheritDescriptors(names []string, fds int) []string {
	var list []string
	for i, name := range names {
		if first(names, i) && Inheritable(name) {
			list = append(list, inherit(fds+i, name))
		}
	}
	return list
}

// first reports whether names[i] was not there before: one open file may be several
// descriptors.
func first(names []string, i int) bool {
	for _, n := range names[:i] {
		if n == names[i] {
			return false
		}
	}
	return true
}

// Inheritable reports whether a descriptor with this name leads out of the container.
func Inheritable(name string) bool {
	kind, rest, ok := strings.Cut(name, "[")
	number, closed := strings.CutSuffix(rest, "]")
	if !ok || !closed || number == "" {
		return false
	}
	for _, r := range number {
		if !strings.ContainsRune("0123456789abcdef:", r) {
			return false
		}
	}
	return kind == "pipe:" || kind == "socket:" || kind == "file" || kind == "tty"
}
