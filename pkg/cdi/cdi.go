// Package cdi gives containers devices by name: vendor.com/class=name, as the Container
// Device Interface (https://github.com/cncf-tags/container-device-interface) has it.
//
// # Theory of operation
//
// A vendor describes his devices in files, which his installer puts into /etc/cdi or
// /var/run/cdi: for each device what a container needs to use it. That may be device
// nodes, mounts, environment variables, hooks, groups, network devices, a class of cache.
//
// Find reads the files and returns what the named devices need together, without having
// changed anything; Add puts that into a specification. Between the two everything is
// checked that can be: every device is known and described once, what it needs is there
// on the host, and no two devices want different things in the same place. So a device
// that a container cannot have is refused before anything of the container is made.
//
// The files are read, and their versions and grammar checked, by the interface's own
// library. What they ask for is put together here in an empty specification first, since
// the order of a container's own mounts must stay as it is.
package cdi

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// Errors that callers tell apart.
var (
	// ErrUnknown means that no file describes a device.
	ErrUnknown = errors.New("no such device")
	// ErrConflict means that two things are wanted in one place.
	ErrConflict = errors.New("conflict")
)

// DefaultDirs are where descriptions are looked for unless told. Those of a later
// directory count before those of an earlier one.
func DefaultDirs() []string { return slices.Clone(cdi.DefaultSpecDirs) }

// annotationPrefix begins the annotations that name devices.
const annotationPrefix = "cdi.k8s.io/"

// IsName reports whether s is the name of a device, VENDOR/CLASS=NAME, rather than a path.
func IsName(s string) bool { return parser.IsQualifiedName(s) }

// CheckName says what is wrong with a name.
func CheckName(s string) error {
	_, _, _, err := parser.ParseQualifiedName(s)
	return err
}

// Annotated returns the devices that annotations name: cdi.k8s.io/ANYTHING with a list of
// names, separated by commas. The order is that of the keys.
func Annotated(annotations map[string]string) ([]string, error) {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, annotationPrefix) {
			continue
		}
		for name := range strings.SplitSeq(annotations[key], ",") {
			if err := CheckName(name); err != nil {
				return nil, fmt.Errorf("annotation %s: %w", key, err)
			}
			out = append(out, name)
		}
	}
	return out, nil
}

// Devices are devices that were found, with all that a container needs to use them.
type Devices struct {
	// Names are those that were asked for, each once.
	Names []string
	needs *specs.Spec
}

// Find looks devices up in the files of dirs, DefaultDirs if there are none. Nothing is
// changed. The error wraps ErrUnknown or ErrConflict, or tells what is missing on the host.
func Find(dirs, names []string) (*Devices, error) {
	d := &Devices{needs: empty()}
	for _, name := range names {
		if !slices.Contains(d.Names, name) {
			d.Names = append(d.Names, name)
		}
	}
	if len(d.Names) == 0 {
		return d, nil
	}
	if len(dirs) == 0 {
		dirs = DefaultDirs()
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil, fmt.Errorf("device descriptions: %w", err)
	}
	for _, name := range d.Names {
		device := cache.GetDevice(name)
		if device == nil {
			return nil, unknown(cache, dirs, name)
		}
	}
	if err := alone(cache, d.Names); err != nil {
		return nil, err
	}
	if _, err := cache.InjectDevices(d.needs, d.Names...); err != nil {
		return nil, fmt.Errorf("device %s: %w", strings.Join(d.Names, ", "), err)
	}
	return d, nil
}

// Known lists the devices that files of dirs describe, in order of their names.
func Known(dirs []string) []string {
	if len(dirs) == 0 {
		dirs = DefaultDirs()
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil
	}
	names := cache.ListDevices()
	slices.Sort(names)
	return names
}

// empty is a specification that has nothing but places.
func empty() *specs.Spec {
	return &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
}

// unknown says why a device was not found: it is described twice, or a file could not be
// read, or there is none.
func unknown(cache *cdi.Cache, dirs []string, name string) error {
	vendor, class, _ := parser.ParseDevice(name)
	var broken []error
	files := cache.GetErrors()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		for _, err := range files[path] {
			if strings.Contains(err.Error(), fmt.Sprintf("conflicting device %q", name)) {
				return fmt.Errorf("device %s: it is described twice: %w: %w", name, ErrConflict, err)
			}
			broken = append(broken, fmt.Errorf("%s: %w", path, err))
		}
	}
	var same []string
	for _, other := range cache.ListDevices() {
		if v, c, _ := parser.ParseDevice(other); v == vendor && c == class {
			same = append(same, other)
		}
	}
	slices.Sort(same)
	err := fmt.Errorf("device %s: %w: no file in %s describes it", name, ErrUnknown, strings.Join(dirs, " or "))
	if len(same) > 0 {
		err = fmt.Errorf("device %s: %w: there are %s", name, ErrUnknown, strings.Join(same, " "))
	}
	if len(broken) > 0 {
		err = fmt.Errorf("%w; not understood: %w", err, errors.Join(broken...))
	}
	return err
}

// place is where something goes, and what.
type place struct{ what, where string }

// alone checks that the devices do not want different things in the same place: what
// comes later would silently take the place of what came before.
func alone(cache *cdi.Cache, names []string) error {
	taken := map[place]string{}
	take := func(name, what, where, content string) error {
		at := place{what, where}
		if before, ok := taken[at]; ok && before != content {
			return fmt.Errorf("device %s: %w: %s %s is %s already, and was to be %s", name, ErrConflict, what, where, before, content)
		}
		taken[at] = content
		return nil
	}
	for _, name := range names {
		needs := empty()
		if _, err := cache.InjectDevices(needs, name); err != nil {
			return fmt.Errorf("device %s: %w", name, err)
		}
		for _, d := range needs.Linux.Devices {
			if err := take(name, "device node", d.Path, fmt.Sprintf("%s %d:%d", d.Type, d.Major, d.Minor)); err != nil {
				return err
			}
		}
		for _, m := range needs.Mounts {
			if err := take(name, "mount", filepath.Clean(m.Destination), m.Source); err != nil {
				return err
			}
		}
		for _, v := range needs.Process.Env {
			key, value, _ := strings.Cut(v, "=")
			if err := take(name, "variable", key, value); err != nil {
				return err
			}
		}
		for host, d := range needs.Linux.NetDevices {
			if err := errors.Join(take(name, "network device", host, d.Name), take(name, "network device named", d.Name, host)); err != nil {
				return err
			}
		}
		if r := needs.Linux.IntelRdt; r != nil {
			if err := take(name, "class of service", "of the container", r.ClosID); err != nil {
				return err
			}
		}
	}
	return nil
}
