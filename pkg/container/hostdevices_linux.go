package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// privateDevices are directories and files below /dev that every container has
// of its own, so that the host's must not be shown there.
var privateDevices = []string{"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console", "/dev/ptmx", "/dev/.udev", "/dev/.lxc"}

// HostDevices finds the device nodes that devices ask for: the node itself, or
// every node below a directory. The keys of the result are the host paths.
// A path that is neither a device nor a directory is an error.
func HostDevices(devices []Device) (map[string][]specs.LinuxDevice, error) {
	out := map[string][]specs.LinuxDevice{}
	for _, d := range devices {
		info, err := os.Stat(d.Host)
		if err != nil {
			return nil, fmt.Errorf("--device %s: %w", d.Host, errors.Unwrap(err))
		}
		if info.IsDir() {
			if out[d.Host], err = devicesBelow(d.Host); err != nil {
				return nil, fmt.Errorf("--device %s: %w", d.Host, err)
			}
			continue
		}
		node, ok := deviceNode(d.Host)
		if !ok {
			return nil, fmt.Errorf("--device %s: not a device", d.Host)
		}
		out[d.Host] = []specs.LinuxDevice{node}
	}
	return out, nil
}

// HostBlockDevices finds the block devices at paths.
func HostBlockDevices(paths []string) (map[string]specs.LinuxDevice, error) {
	out := map[string]specs.LinuxDevice{}
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("limit of block device %s: %w", path, errors.Unwrap(err))
		}
		node, ok := deviceNode(path)
		if !ok || node.Type != "b" {
			return nil, fmt.Errorf("limit of block device %s: not a block device", path)
		}
		out[path] = node
	}
	return out, nil
}

// AllHostDevices lists the nodes below the host's /dev that a privileged
// container is shown.
func AllHostDevices() ([]specs.LinuxDevice, error) {
	return devicesBelow("/dev")
}

// devicesBelow tolerates nodes that come and go meanwhile.
func devicesBelow(dir string) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil && path == dir {
			return err
		}
		if slices.Contains(privateDevices, path) {
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d == nil || d.Type()&fs.ModeDevice == 0 {
			return nil
		}
		// Device 0:0 is none: it stands for what was deleted from a layer of overlayfs.
		if node, ok := deviceNode(path); ok && !strings.HasSuffix(path, "/ptmx") && (node.Major != 0 || node.Minor != 0) {
			out = append(out, node)
		}
		return nil
	})
	return out, err
}

// deviceNode describes the device at path, following symbolic links as the user
// who names /dev/disk/by-id/x expects.
func deviceNode(path string) (specs.LinuxDevice, bool) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxDevice{}, false
	}
	kinds := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}
	kind, ok := kinds[st.Mode&unix.S_IFMT]
	if !ok {
		return specs.LinuxDevice{}, false
	}
	mode := os.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{
		Path: path, Type: kind,
		Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, true
}
