package volume

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/spelling"
)

// Options of the driver local, in docker's words.
const (
	OptionType   = "type"
	OptionDevice = "device"
	OptionWords  = "o"
	// OptionSize is how large what a volume holds may become, for one whose content is here.
	OptionSize = "size"
)

// Types of Place that are no file system of a block device.
const (
	PlaceBind    = "bind"
	PlaceTmpfs   = "tmpfs"
	PlaceOverlay = "overlay"
	// PlaceImage is a file system in a file beside the volume's record: see Image.
	PlaceImage = "image"
	// PlacePlugin is what a plugin keeps, and mounts on the host when a container needs it.
	PlacePlugin = "volume of a plugin"
)

// Errors of volumes whose content is elsewhere.
var (
	// ErrOptions means that the driver local does not take the options.
	ErrOptions = errors.New("no options for a volume")
	// ErrElsewhere means that a verb needs content that is kept here.
	ErrElsewhere = errors.New("what the volume holds is not kept here")
)

// Place is where the content of a volume is that has options: not in its directory here. Nothing of it is ever mounted on the
// host, and nothing removed with the volume.
type Place struct {
	// Type is empty for a volume whose content is here, one of the constants, or the kernel's name of a file system.
	Type string
	// Device is the host's directory, the block device, or what a file system without one is called in lists of mounts.
	Device string
	// Words are the options of mount(8), of attributes and of the file system, without bind.
	Words []string
	// Size is how many bytes the file system of an image has; 0 for all others.
	Size int64
}

// Here reports whether the content is in the volume's own directory.
func (p Place) Here() bool { return p.Type == "" }

// Limited reports whether the content is here, in a file system of its own that can become only so large.
func (p Place) Limited() bool { return p.Type == PlaceImage }

// OfDevice reports whether it is a file system on a block device.
func (p Place) OfDevice() bool {
	return !p.Here() && p.Type != PlaceBind && p.Type != PlacePlugin && !p.Limited() && !p.Alone()
}

// Alone reports whether each mount of it would be another file system: then it is there as long as a container that has it
// runs, and the next ones are shown that container's mount.
func (p Place) Alone() bool { return p.Type == PlaceTmpfs || p.Type == PlaceOverlay }

// OfPlugin reports whether a plugin keeps the volume, which has the driver's name.
func (v Volume) OfPlugin() bool { return v.Driver != "" && v.Driver != DriverLocal }

// Place says where the content of the volume is.
func (v Volume) Place() (Place, error) {
	if v.OfPlugin() {
		return Place{Type: PlacePlugin}, nil
	}
	p, err := ParseOptions(v.Options)
	if err != nil {
		err = fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return p, err
}

// CheckOptions refuses options that the driver local does not take. Those of a plugin are its own.
func (v Volume) CheckOptions() error {
	if v.OfPlugin() {
		return nil
	}
	_, err := ParseOptions(v.Options)
	return err
}

// optionError says what is wrong with options.
type optionError struct{ text string }

func (e *optionError) Error() string { return e.text }
func (e *optionError) Unwrap() error { return ErrOptions }

func optionErrorf(format string, args ...any) error {
	return &optionError{fmt.Sprintf(format, args...)}
}

// ParseOptions reads the options of the driver local. What is wrong with them is ErrOptions. Nothing of the host is looked at.
func ParseOptions(options map[string]string) (Place, error) {
	known := []string{OptionType, OptionDevice, OptionWords, OptionSize}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if slices.Contains(known, key) {
			continue
		}
		if near := spelling.Nearest(key, known); near != "" {
			return Place{}, optionErrorf("option %s=%s: did you mean %s?", key, options[key], near)
		}
		return Place{}, optionErrorf("option %s=%s: the driver %s has %s", key, options[key], DriverLocal, strings.Join(known, ", "))
	}
	if len(options) == 0 {
		return Place{}, nil
	}
	if size, ok := options[OptionSize]; ok {
		return parseLimited(size, options)
	}
	p := Place{Type: options[OptionType], Device: options[OptionDevice]}
	bind := ""
	for w := range strings.SplitSeq(options[OptionWords], ",") {
		switch {
		case w == "bind" || w == "rbind":
			bind = w
		case w != "":
			p.Words = append(p.Words, w)
		}
	}
	if p.Type == "none" || p.Type == PlaceBind {
		p.Type, bind = PlaceBind, cmp.Or(bind, noBind(p.Type))
	}
	switch {
	case p.Type == "":
		return Place{}, optionErrorf("option type is missing: none with o=bind, tmpfs, or the file system on a device")
	case p.Type != PlaceBind && bind != "":
		return Place{}, optionErrorf("o=%s: a directory of the host has type=none", bind)
	case bind == "" && p.Type == PlaceBind:
		return Place{}, optionErrorf("type=none: a directory of the host needs o=bind")
	}
	if bind != "" {
		p.Words = append([]string{bind}, p.Words...)
	}
	return p, p.check()
}

// noBind is what type=bind means without o=bind; type=none means nothing without it.
func noBind(kind string) string {
	if kind == PlaceBind {
		return "bind"
	}
	return ""
}

// check refuses devices and words that a type does not have.
func (p *Place) check() error {
	if strings.ContainsRune(p.Device+strings.Join(p.Words, "")+p.Type, 0) {
		return optionErrorf("an option contains a zero byte")
	}
	switch p.Type {
	case PlaceTmpfs, PlaceOverlay:
		p.Device = cmp.Or(p.Device, p.Type)
	case PlaceBind:
		if !path.IsAbs(p.Device) {
			return optionErrorf("device=%s: name a directory of the host, from / on", p.Device)
		}
		p.Device = path.Clean(p.Device)
	default:
		if strings.ContainsAny(p.Type, "/ .") {
			return optionErrorf("type=%s: not the name of a file system", p.Type)
		}
		if !networked[p.Type] && !path.IsAbs(p.Device) {
			return optionErrorf("device=%s: name the block device with the %s, from / on", p.Device, p.Type)
		}
	}
	for _, w := range p.Words {
		if err := p.checkWord(w); err != nil {
			return err
		}
	}
	return nil
}

// Attributes are the words that say something of a mount, whatever file system it is of.
var Attributes = []string{"ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "atime", "nodiratime", "diratime",
	"relatime", "norelatime", "strictatime", "nostrictatime", "nosymfollow", "symfollow"}

// propagations may be said of a directory of the host.
var propagations = []string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}

// tmpfsKeys are the options of tmpfs(5) that have a value.
var tmpfsKeys = []string{"size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "mpol", "huge"}

// notOfAVolume are words that mean something else than an option of a file system.
var notOfAVolume = []string{"remount", "idmap", "ridmap", "tmpcopyup", "move", "unbindable", "runbindable"}

func (p *Place) checkWord(w string) error {
	key, value, has := strings.Cut(w, "=")
	switch {
	case slices.Contains(Attributes, w):
		return nil
	case w == "loop" || key == "loop":
		return optionErrorf("o=%s: containr makes no loop device: `losetup --find --show FILE` does, and its name goes to device", w)
	case p.Type == PlaceBind && (w == "bind" || w == "rbind" || slices.Contains(propagations, w)):
		return nil
	case p.Type == PlaceTmpfs && has && value != "" && slices.Contains(tmpfsKeys, key):
		return nil
	case p.Type == PlaceBind:
		return optionErrorf("o=%s: a directory of the host has attributes and propagations alone: mount(8)", w)
	case p.Type == PlaceTmpfs:
		return optionErrorf("o=%s: see tmpfs(5)", w)
	case slices.Contains(notOfAVolume, w), slices.Contains(propagations, w), strings.HasPrefix(key, "containr"), strings.HasPrefix(key, "idmap"), strings.HasPrefix(key, "ridmap"):
		return optionErrorf("o=%s: not an option of a volume", w)
	}
	return nil // the file system's own: the kernel says what it thinks of it
}

// networked are file systems that are reached through the network namespace of who mounts them: a container's, for the mounts
// of its plan.
var networked = map[string]bool{"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "ceph": true, "9p": true, "afs": true}

// CheckHost refuses what cannot be had on this machine, with the reason: a file system that the kernel has not, one that has
// no device, one of the network. The device need not be there yet. root says that the kernel lets us mount file systems of devices.
func (p Place) CheckHost(root bool) error {
	if p.Here() || p.Type == PlaceBind || p.Type == PlaceTmpfs || p.Type == PlacePlugin {
		return nil
	}
	if p.Limited() {
		return checkImages(root)
	}
	if !root {
		return optionErrorf("type=%s: the kernel lets only root mount it", p.Type)
	}
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return os.NewSyscallError("uname", err)
	}
	modules, _ := os.ReadFile("/lib/modules/" + unix.ByteSliceToString(name.Release[:]) + "/modules.dep") // without it there is no module
	if problem := p.problem(string(known), string(modules)); problem != "" {
		return optionErrorf("type=%s: %s", p.Type, problem)
	}
	return nil
}

// problem is why a file system cannot be a volume, by the texts of /proc/filesystems and modules.dep; empty if it can.
func (p Place) problem(known, modules string) string {
	there, nodev := strings.Contains(modules, "/"+p.Type+".ko"), false
	for line := range strings.Lines(known) {
		if kind, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); name == p.Type {
			there, nodev = true, kind == "nodev"
		}
	}
	switch {
	case !there:
		return "this kernel has no such file system, and no module of it is installed"
	case networked[p.Type]:
		return "it would be reached through the network of each container: mount it on the host, and make a volume of that with type=none,o=bind"
	case nodev && p.Type != PlaceOverlay:
		return "it is not on a device: mount it on the host, and make a volume of that with type=none,o=bind"
	}
	return ""
}

// Open makes what a place holds reachable by a path of this process, until close is called or the process ends: then nothing
// is left, for what is mounted for it has no place in any tree. Of what each container would have another one of, ErrElsewhere.
func (p Place) Open() (dir string, close func() error, err error) {
	none := func() error { return nil }
	switch {
	case p.Type == PlaceBind:
		return p.Device, none, p.CheckDevice()
	case p.Limited():
		return Image(p.Device).Open(true)
	case !p.OfDevice():
		return "", none, fmt.Errorf("it is a %s, which only containers that run with it see: %w", p.Type, ErrElsewhere)
	}
	if err := p.CheckDevice(); err != nil {
		return "", none, err
	}
	fd, err := p.mount(unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return "", none, fmt.Errorf("mount the %s of %s: %w", p.Type, p.Device, err)
	}
	// With the dot it is no link any more, but the directory.
	return fmt.Sprintf("/proc/self/fd/%d/.", fd), func() error { return unix.Close(fd) }, nil
}

// CheckDevice refuses a directory or device that is not there, or is something else.
func (p Place) CheckDevice() error {
	if p.Here() || p.Alone() || p.Type == PlacePlugin {
		return nil
	}
	info, err := os.Stat(p.Device)
	switch {
	case err != nil:
		return err
	case p.Type == PlaceBind && !info.IsDir():
		return fmt.Errorf("%s: %w", p.Device, unix.ENOTDIR)
	case p.Limited() && info.Mode().IsRegular():
		return nil
	case p.Type == PlaceBind || info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0:
		return nil
	}
	return fmt.Errorf("%s: %w: `losetup --find --show` makes one of a file", p.Device, unix.ENOTBLK)
}

// mount makes a mount of a device's file system that is attached to nothing, with an attribute of mount_setattr(2) more than
// those that keep what is there from being run. The parameters are those that the
// plan of a container has: another mount of the same device is the same file system for the kernel.
func (p Place) mount(attribute int) (int, error) {
	fs, err := unix.Fsopen(p.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", p.Device); err != nil {
		return -1, os.NewSyscallError("fsconfig source", err)
	}
	for _, w := range p.Words {
		if slices.Contains(Attributes, w) {
			continue
		}
		key, value, has := strings.Cut(w, "=")
		if has {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return -1, os.NewSyscallError("fsconfig "+w, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, os.NewSyscallError("fsconfig create", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attribute|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsmount", err)
	}
	return fd, nil
}
