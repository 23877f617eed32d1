package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/snapshot"
)

// MountedImage is an image whose tree can be looked at on the host.
type MountedImage struct {
	ID    digest.Digest    // of its configuration
	Name  string           // that it was mounted by
	Chain snapshot.ChainID // of its layers
	// Dir is where the tree is. It may not be there: if the machine was restarted, or the one who mounted it was killed.
	Dir string `json:"-"`
	// Mounted says whether it is.
	Mounted bool `json:"-"`
}

// mountsDir holds a directory for each mounted image, ID/tree to mount on and ID/mount.json. The record is written before
// the mount is made and removed after it is gone, so that no mount is without one.
func (e *Engine) mountsDir() string { return filepath.Join(e.root, "mounts") }

const (
	mountRecord = "mount.json"
	mountPoint  = "tree"
)

// MountImage mounts the tree of an image, read only, and returns where. An image that is mounted already is left so.
func (e *Engine) MountImage(ctx context.Context, r InspectRequest) (MountedImage, error) {
	none := MountedImage{}
	facts, err := e.facts()
	if err != nil {
		return none, err
	}
	if !facts.Root() {
		return none, fmt.Errorf("mount image %s: %w", r.Name, errMountNeedsRoot)
	}
	img, err := e.InspectImage(ctx, r)
	if err != nil {
		return none, err
	}
	lock, err := e.lockMounts(ctx)
	if err != nil {
		return none, err
	}
	defer lock.Release()
	dir := filepath.Join(e.mountsDir(), img.ConfigDigest.Encoded())
	m := MountedImage{ID: img.ConfigDigest, Name: img.Name, Chain: chainOf(img), Dir: filepath.Join(dir, mountPoint), Mounted: true}
	if mounted, err := isMountPoint(m.Dir); err != nil || mounted {
		return m, err
	}
	if err := writeMountRecord(dir, m); err != nil {
		return none, err
	}
	if err := e.mountTree(ctx, img, m.Dir); err != nil {
		return none, errors.Join(fmt.Errorf("mount image %s: %w", r.Name, err), os.RemoveAll(dir))
	}
	return m, nil
}

// errMountNeedsRoot is the answer to an ordinary user.
var errMountNeedsRoot = errors.New("only root may mount on the host; `containr image export` writes the tree to an archive, `containr image unpack` to a directory")

// lockMounts takes the lock of all mounted images.
func (e *Engine) lockMounts(ctx context.Context) (*durable.Lock, error) {
	if err := os.MkdirAll(e.mountsDir(), 0o700); err != nil {
		return nil, err
	}
	return durable.Acquire(ctx, filepath.Join(e.mountsDir(), "lock"), durable.Exclusive)
}

func writeMountRecord(dir string, m MountedImage) error {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, mountRecord), data, durable.Options{Mode: 0o600})
}

// mountTree unpacks an image, and mounts its tree. The record, which is there, keeps the layers.
func (e *Engine) mountTree(ctx context.Context, img *image.Image, dir string) error {
	images, err := e.images()
	if err != nil {
		return err
	}
	snapshots, err := e.snapshots()
	if err != nil {
		return err
	}
	chain, err := e.unpackStored(ctx, snapshots, images, img)
	if err != nil {
		return err
	}
	chosen, err := e.Snapshotter()
	if err != nil {
		return err
	}
	mounts, err := snapshots.With(snapshot.Driver(chosen.Name)).View(ctx, chain)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if err := doMount(m, dir); err != nil {
			return err
		}
	}
	return nil
}

// doMount makes a read-only mount. The names of long chains are relative to a directory: a thread of our own goes there,
// and ends.
func doMount(m snapshot.Mount, dir string) error {
	done := make(chan error)
	go func() {
		goruntime.LockOSThread() // never unlocked
		err := unix.Unshare(unix.CLONE_FS)
		switch {
		case err != nil:
		case len(m.Images) > 0:
			err = mountStack(m, dir)
		case m.Dir != "":
			if err = unix.Chdir(m.Dir); err == nil {
				err = mountNow(m, dir)
			}
		default:
			err = mountNow(m, dir)
		}
		done <- err
	}()
	return <-done
}

// mountImage mounts a layer that is kept as an image at its place, in a mount namespace of the calling thread's own.
func mountImage(file, dir string) error {
	if err := unix.Mount(file, dir, snapshot.ErofsType, unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		return fmt.Errorf("%w: mount(%q): %w", snapshot.ErrNoErofs, file, err)
	}
	return nil
}

// mountStack makes an overlay of layers that are images. Those have their places in a mount namespace of this thread's own,
// so that nothing is on the host but the overlay, which comes back from there as a mount that is attached nowhere.
func mountStack(m snapshot.Mount, dir string) error {
	host, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	defer host.Close()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	for _, i := range m.Images {
		if err := mountImage(i.File, i.Dir); err != nil {
			return err
		}
	}
	if m.Dir != "" {
		if err := unix.Chdir(m.Dir); err != nil {
			return err
		}
	}
	if err := mountNow(m, dir); err != nil {
		return err
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: dir, Err: err}
	}
	defer unix.Close(tree)
	if err := unix.Setns(int(host.Fd()), unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("setns", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: dir, Err: err}
	}
	return nil
}

func mountNow(m snapshot.Mount, dir string) error {
	flags := uintptr(unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID)
	var data []string
	stacked := m.Type != "overlay"
	for _, o := range m.Options {
		switch o {
		case "bind":
			flags |= unix.MS_BIND
		case "ro", "rw":
		default:
			stacked = stacked || strings.HasPrefix(o, "lowerdir=")
			data = append(data, o)
		}
	}
	if !stacked {
		return fmt.Errorf("its %d layers are more than fit into the options of one mount", len(m.Lower))
	}
	if err := unix.Mount(m.Source, dir, m.Type, flags, strings.Join(data, ",")); err != nil {
		return fmt.Errorf("mount(%q, %q, %q): %w", m.Source, dir, m.Type, err)
	}
	if flags&unix.MS_BIND == 0 {
		return nil
	}
	if err := unix.Mount("", dir, "", flags|unix.MS_REMOUNT, ""); err != nil { // a bind alone is not read only
		return errors.Join(fmt.Errorf("remount %q read only: %w", dir, err), unix.Unmount(dir, unix.MNT_DETACH))
	}
	return nil
}

// isMountPoint reports whether something is mounted on a directory.
func isMountPoint(dir string) (bool, error) {
	var here, above unix.Statx_t
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	err := unix.Statx(unix.AT_FDCWD, dir, flags, unix.STATX_INO, &here)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "statx", Path: dir, Err: err}
	}
	if here.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return here.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	if err := unix.Statx(unix.AT_FDCWD, filepath.Dir(dir), flags, unix.STATX_INO, &above); err != nil {
		return false, &os.PathError{Op: "statx", Path: filepath.Dir(dir), Err: err}
	}
	return here.Dev_major != above.Dev_major || here.Dev_minor != above.Dev_minor, nil
}

// MountedImages lists the images that are mounted, and those whose mount did not come about or is gone.
func (e *Engine) MountedImages() ([]MountedImage, error) {
	entries, err := os.ReadDir(e.mountsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []MountedImage
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		m, err := e.readMount(entry.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// readMount reads what is known of a mount. A record that was never finished has no name.
func (e *Engine) readMount(id string) (MountedImage, error) {
	dir := filepath.Join(e.mountsDir(), id)
	m := MountedImage{}
	data, err := os.ReadFile(filepath.Join(dir, mountRecord))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("mounted image %s: %w", id, err)
	}
	m.ID, m.Dir = digest.NewDigestFromEncoded(digest.SHA256, id), filepath.Join(dir, mountPoint)
	m.Mounted, err = isMountPoint(m.Dir)
	return m, err
}

// ErrNotMounted says that an image that was to be unmounted is not mounted.
var ErrNotMounted = errors.New("image is not mounted")

// UnmountImage takes away the mount of an image, which may be gone from the store, and returns it. name is a name that it
// was mounted by, a reference, or an id.
func (e *Engine) UnmountImage(ctx context.Context, name string) (MountedImage, error) {
	lock, err := e.lockMounts(ctx)
	if err != nil {
		return MountedImage{}, err
	}
	defer lock.Release()
	all, err := e.MountedImages()
	if err != nil {
		return MountedImage{}, err
	}
	var id digest.Digest
	full := name
	if ref, err := image.ParseReference(name); err == nil {
		full = ref.String()
	}
	if img, err := e.InspectImage(ctx, InspectRequest{Name: name}); err == nil {
		id = img.ConfigDigest
	}
	const shortest = 6 // digits of an id that stand for an image which is gone
	for _, m := range all {
		if m.ID == id || m.Name == full || len(name) >= shortest && strings.HasPrefix(m.ID.Encoded(), strings.TrimPrefix(name, "sha256:")) {
			return m, errors.Join(e.unmount(m), e.collectSnapshots(ctx)) // its image may be gone
		}
	}
	return MountedImage{}, fmt.Errorf("image %s: %w", name, ErrNotMounted)
}

// UnmountImages takes away all mounts.
func (e *Engine) UnmountImages(ctx context.Context) ([]MountedImage, error) {
	lock, err := e.lockMounts(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	all, err := e.MountedImages()
	if err != nil {
		return nil, err
	}
	for i, m := range all {
		if err := e.unmount(m); err != nil {
			return all[:i], err
		}
	}
	return all, e.collectSnapshots(ctx)
}

// unmount takes away a mount and then its record. Someone's working directory may be in it: that is an error.
func (e *Engine) unmount(m MountedImage) error {
	if m.Mounted {
		if err := unix.Unmount(m.Dir, unix.UMOUNT_NOFOLLOW); err != nil {
			return &os.PathError{Op: "umount", Path: m.Dir, Err: err}
		}
	}
	dir := filepath.Dir(m.Dir)
	if err := os.Remove(m.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}
