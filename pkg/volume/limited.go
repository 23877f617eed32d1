package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
)

// A volume with a limit is a file with a file system of that size in it. The kernel reads a file as a block device through a
// loop device, loop(4), and one with LO_FLAGS_AUTOCLEAR lets go of its file when nobody has it open or mounted any more. So
// nothing is counted here either: who starts a container has the device open until the plan has mounted it, and from then on
// the container's mount namespace keeps it. Whatever is killed, the kernel takes device and mount away with the last of those.
//
// Two loop devices of one file would be two file systems in the same blocks, which destroy each other. So all that attach
// the file hold its lock, and take the device that it has if there is one.

// Image is the path of a file with a file system, which a volume with a limit has its content in.
type Image string

// imageSystem is the file system that is made in images: one that keeps its promises after a power failure, and whose program
// is on every Debian.
const imageSystem = "ext4"

// MinSize is the least size of a volume with a limit, in bytes: less has no room for the file system itself.
const MinSize = 1 << 20

// parseLimited reads the options of a volume with a size.
func parseLimited(size string, options map[string]string) (Place, error) {
	for _, key := range []string{OptionType, OptionDevice, OptionWords} {
		if value, ok := options[key]; ok {
			return Place{}, optionErrorf("option size=%s: only of a volume that is kept here, without %s=%s; a tmpfs has o=size=%s", size, key, value, size)
		}
	}
	bytes, err := parseSize(size)
	if err != nil {
		return Place{}, optionErrorf("option size=%s: %v", size, err)
	}
	return Place{Type: PlaceImage, Size: bytes}, nil
}

// parseSize reads a number of bytes with a suffix k, m, g or t of powers of 1024, as docker does.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(s), "kmgtib")
	shift, ok := map[string]int{"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(s[len(digits):]), "b"), "i")]
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil || !ok || n < 0:
		return 0, errors.New("name a number of bytes, or one with k, m, g or t")
	case n > math.MaxInt64>>shift:
		return 0, errors.New("so many bytes there are not")
	case n<<shift < MinSize:
		return 0, fmt.Errorf("at least %dm", MinSize>>20)
	}
	return n << shift, nil
}

// checkImages says why no volume can be limited here.
func checkImages(root bool) error {
	if !root {
		return optionErrorf("size: a limit is a file system in a file, and the kernel lets only root mount it")
	}
	if err := (Place{Type: imageSystem}).CheckHost(root); err != nil {
		return err
	}
	if _, err := os.Stat(loopControl); err != nil {
		return optionErrorf("size: a limit is a file system in a file: %v: `modprobe loop` may help", err)
	}
	_, err := mkfs()
	return err
}

// mkfs finds the program that makes file systems.
func mkfs() (string, error) {
	const name = "mkfs." + imageSystem
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		path := filepath.Join(dir, name)
		if filepath.IsAbs(path) && unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", optionErrorf("size: a limit is a file system in a file, and the program %s is not installed: `apt-get install e2fsprogs`", name)
}

// CheckImages says why this machine makes no images for root, nil if it does.
func CheckImages() error { return checkImages(true) }

// Make makes the file, with a file system of so many bytes and what fill puts into it; then nothing has it open. The blocks of
// the file are those that were written: it takes on disk what it holds.
func (i Image) Make(ctx context.Context, size int64, fill func(dir string) error) error {
	program, err := mkfs()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(string(i), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(size), f.Close())
	if errors.Is(err, unix.EFBIG) {
		return optionErrorf("size: the file system that has the volumes can have no file of %d bytes: choose a smaller size, or another disk with --root", size)
	}
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "-q", "-F", "-m", "0", "-E", "root_owner=0:0", string(i))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &said, &said, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if err := cmd.Run(); err != nil {
		if full(said.String()) {
			return fmt.Errorf("make a file system of %d bytes: the disk that has the volumes has no room for its tables: %w", size, unix.ENOSPC)
		}
		return fmt.Errorf("make a file system of %d bytes: %s: %w: %s", size, program, err, firstLine(said.Bytes()))
	}
	dir, free, err := i.Open(false)
	if err != nil {
		return err
	}
	err = os.Remove(filepath.Join(dir, lostFound))
	if err == nil && fill != nil {
		err = fill(dir)
	}
	if err == nil {
		err = syncTree(dir)
	}
	if err = errors.Join(err, free()); err != nil {
		return err
	}
	return syncFile(string(i))
}

// full reports whether what mkfs said means that the disk is full: it names no error of the kernel's for a write that was cut short.
func full(said string) bool {
	return strings.Contains(said, "short write") || strings.Contains(said, unix.ENOSPC.Error()) || strings.Contains(said, "No space left on device")
}

// syncFile flushes a file.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// lostFound is what mkfs.ext4 makes for fsck.ext4, which makes it anew when it needs one. Containers see an empty volume.
const lostFound = "lost+found"

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text[:min(len(text), 300)])), "\n")
	return line
}

// Open makes the content reachable as Place.Open does, for reading alone or for writing too.
func (i Image) Open(reading bool) (dir string, close func() error, err error) {
	none := func() error { return nil }
	device, err := i.Attach(context.Background())
	if err != nil {
		return "", none, err
	}
	defer device.Close() // from then on the mount keeps it
	attribute := 0
	if reading {
		attribute = unix.MOUNT_ATTR_RDONLY
	}
	place := Place{Type: imageSystem, Device: device.Name(), Words: imageWords}
	fd, err := place.mount(attribute)
	if err != nil {
		return "", none, fmt.Errorf("mount %s by %s: %w", i, device.Name(), err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/.", fd), func() error { return unix.Close(fd) }, nil
}

// imageWords are the options that the file system is mounted with: blocks of files that are removed are given back to the host,
// and devices in it are none.
var imageWords = []string{"nodev", "discard"}

// Mount is what mounts the image's device: the type and options of the file system.
func (i Image) Mount() (fsType string, words []string) { return imageSystem, slices.Clone(imageWords) }

// Limit is how many bytes files can take in the file system, and Used how many they do.
type Limit struct{ Bytes, Used int64 }

// measure asks the file system.
func (i Image) measure() (Limit, error) {
	dir, free, err := i.Open(true)
	if err != nil {
		return Limit{}, err
	}
	var st unix.Statfs_t
	err = unix.Statfs(dir, &st)
	if err != nil {
		err = &fs.PathError{Op: "statfs", Path: string(i), Err: err}
	}
	block := int64(st.Bsize)
	return Limit{int64(st.Blocks) * block, int64(st.Blocks-st.Bfree) * block}, errors.Join(err, free())
}

// isEmpty reports whether there is nothing in it.
func (i Image) isEmpty() (bool, error) {
	dir, free, err := i.Open(true)
	if err != nil {
		return false, err
	}
	empty, err := isEmpty(dir)
	return empty, errors.Join(err, free())
}

const loopControl = "/dev/loop-control"

// ErrLimited means that something other than a container was to change what a volume with a size holds.
var ErrLimited = errors.New("the volume has a size, and containers alone write to it")

// ErrNoLoop means that the kernel has no loop device left, or will not attach a file to it.
var ErrNoLoop = errors.New("no loop device for a volume with a limit")

// Attach opens the loop device of the file, and attaches the file to one if it has none. The device stays attached as long as
// it is open or mounted.
func (i Image) Attach(ctx context.Context) (*os.File, error) {
	lock, err := durable.AcquireExisting(ctx, string(i), durable.Exclusive)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	device, err := i.attached()
	if err != nil || device != nil {
		return device, err
	}
	file, err := os.OpenFile(string(i), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	const tries = 64 // others take the device that we were told is free
	for range tries {
		if device, err = attachToFree(file); err == nil {
			return device, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	return nil, fmt.Errorf("%s: %w: %w", i, ErrNoLoop, err)
}

// attachToFree attaches a file to a device that has none; EBUSY if somebody was faster.
func attachToFree(file *os.File) (*os.File, error) {
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, os.NewSyscallError("ioctl LOOP_CTL_GET_FREE", err)
	}
	device, err := openLoop("/dev/loop" + strconv.Itoa(number))
	if err != nil {
		return nil, err
	}
	info := unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}
	copy(info.File_name[:len(info.File_name)-1], file.Name())
	fd := int(device.Fd())
	err = unix.IoctlLoopConfigure(fd, &unix.LoopConfig{Fd: uint32(file.Fd()), Info: info})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) { // before Linux 5.8 it takes two steps
		if err = unix.IoctlSetInt(fd, unix.LOOP_SET_FD, int(file.Fd())); err == nil {
			if err = unix.IoctlLoopSetStatus64(fd, &info); err != nil {
				err = errors.Join(err, unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0))
			}
		}
	}
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("ioctl LOOP_CONFIGURE", err), device.Close())
	}
	return device, nil
}

// openLoop opens a device.
func openLoop(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
}

// attached opens the device that a file is attached to, nil if there is none.
func (i Image) attached() (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Stat(string(i), &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: string(i), Err: err}
	}
	list, err := filepath.Glob("/sys/block/loop*/loop/backing_file") // those that have a file
	if err != nil {
		return nil, err
	}
	for _, path := range list {
		// Its directory may have another path where it was attached. Devices with other files are not opened: that keeps them.
		if text, err := os.ReadFile(path); err == nil && filepath.Base(strings.TrimSuffix(string(text), "\n")) != filepath.Base(string(i)) {
			continue
		}
		name := filepath.Base(filepath.Dir(filepath.Dir(path)))
		device, err := openLoop("/dev/" + name)
		if errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist) { // it is being taken away
			continue
		}
		if err != nil {
			return nil, err
		}
		info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
		if err == nil && info.Inode == st.Ino && info.Device == encodeDevice(uint64(st.Dev)) {
			return device, nil
		}
		if err = errors.Join(ignoreENXIO(err), device.Close()); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// encodeDevice is the number of a device as loop(4) tells it: that of the kernel, huge_encode_dev.
func encodeDevice(dev uint64) uint64 {
	major, minor := uint64(unix.Major(dev)), uint64(unix.Minor(dev))
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// ignoreENXIO is nil for a device that has lost its file meanwhile.
func ignoreENXIO(err error) error {
	if errors.Is(err, unix.ENXIO) {
		return nil
	}
	return err
}

// imageFile is the file of a volume with a limit.
const imageFile = "image"

// Image is where the content of a volume with a limit is.
func (s *Store) Image(name string) Image { return Image(s.path(name, imageFile)) }

// PlaceOf says where the content of a volume is, with the path of its image if it has one.
func (s *Store) PlaceOf(v Volume) (Place, error) {
	place, err := v.Place()
	if place.Limited() {
		place.Device = string(s.Image(v.Name))
	}
	return place, err
}

// Measure says how much a volume with a limit may hold and does. Others have no limit.
func (s *Store) Measure(v Volume) (Limit, error) {
	place, err := s.PlaceOf(v)
	if err != nil || !place.Limited() {
		return Limit{}, err
	}
	limit, err := Image(place.Device).measure()
	if err != nil {
		err = fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return limit, err
}

// exchangeImage puts another image in the place of that of a volume which nobody has mounted, and whose lock is held alone.
func (s *Store) exchangeImage(ctx context.Context, name string, size int64, fill func(dir string) error) error {
	staging, err := s.fillDir(name)
	if err == nil {
		err = Image(staging).Make(ctx, size, fill)
	}
	if err == nil {
		err = os.Rename(staging, string(s.Image(name)))
	}
	if err != nil {
		return errors.Join(err, safepath.RemoveAll(staging))
	}
	return durable.SyncDir(s.path(name))
}

// fillImage puts content into an image that is empty; the volume's lock is held alone, and nobody has it mounted.
func (s *Store) fillImage(ctx context.Context, name string, size int64, fill func(dir string) error) (bool, error) {
	empty, err := s.Image(name).isEmpty()
	if err == nil && empty {
		err = s.exchangeImage(ctx, name, size, fill)
	}
	if err != nil {
		return false, fmt.Errorf("volume %s: %w", name, err)
	}
	return empty, nil
}

// Taken is the directory that is on disk for a volume's content.
func (s *Store) Taken(v Volume) string {
	if place, err := v.Place(); err == nil && place.Limited() {
		return s.path(v.Name)
	}
	return s.Path(v.Name)
}
