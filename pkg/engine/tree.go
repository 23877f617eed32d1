package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/volume"
)

// tree is the root file system of a container, seen from outside. Names in it are resolved by
// safepath: nothing of the container can lead out of it, and nothing of it is executed.
type tree struct {
	*safepath.Root
	record container.Record
	// stopped says that the container does not run, so that only its layers are there.
	stopped bool
	done    func() error // nil for the host
}

// close lets go of the tree.
func (t *tree) close() error {
	err := t.Root.Close()
	if t.done != nil {
		err = errors.Join(err, t.done())
	}
	return err
}

// openTree opens the root file system of a container: as it sees it, with what is mounted in it, if
// it runs; else its image and its layer, while nobody can start it. A container whose
// files have other owners on the host than inside has them here as the host does.
func (e *Engine) openTree(ctx context.Context, record container.Record) (*tree, error) {
	st, err := e.State(record)
	if err != nil {
		return nil, err
	}
	if st.PID != 0 {
		return e.treeOfRunning(record, st.PID)
	}
	attended, err := e.whenIdle(ctx, record)
	if errors.Is(err, ErrRunning) {
		return e.openTree(ctx, record) // it has just been started
	}
	if err != nil {
		return nil, err
	}
	root, err := openStopped(record)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("container %s: %w", record.Name, err), attended.Release())
	}
	return &tree{Root: root, record: record, stopped: true, done: attended.Release}, nil
}

// treeOfRunning opens the root directory of a process, which must still be the container's then: a
// number can come to mean another one.
func (e *Engine) treeOfRunning(record container.Record, pid int) (*tree, error) {
	root, err := safepath.OpenRoot("/proc/" + strconv.Itoa(pid) + "/root")
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", record.Name, err)
	}
	if st, err := e.State(record); err != nil || st.PID != pid {
		return nil, errors.Join(fmt.Errorf("container %s: %w", record.Name, ErrNotRunning), err, root.Close())
	}
	return &tree{Root: root, record: record, done: func() error { return nil }}, nil
}

// openStopped mounts the root file system of a container that does not run where nobody else
// sees it: in a mount namespace of a thread, which ends at once. The descriptor keeps the
// mount, so there is nothing to unmount, whatever becomes of us.
func openStopped(record container.Record) (*safepath.Root, error) {
	if record.Spec == nil || record.Spec.Root == nil {
		return nil, errors.New("its specification is not there")
	}
	renewImages(record.Spec.Mounts)
	var mounts []specs.Mount
	for _, m := range record.Spec.Mounts {
		if m.Destination == "/" {
			mounts = append(mounts, m)
		}
	}
	if len(mounts) == 0 {
		return safepath.OpenRoot(record.Spec.Root.Path)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("only root can look into a container that does not run: its layers have to be mounted; start it first")
	}
	type result struct {
		root *safepath.Root
		err  error
	}
	done := make(chan result)
	go func() {
		goruntime.LockOSThread() // never unlocked: the thread ends, and with it its namespace
		root, err := mountAlone(mounts, record.Spec.Root.Path)
		done <- result{root, err}
	}()
	r := <-done
	return r.root, r.err
}

// mountAlone makes the mounts on dir in a new mount namespace of this thread, and opens it.
func mountAlone(mounts []specs.Mount, dir string) (*safepath.Root, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make the mounts of a thread private: %w", err)
	}
	for _, m := range mounts {
		if err := mountRoot(m, dir); err != nil {
			return nil, err
		}
	}
	return safepath.OpenRoot(dir)
}

// mountSpace mounts the image that a container's own layer is in.
func mountSpace(option string) error {
	image, dir, _ := strings.Cut(option, ":")
	device, err := volume.Image(image).Attach(context.Background())
	if err != nil {
		return err
	}
	defer device.Close() // from then on the mount keeps it
	fsType, words := volume.Image(image).Mount()
	flags := uintptr(0)
	words = slices.DeleteFunc(words, func(w string) bool {
		if w != "nodev" {
			return false
		}
		flags |= unix.MS_NODEV
		return true
	})
	if err := unix.Mount(device.Name(), dir, fsType, flags, strings.Join(words, ",")); err != nil {
		return fmt.Errorf("mount %s by %s: %w", image, device.Name(), err)
	}
	return nil
}

// mountRoot makes one mount of a root file system.
func mountRoot(m specs.Mount, dir string) error {
	var flags uintptr
	var data []string
	for _, o := range m.Options {
		if image, ok := strings.CutPrefix(o, rootfs.ImageOption); ok {
			file, at, _ := strings.Cut(image, ":")
			if err := mountImage(file, at); err != nil {
				return err
			}
			continue
		}
		if space, ok := strings.CutPrefix(o, rootfs.SpaceOption); ok {
			if err := mountSpace(space); err != nil {
				return err
			}
			continue
		}
		switch o {
		case "bind", "rbind":
			flags |= unix.MS_BIND
		case "rw", "private", "rprivate", "idmap": // here the owners are to be those on disk
		default:
			data = append(data, o)
		}
	}
	text := strings.Join(data, ",")
	if len(text) >= os.Getpagesize() {
		return fmt.Errorf("its layers have more names than fit into one mount (%d bytes): start it first", len(text))
	}
	if err := unix.Mount(m.Source, dir, m.Type, flags|unix.MS_NODEV|unix.MS_NOSUID, text); err != nil {
		return fmt.Errorf("mount(%q, %q, %q): %w", m.Source, dir, m.Type, err)
	}
	return nil
}
