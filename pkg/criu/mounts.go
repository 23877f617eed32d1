package criu

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Mount is a mount as the kernel lists it, see proc_pid_mountinfo(5).
type Mount struct {
	// ID is the kernel's number of it.
	ID int
	// Point is where it is, as the process sees it, and Root what it shows of its file
	// system.
	Point, Root string
	Type        string
}

// null is the name of all masked files: each has /dev/null in its place.
const null = "/dev/null"

// defaultDevices are in every container.
var defaultDevices = []string{null, "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

// devices are those of the host that are bound in a container with a user namespace, which
// cannot make nodes: the ones that every container has, and those of its configuration.
func devices(spec *specs.Spec) []string {
	if !InUserNamespace(spec) {
		return nil
	}
	list := slices.Clone(defaultDevices)
	for i := range spec.Linux.Devices {
		if d := &spec.Linux.Devices[i]; d.Type != "p" && checkName(d.Path) == nil {
			list = append(list, d.Path)
		}
	}
	return list
}

// IsBind reports whether a mount of the configuration shows a path of the host.
func IsBind(m *specs.Mount) bool {
	if m.Type == "bind" {
		return true
	}
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

// Places are the paths of a configuration whose mounts DumpMounts wants to know.
func Places(spec *specs.Spec) []string {
	var list []string
	for i := range spec.Mounts {
		list = append(list, path.Clean(spec.Mounts[i].Destination))
	}
	for _, p := range spec.Linux.MaskedPaths {
		list = append(list, path.Clean(p))
	}
	return list
}

// DumpMounts names the mounts of a container that are the host's. table is what is
// mounted in the container, and on which mount of it each of the Places is, by ID; those
// that are not there are left out.
func DumpMounts(spec *specs.Spec, table []Mount, on map[string]int) ([]string, error) {
	byID, own := make(map[int]*Mount, len(table)), make(map[int]bool)
	for i := range table {
		byID[table[i].ID] = &table[i]
	}
	for i := range spec.Mounts {
		own[on[path.Clean(spec.Mounts[i].Destination)]] = true
	}
	var list []string
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if !IsBind(m) {
			continue
		}
		dest := path.Clean(m.Destination)
		if err := checkName(dest); err != nil {
			return nil, fmt.Errorf("/mounts/%d: %w", i, err)
		}
		top := byID[on[dest]]
		if top == nil {
			return nil, fmt.Errorf("/mounts/%d: nothing is mounted at %s any more", i, dest)
		}
		list = append(list, dumpMount(top.Point, dest))
		for k := range table {
			if rest, below := strings.CutPrefix(table[k].Point, top.Point+"/"); below && !own[table[k].ID] {
				list = append(list, dumpMount(table[k].Point, dest+"/"+rest))
			}
		}
	}
	bound := devices(spec)
	for k := range table {
		if p := table[k].Point; slices.Contains(bound, p) && !own[table[k].ID] {
			list = append(list, dumpMount(p, p))
		}
	}
	for _, p := range spec.Linux.MaskedPaths {
		if m := byID[on[path.Clean(p)]]; m != nil && path.Base(m.Root) == "null" {
			list = append(list, dumpMount(m.Point, null))
		}
	}
	return list, nil
}

//go:noinline
func dumpMount(point, name string) string { return "mnt[" + point + "]:" + name }

// RestoreMounts gives what DumpMounts has named. Sources of binds in spec are absolute;
// points are the host's own mount points, since a bind may show some that are below it.
func RestoreMounts(spec *specs.Spec, points []string) ([]string, error) {
	var list []string
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if !IsBind(m) {
			continue
		}
		dest, source := path.Clean(m.Destination), path.Clean(m.Source)
		if err := checkName(dest); err != nil {
			return nil, fmt.Errorf("/mounts/%d: %w", i, err)
		}
		list = append(list, restoreMount(dest, source))
		for _, p := range points {
			if rest, below := strings.CutPrefix(p, strings.TrimSuffix(source, "/")+"/"); below && checkName(p) == nil {
				list = append(list, restoreMount(dest+"/"+rest, p))
			}
		}
	}
	bound := devices(spec)
	for _, p := range bound {
		list = append(list, restoreMount(p, p))
	}
	if len(spec.Linux.MaskedPaths) > 0 && len(bound) == 0 {
		list = append(list, restoreMount(null, null))
	}
	return list, nil
}

//go:noinline
func restoreMount(name, source string) string { return "mnt[" + name + "]:" + source }

// checkName refuses a name that would end too early where criu reads it.
func checkName(p string) error {
	if strings.ContainsAny(p, "[]") {
		return fmt.Errorf("%s: CRIU takes no brackets in the name of a mount", p)
	}
	return nil
}

// CheckMounts refuses mounts that criu cannot make again.
func CheckMounts(spec *specs.Spec) error {
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		mapped := len(m.UIDMappings)+len(m.GIDMappings) > 0
		for _, o := range m.Options {
			mapped = mapped || o == "idmap" || o == "ridmap"
		}
		if mapped {
			return fmt.Errorf("/mounts/%d: CRIU does not know mounts whose files' owners are mapped", i)
		}
	}
	if spec.Process != nil && spec.Process.Terminal {
		return errors.New("/process/terminal: the other end of the terminal is outside of the container, and CRIU's command line cannot hand it over")
	}
	return nil
}
