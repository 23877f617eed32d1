package rootfs

import "slices"

// MountOptions lists the options that this package knows, sorted; others are handed to
// the file system.
func MountOptions() []string {
	list := []string{"bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap", "sync", "dirsync", "lazytime", "mand",
		"async", "nolazytime", "nomand", "defaults", "silent", "loud", "iversion", "noiversion", "acl", "noacl"}
	for i := range attrOptions {
		list = append(list, attrOptions[i].name, "r"+attrOptions[i].name)
	}
	for i := range propagationOptions {
		list = append(list, propagationOptions[i].name)
	}
	slices.Sort(list)
	return list
}
