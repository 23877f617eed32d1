package cgroup

import (
	"fmt"
	"path"
	"strings"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// location is a clean path of a control group: no "..", no empty element.
type location struct {
	// path starts with a slash and is never the root itself.
	path string
	// absolute paths count from the root of a hierarchy.
	absolute bool
	// chosen is set when the configuration named the path: it may exist.
	chosen bool
	// unit is set when systemd makes the group, and ends it: what exists is
	// the container's own.
	unit bool
}

// locate reads cgroupsPath of the OCI configuration.
func locate(cgroupsPath, id string) (location, error) {
	if cgroupsPath == "" {
		if id == "" || strings.ContainsAny(id, "/\n\x00") {
			return location{}, fmt.Errorf("%w: %q cannot name a control group", ErrInvalid, id)
		}
		return location{path: "/containr-" + id}, nil
	}
	if cgroupsPath[0] != '/' && strings.Count(cgroupsPath, ":") == 2 {
		return location{}, fmt.Errorf("%w: cgroupsPath %q has the form slice:prefix:name, which asks systemd for a group: "+
			"that takes --systemd-cgroup", ErrInvalid, cgroupsPath)
	}
	if strings.ContainsAny(cgroupsPath, "\n\x00") {
		return location{}, fmt.Errorf("%w: cgroupsPath %q has a control character", ErrInvalid, cgroupsPath)
	}
	loc := location{path: path.Clean("/" + cgroupsPath), absolute: cgroupsPath[0] == '/', chosen: true}
	if loc.path == "/" {
		return location{}, fmt.Errorf("%w: cgroupsPath %q is the root of the hierarchy, which cannot be limited", ErrInvalid, cgroupsPath)
	}
	return loc, nil
}

// parents lists the directories between base and the last element of loc, top
// down; they may or may not exist.
func (l location) parents(base string) []string {
	var list []string
	for i := 1; i < len(l.path); i++ {
		if l.path[i] == '/' {
			list = append(list, base+l.path[:i])
		}
	}
	return list
}

// makeParent adds the step that makes a directory above the container's. It has
// no inverse, because other containers may live below it by then.
func makeParent(b *plan.Builder, dir string) {
	b.Do("make the control groups above the container's", linux.MakeDir{Path: dir, Mode: 0o755}).
		Ok(plan.EEXIST).For("/linux/cgroupsPath")
}

// makeLeaf adds the step that makes the container's own directory. One that the
// configuration names may exist: OCI lets a container enter it.
func (l location) makeLeaf(b *plan.Builder, dir string) {
	s := b.Do("make the container's control group", linux.MakeDir{Path: dir, Mode: 0o755})
	if !l.unit {
		s.Reverse(linux.RemoveDir{Path: dir})
	}
	if l.chosen {
		s.Ok(plan.EEXIST).For("/linux/cgroupsPath")
	}
}

// below joins a mount point and a path inside it that starts with a slash.
func below(mount, inner string) string {
	if inner == "" || inner == "/" {
		return mount
	}
	return mount + path.Clean("/"+inner)
}
