package container

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/spelling"
	"github.com/containr/containr/pkg/volume"
)

// Mount is one thing that -v, --mount or --tmpfs asked to see in the container.
type Mount struct {
	// Type is MountBind, MountTmpfs, MountVolume, MountImage or MountDevpts.
	Type string `json:"type"`
	// Source is an absolute path on the host, the name of a volume, the reference
	// of an image; empty for a tmpfs, and for a volume that nobody has named until
	// there is one.
	Source string `json:"source,omitempty"`
	// Target is an absolute, clean path in the container, not /.
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`

	// Propagation is of mount_namespaces(7): rprivate (the default),
	// private, rshared, shared, rslave or slave. For binds only.
	Propagation string `json:"propagation,omitempty"`
	// Recursion says what becomes of mounts below Source: see the constants.
	Recursion string `json:"recursion,omitempty"`
	// CreateSource makes a directory at Source if nothing is there.
	CreateSource bool `json:"createSource,omitempty"`

	// Size in bytes and Mode of a tmpfs; 0 leaves them to the kernel.
	Size int64  `json:"size,omitempty"`
	Mode uint32 `json:"mode,omitempty"`
	// Options are further mount(8) options of a tmpfs, and the attributes of a bind or volume, see bindAttributes.
	Options []string `json:"options,omitempty"`

	// Subpath is what of the volume or image is shown, relative and clean; empty is
	// all of it.
	Subpath string `json:"subpath,omitempty"`
	// NoCopy leaves an empty volume empty: else what the image has at Target is
	// copied into it.
	NoCopy bool `json:"noCopy,omitempty"`
	// Own gives all that is in the volume to the user whom the program runs as.
	Own bool `json:"own,omitempty"`
	// Labels are noted on a volume that is made for this.
	Labels map[string]string `json:"labels,omitempty"`
	// VolumeOptions are those of the driver of a volume that is made for this.
	VolumeOptions map[string]string `json:"volumeOptions,omitempty"`
	// VolumeDriver is who keeps a volume that is made for this, a plugin's name; empty is volume.DriverLocal.
	VolumeDriver string `json:"volumeDriver,omitempty"`
	// Anonymous says that Source is a volume that nobody has named.
	Anonymous bool `json:"anonymous,omitempty"`
	// Chain is the snapshot that an image mount shows; the engine fills it in.
	Chain string `json:"chain,omitempty"`
}

// Types of Mount.
const (
	MountBind  = "bind"
	MountTmpfs = "tmpfs"
	// MountVolume is a volume, see package volume.
	MountVolume = "volume"
	// MountImage is the tree of an image, which cannot be written.
	MountImage = "image"
	// MountDevpts is a file system of pseudo terminals that no other has.
	MountDevpts = "devpts"
)

// Values of Mount.Recursion, as docker's bind-recursive names them.
const (
	// RecursionEnabled shows mounts below the source; a read-only bind makes
	// them read-only too where the kernel can (5.12). It is the default.
	RecursionEnabled = "enabled"
	// RecursionDisabled leaves them out.
	RecursionDisabled = "disabled"
	// RecursionWritable shows them, and leaves them writable in a read-only
	// bind.
	RecursionWritable = "writable"
	// RecursionReadOnly shows them read-only, or fails.
	RecursionReadOnly = "readonly"
)

// IDMapOption shows the files of a bind, in a container with users of its own, with the owners that they have on disk.
const IDMapOption = "idmap"

// bindAttributes are what may be said of programs, set-user-ID bits and devices in a bind or volume, as podman has it.
var bindAttributes = []string{"noexec", "exec", "nosuid", "suid", "nodev", "dev"}

var propagations = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}

// ParseVolume reads one value of -v: [SOURCE:]TARGET[:OPTIONS]. SOURCE is the
// name of a volume, or an absolute path, or one that begins with . and is resolved
// against dir, the current directory (~ is the shell's to expand and is refused).
// Without SOURCE it is a volume without a name. OPTIONS are words with commas
// between them: ro and rw; nocopy and U for a volume; a propagation, bind and rbind for a path; noexec, nosuid, nodev and their contraries;
// and z, Z, cached, delegated and consistent, which mean nothing here and are
// accepted, as is nocopy for a path.
//
// Departure: docker makes a missing SOURCE, a directory owned by root. A missing
// source is more often a typing error, so it is refused here, as with --mount.
func ParseVolume(s, dir string) (Mount, error) {
	parts := strings.Split(s, ":")
	m := Mount{Type: MountBind}
	var options string
	switch len(parts) {
	case 1:
		m.Type, m.Target, m.Anonymous = MountVolume, s, true
	case 3:
		options = parts[2]
		fallthrough
	case 2:
		m.Source, m.Target = parts[0], parts[1]
	default:
		return Mount{}, fmt.Errorf("volume %q: not SOURCE:TARGET[:OPTIONS]", s)
	}
	if isVolumeName(m.Source) {
		m.Type = MountVolume
	} else if m.Type == MountBind {
		if err := m.setSource(dir); err != nil {
			return Mount{}, fmt.Errorf("volume %q: %w", s, err)
		}
	}
	if err := m.cleanTarget(); err != nil {
		return Mount{}, fmt.Errorf("volume %q: %w", s, err)
	}
	if err := m.volumeOptions(options); err != nil {
		return Mount{}, fmt.Errorf("volume %q: %w", s, err)
	}
	return m, nil
}

// isVolumeName reports whether a source is a name and not a path.
func isVolumeName(source string) bool { return volume.ValidateReference(source) == nil }

func (m *Mount) setSource(dir string) error {
	switch {
	case m.Source == "":
		return errors.New("the source is empty")
	case strings.ContainsRune(m.Source, 0):
		return errors.New("the source contains a zero byte")
	case strings.HasPrefix(m.Source, "/"):
		m.Source = path.Clean(m.Source)
	case m.Source == "." || m.Source == ".." || strings.HasPrefix(m.Source, "./") || strings.HasPrefix(m.Source, "../"):
		m.Source = path.Join(dir, m.Source)
	default:
		return fmt.Errorf("source %q is not a path that begins with / or ., nor a name for a volume", m.Source)
	}
	return nil
}

// cleanTarget refuses what cannot be mounted on: a relative path means another
// place depending on the working directory, and / is the root file system.
func (m *Mount) cleanTarget() error {
	switch {
	case !strings.HasPrefix(m.Target, "/"):
		return fmt.Errorf("target %q is not an absolute path", m.Target)
	case strings.ContainsRune(m.Target, 0):
		return errors.New("the target contains a zero byte")
	case path.Clean(m.Target) == "/":
		return errors.New("the target cannot be /")
	}
	m.Target = path.Clean(m.Target)
	return nil
}

func (m *Mount) volumeOptions(options string) error {
	if options == "" {
		return nil
	}
	access := ""
	for o := range strings.SplitSeq(options, ",") {
		switch {
		case o == "ro" || o == "rw":
			if access != "" {
				return errors.New("ro or rw is given twice")
			}
			access, m.ReadOnly = o, o == "ro"
		case slices.Contains(propagations, o):
			if m.Propagation != "" {
				return errors.New("a propagation is given twice")
			}
			m.Propagation = o
		case o == "U":
			m.Own = true
		case o == "nocopy" && m.Type == MountVolume:
			m.NoCopy = true
		case o == IDMapOption:
			m.Options = append(m.Options, o)
		case slices.Contains(bindAttributes, o):
			if slices.Contains(m.Options, tmpfsFlags[o]) {
				return fmt.Errorf("%s and %s are contraries", o, tmpfsFlags[o])
			}
			m.Options = append(m.Options, o)
		case o == "bind" && m.Type == MountBind:
			m.Recursion = RecursionDisabled
		case o == "rbind" && m.Type == MountBind:
			m.Recursion = RecursionEnabled
		case slices.Contains([]string{"z", "Z", "nocopy", "cached", "delegated", "consistent"}, o):
		default:
			return fmt.Errorf("unknown option %q: use ro, rw, nocopy, U, idmap, bind, rbind or one of %s", o, strings.Join(slices.Concat(propagations, bindAttributes), " "))
		}
	}
	return m.checkOptions()
}

// checkOptions refuses what a type of mount does not have.
func (m *Mount) checkOptions() error {
	switch {
	case slices.Contains(m.Options, IDMapOption) && m.Type != MountBind && m.Type != MountVolume:
		return errors.New("the option idmap is for files of the host and for volumes")
	case m.Own && m.Type != MountVolume:
		return errors.New("the option U changes the owners of files, and those of the host are not changed: use a volume")
	case m.Propagation != "" && m.Type != MountBind:
		return errors.New("a propagation belongs to a path of the host: nothing is mounted below a volume")
	}
	return nil
}

// ParseTmpfs reads one value of --tmpfs: TARGET[:OPTIONS], options of tmpfs(5) and
// mount flags with commas between them.
func ParseTmpfs(s string) (Mount, error) {
	target, options, _ := strings.Cut(s, ":")
	m := Mount{Type: MountTmpfs, Target: target}
	if err := m.cleanTarget(); err != nil {
		return Mount{}, fmt.Errorf("tmpfs %q: %w", s, err)
	}
	if options == "" {
		return m, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		if err := validateTmpfsOption(o); err != nil {
			return Mount{}, fmt.Errorf("tmpfs %q: %w", s, err)
		}
		m.Options = append(m.Options, o)
	}
	return m, nil
}

// tmpfsFlags pairs each flag with its contrary, so that a later one replaces an
// earlier one of either kind.
var tmpfsFlags = map[string]string{
	"ro": "rw", "rw": "ro", "suid": "nosuid", "nosuid": "suid", "dev": "nodev",
	"nodev": "dev", "exec": "noexec", "noexec": "exec", "sync": "async",
	"async": "sync", "atime": "noatime", "noatime": "atime",
	"diratime": "nodiratime", "nodiratime": "diratime", "relatime": "norelatime",
	"norelatime": "relatime", "strictatime": "nostrictatime", "nostrictatime": "strictatime",
}

// tmpfsValues are the options of tmpfs(5) that have a value.
var tmpfsValues = []string{"size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "mpol", "huge"}

func validateTmpfsOption(o string) error {
	key, value, hasValue := strings.Cut(o, "=")
	switch {
	case hasValue && value != "" && slices.Contains(tmpfsValues, key):
		return nil
	case !hasValue && tmpfsFlags[key] != "":
		return nil
	}
	return fmt.Errorf("unknown option %q: see tmpfs(5)", o)
}

// ParseMount reads one value of --mount: KEY=VALUE pairs in one line of comma
// separated values (a pair that holds a comma goes in double quotes). dir is the
// current directory.
func ParseMount(s, dir string) (Mount, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return Mount{}, fmt.Errorf("mount %q: not KEY=VALUE pairs with commas between them", s)
	}
	m := Mount{}
	for _, f := range fields {
		key, value, hasValue := strings.Cut(f, "=")
		if err := m.set(strings.ToLower(strings.TrimSpace(key)), value, hasValue); err != nil {
			return Mount{}, fmt.Errorf("mount %q: %w", s, err)
		}
	}
	if err := m.finish(dir); err != nil {
		return Mount{}, fmt.Errorf("mount %q: %w", s, err)
	}
	for _, f := range fields {
		key, _, _ := strings.Cut(f, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if kind := mountKeys[key]; kind != "" && kind != m.Type {
			return Mount{}, fmt.Errorf("mount %q: %s belongs to type=%s", s, key, kind)
		}
	}
	return m, nil
}

// mountKeys say which type each key of --mount belongs to; "" is all of them.
var mountKeys = map[string]string{
	"type": "", "target": "", "dst": "", "destination": "", "readonly": "", "ro": "", "consistency": "",
	"source": "", "src": "", "u": "", "chown": "", "bind-propagation": MountBind,
	"bind-nonrecursive": MountBind, "bind-recursive": MountBind, "bind-create-src": MountBind,
	"tmpfs-size": MountTmpfs, "tmpfs-mode": MountTmpfs,
	"volume-driver": MountVolume, "volume-label": MountVolume, "volume-nocopy": MountVolume,
	"volume-opt": MountVolume, "volume-subpath": MountVolume, "image-subpath": MountImage, IDMapOption: "",
	"uid": MountDevpts, "gid": MountDevpts, "mode": MountDevpts, "max": MountDevpts,
}

// set takes one pair. Keys of another type are refused by finish, where the type
// is known, whatever the order of the pairs.
func (m *Mount) set(key, value string, hasValue bool) (err error) {
	if _, ok := mountKeys[key]; !ok {
		return errUnknownMountKey(key)
	}
	if !hasValue && !slices.Contains([]string{"readonly", "ro", "bind-nonrecursive", "bind-create-src", "volume-nocopy", "u", "chown", IDMapOption}, key) {
		return fmt.Errorf("%s needs a value", key)
	}
	switch key {
	case "type":
		m.Type = strings.ToLower(value)
	case "target", "dst", "destination":
		m.Target = value
	case "source", "src":
		m.Source = value
	case "readonly", "ro":
		m.ReadOnly, err = boolValue(key, value, hasValue)
	case "bind-propagation":
		m.Propagation, err = wordOf(key, strings.ToLower(value), propagations)
	case "bind-recursive":
		words := []string{RecursionEnabled, RecursionDisabled, RecursionWritable, RecursionReadOnly}
		m.Recursion, err = wordOf(key, value, words)
	case "bind-nonrecursive":
		var disabled bool
		if disabled, err = boolValue(key, value, hasValue); disabled {
			m.Recursion = RecursionDisabled
		}
	case "bind-create-src":
		m.CreateSource, err = boolValue(key, value, hasValue)
	case "tmpfs-size":
		m.Size, err = ParseSize(value)
	case "tmpfs-mode":
		m.Mode, err = tmpfsMode(value)
	case "consistency":
		_, err = wordOf(key, value, []string{"default", "consistent", "cached", "delegated"})
	case IDMapOption:
		var on bool
		if on, err = boolValue(key, value, hasValue); on {
			m.Options = append(m.Options, IDMapOption)
		}
	case "uid", "gid", "max":
		if _, err = strconv.ParseUint(value, 10, 31); err != nil {
			return fmt.Errorf("%s=%s: no number of this kind", key, value)
		}
		m.Options = append(m.Options, key+"="+value)
	case "mode":
		if n, badMode := strconv.ParseUint(value, 8, 32); badMode != nil || n > 0o777 {
			return fmt.Errorf("mode=%s: not an octal number from 0 to 777", value)
		}
		m.Options = append(m.Options, key+"="+value)
	case "u", "chown":
		m.Own, err = boolValue(key, value, hasValue)
	case "volume-nocopy":
		m.NoCopy, err = boolValue(key, value, hasValue)
	case "volume-label":
		name, text, _ := strings.Cut(value, "=")
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		m.Labels[name] = text
	case "volume-driver":
		m.VolumeDriver, err = ParseVolumeDriver(value)
	case "volume-opt":
		name, text, _ := strings.Cut(value, "=")
		if m.VolumeOptions == nil {
			m.VolumeOptions = map[string]string{}
		}
		m.VolumeOptions[name] = text
	case "volume-subpath", "image-subpath":
		m.Subpath, err = subpath(key, value)
	}
	return err
}

// subpath reads a path below the top of a volume or image.
func subpath(key, value string) (string, error) {
	clean := path.Clean(value)
	if strings.HasPrefix(value, "/") || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(value, 0) {
		return "", fmt.Errorf("%s=%s: not a path below its top", key, value)
	}
	if clean == "." {
		return "", nil
	}
	return clean, nil
}

func errUnknownMountKey(key string) error {
	var known []string
	for k := range mountKeys {
		known = append(known, k)
	}
	slices.Sort(known)
	if near := spelling.Nearest(key, known); near != "" {
		return fmt.Errorf("unknown key %q: did you mean %s?", key, near)
	}
	return fmt.Errorf("unknown key %q", key)
}

func boolValue(key, value string, hasValue bool) (bool, error) {
	if !hasValue {
		return true, nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%s=%s: not true or false", key, value)
	}
	return b, nil
}

func wordOf(key, value string, words []string) (string, error) {
	if !slices.Contains(words, value) {
		return "", fmt.Errorf("%s=%s: use one of %s", key, value, strings.Join(words, " "))
	}
	return value, nil
}

func tmpfsMode(value string) (uint32, error) {
	n, err := strconv.ParseUint(value, 8, 32)
	if err != nil || n > 0o7777 {
		return 0, fmt.Errorf("tmpfs-mode=%s: not an octal number from 0 to 7777", value)
	}
	return uint32(n), nil
}

// finish checks the pairs of a --mount against each other.
func (m *Mount) finish(dir string) error {
	switch m.Type {
	case MountBind:
		return m.finishBind(dir)
	case MountTmpfs:
		return m.finishTmpfs()
	case "", MountVolume:
		return m.finishVolume()
	case MountImage:
		return m.finishImage()
	case MountDevpts:
		return m.finishDevpts()
	}
	return fmt.Errorf("type %s is not available: use bind, volume, image, tmpfs or devpts", m.Type)
}

func (m *Mount) finishDevpts() error {
	if m.Source != "" || m.ReadOnly {
		return errors.New("a devpts has no source, and is not read-only")
	}
	if err := m.checkOptions(); err != nil {
		return err
	}
	return m.cleanTarget()
}

// ParseVolumeDriver reads who is to keep volumes: local, or the name of a plugin.
func ParseVolumeDriver(s string) (string, error) {
	if !spelling.IsName(s, 128) {
		return "", fmt.Errorf("%q is not local, and no name of a volume plugin", s)
	}
	return s, nil
}

func (m *Mount) finishVolume() error {
	switch {
	case m.Type == "" && m.Source != "" && strings.ContainsAny(m.Source[:1], "./"):
		return errors.New("a source that is a path needs type=bind")
	case m.Size != 0 || m.Mode != 0:
		return errors.New("tmpfs-size and tmpfs-mode belong to type=tmpfs")
	}
	m.Type, m.Anonymous = MountVolume, m.Source == ""
	kept := volume.Volume{Driver: m.VolumeDriver, Options: m.VolumeOptions}
	if err := kept.CheckOptions(); err != nil {
		return fmt.Errorf("volume-opt: %w", err)
	}
	if err := m.checkOptions(); err != nil {
		return err
	}
	if !m.Anonymous {
		if err := volume.ValidateReference(m.Source); err != nil {
			return err
		}
	}
	return m.cleanTarget()
}

func (m *Mount) finishImage() error {
	if m.Source == "" {
		return errors.New("source=IMAGE is missing")
	}
	m.ReadOnly = true
	if err := m.checkOptions(); err != nil {
		return err
	}
	return m.cleanTarget()
}

func (m *Mount) finishBind(dir string) error {
	if err := m.checkOptions(); err != nil {
		return err
	}
	if m.Size != 0 || m.Mode != 0 {
		return errors.New("tmpfs-size and tmpfs-mode belong to type=tmpfs")
	}
	if m.Recursion == RecursionReadOnly && !m.ReadOnly {
		return errors.New("bind-recursive=readonly needs readonly")
	}
	if m.Recursion == RecursionReadOnly && m.Propagation != "rprivate" {
		return errors.New("bind-recursive=readonly needs bind-propagation=rprivate")
	}
	if m.Recursion == RecursionWritable && !m.ReadOnly {
		return errors.New("bind-recursive=writable needs readonly")
	}
	if err := m.setSource(dir); err != nil {
		return err
	}
	return m.cleanTarget()
}

func (m *Mount) finishTmpfs() error {
	if m.Source != "" {
		return errors.New("a tmpfs has no source")
	}
	if m.Propagation != "" || m.Recursion != "" || m.CreateSource {
		return errors.New("the bind- keys belong to type=bind")
	}
	if err := m.checkOptions(); err != nil {
		return err
	}
	return m.cleanTarget()
}
