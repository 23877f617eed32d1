package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/snapshot"
)

// Kinds of places, see Whereabouts.
const (
	OnLayer   = "layer"       // the container's own layer
	OnImage   = "image layer" // a layer of its image
	OnRootfs  = "directory"   // the directory of --rootfs
	OnVolume  = "volume"
	OnBind    = "bind"
	OnTmpfs   = "tmpfs"
	OnPicture = "image"  // an image that was mounted
	OnFile    = "file"   // a file that containr made for the container, such as /etc/hosts
	OnSecret  = "secret" // the file system of the secrets
	OnSystem  = "system" // a file system of the kernel's
	OnOther   = "mount"  // something that was mounted in the container while it runs
)

// Whereabouts says where a path of a container lives.
type Whereabouts struct {
	Container string
	// Path is what was asked for, Real what it is called without links; Links are those on the way, as "/link -> target".
	Path, Real string
	Links      []string
	// Exists says whether there is something. On a mount of a container that does not run nobody knows, and it is false.
	Exists bool
	// Kind is one of the constants above, Name which one: a volume, an image, a layer by its digest.
	Kind, Name string
	// Layer counts the layers of the image from 1, the lowest; 0 if no layer of it has the path. Layers is how many there are.
	Layer, Layers int
	// Removed says that the image has something there, which the container has removed.
	Removed bool
	// Mountpoint is where the mount begins, "/" for the root file system.
	Mountpoint string
	ReadOnly   bool
	// Host is the path on the host, empty if there is none.
	Host string
	// Survives says whether what is there outlives `rm`, and Why gives the reason.
	Survives bool
	Why      string
}

// Where says where a path of a container lives, whether that runs or not, and whether it outlives it.
func (e *Engine) Where(ctx context.Context, ref, name string) (*Whereabouts, error) {
	record, err := e.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if record.Spec == nil {
		return nil, fmt.Errorf("container %s: its specification is not there", record.Name)
	}
	s, err := e.newSeeker(ctx, record)
	if err != nil {
		return nil, err
	}
	defer s.close()
	w := &Whereabouts{Container: record.Name, Path: name}
	if w.Real, w.Links, err = snapshot.Follow(name, s.look); err != nil {
		return nil, fmt.Errorf("container %s: %w", record.Name, err)
	}
	at, mounted := s.mountOf(w.Real)
	w.Mountpoint = at.point
	switch {
	case !mounted:
		err = s.onRoot(ctx, w)
	case at.mount == nil:
		w.Exists = s.there(w.Real)
		w.Kind, w.Name, w.Why = OnOther, at.kind, "it was mounted while the container runs, and goes when it stops"
	default:
		w.Exists = s.there(w.Real)
		s.onMount(w, at)
	}
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", record.Name, err)
	}
	return w, nil
}

// seeker looks a path up in a container.
type seeker struct {
	engine *Engine
	record container.Record
	ctx    context.Context
	layers *layers // nil with --rootfs
	// running is the tree as the container sees it, nil if it does not run.
	running *tree
	mounts  []mountedAt
}

// mountedAt is a mount of the container, where its destination really is.
type mountedAt struct {
	point string
	mount *specs.Mount // nil for one that nobody asked for
	kind  string       // the type of the file system
}

func (e *Engine) newSeeker(ctx context.Context, record container.Record) (*seeker, error) {
	s := &seeker{engine: e, record: record, ctx: ctx}
	var err error
	if record.Chain != "" {
		if s.layers, err = e.layersOf(ctx, record.ID); err != nil {
			return nil, err
		}
	}
	st, err := e.State(record)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	if st.PID != 0 {
		if s.running, err = e.treeOfRunning(record, st.PID); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	for i := range record.Spec.Mounts {
		m := &record.Spec.Mounts[i]
		if path.Clean(m.Destination) == "/" {
			continue
		}
		point, _, err := snapshot.Follow(m.Destination, s.look)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.mounts = append(s.mounts, mountedAt{point: point, mount: m, kind: m.Type})
	}
	if s.running != nil {
		err = s.addOthers(st.PID)
	}
	return s, err
}

func (s *seeker) close() error {
	var err error
	if s.layers != nil {
		err = s.layers.close()
	}
	if s.running != nil {
		err = errors.Join(err, s.running.close())
	}
	return err
}

// addOthers adds the mounts that the container has besides.
func (s *seeker) addOthers(pid int) error {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(kind) == 0 {
			continue
		}
		point := sys.UnescapeMount(fields[4])
		if point != "/" && !slices.ContainsFunc(s.mounts, func(m mountedAt) bool { return m.point == point }) {
			s.mounts = append(s.mounts, mountedAt{point: point, kind: kind[0]})
		}
	}
	return nil
}

// mountOf finds the mount that a path without links lies on; none is the root file system.
func (s *seeker) mountOf(name string) (best mountedAt, found bool) {
	best.point = "/"
	for _, m := range s.mounts {
		if (name == m.point || strings.HasPrefix(name, m.point+"/")) && len(m.point) >= len(best.point) {
			best, found = m, true
		}
	}
	return best, found
}

// look looks at a path whose directories are no links.
func (s *seeker) look(name string) (mode uint32, link string, err error) {
	if s.running != nil {
		return lookAt(s.running.Root, name)
	}
	m, mounted := s.mountOf(name)
	if mounted {
		host := hostPath(m, name)
		if host == "" { // nothing is there while the container does not run
			return 0, "", nil
		}
		if name == m.point { // what is mounted is no link, whatever it was
			return unix.S_IFREG, "", nil
		}
		root, err := safepath.OpenRoot(hostPath(m, m.point))
		if err != nil { // a bind of a file, or of something that is gone
			return 0, "", nil
		}
		defer root.Close()
		return lookAt(root, strings.TrimPrefix(name, m.point))
	}
	if s.layers == nil {
		root, err := safepath.OpenRoot(s.record.Spec.Root.Path)
		if err != nil {
			return 0, "", err
		}
		defer root.Close()
		return lookAt(root, name)
	}
	w, err := s.inLayers(name)
	return w.Mode, w.Link, err
}

// lookAt looks at a path in a tree.
func lookAt(root *safepath.Root, name string) (uint32, string, error) {
	if path.Clean("/"+name) == "/" {
		return unix.S_IFDIR, "", nil
	}
	d, base, err := root.Parent(name)
	if err != nil {
		return 0, "", unlessMissing(err)
	}
	st, err := d.Lstat(base)
	if err != nil {
		return 0, "", unlessMissing(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return st.Mode, "", nil
	}
	link, err := d.Readlink(base)
	return st.Mode, link, err
}

func unlessMissing(err error) error { return ignore(err, fs.ErrNotExist, unix.ENOTDIR) }

func (s *seeker) there(name string) bool {
	mode, _, err := s.look(name)
	return err == nil && mode != 0
}

func (s *seeker) inLayers(name string) (snapshot.Where, error) {
	return s.layers.snapshots.Where(s.ctx, s.layers.chain, s.layers.upper, strings.TrimPrefix(name, "/"))
}

// onRoot says where a path of the root file system is.
func (s *seeker) onRoot(ctx context.Context, w *Whereabouts) error {
	w.ReadOnly = s.record.Config.ReadOnly
	if s.layers == nil {
		w.Kind, w.Host, w.Survives = OnRootfs, filepath.Join(s.record.Spec.Root.Path, w.Real), true
		w.Exists, w.Name, w.Why = s.there(w.Real), s.record.Spec.Root.Path, "it is in the directory of --rootfs, which is yours"
		return nil
	}
	at, err := s.inLayers(w.Real)
	if err != nil {
		return err
	}
	w.Exists, w.Host, w.Kind = at.Mode != 0, at.Path, OnLayer
	if at.Upper && s.record.Config.StorageSize > 0 {
		w.Host = "" // in a file system that only the container sees
	}
	if at.Chain != "" {
		if err := s.nameLayer(w, at.Chain); err != nil {
			return err
		}
	}
	dir := at.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case !w.Exists && at.Chain != "":
		w.Removed, w.Why = true, "that it is removed is written in the container's own layer: a new container of the image has it again"
	case !w.Exists:
		w.Why = "nothing is there; what is written there goes to the container's own layer, which rm removes"
	case !at.Upper:
		w.Kind, w.Survives, w.Why = OnImage, true, "the image has it, and the container has not changed it"
	case at.Chain != "" && dir:
		w.Why = "the directory was changed, or something in it: what the image has stays, what the container has in it goes"
	case at.Chain != "":
		w.Why = "the container has changed it: the image's stays, the container's goes"
	default:
		w.Why = "the container has made it; `containr cp` or `containr commit` keeps it"
	}
	if w.Kind == OnLayer {
		w.Name = s.record.ID
	}
	if at.Image != "" {
		w.Why += "; its layer is one file, " + at.Image
	}
	return nil
}

// nameLayer says which of the image's layers a snapshot is.
func (s *seeker) nameLayer(w *Whereabouts, chain snapshot.ChainID) error {
	for at := s.layers.chain; at != ""; {
		info, err := s.layers.snapshots.Stat(at)
		if err != nil {
			return err
		}
		w.Layers++
		if at == chain {
			w.Name = info.DiffID.String()
			w.Layer = -w.Layers // from the top
		}
		at = info.Parent
	}
	w.Layer += w.Layers + 1
	return nil
}

// onMount says what of a mount that was asked for a path is.
func (s *seeker) onMount(w *Whereabouts, at mountedAt) {
	m := at.mount
	w.Host = hostPath(at, w.Real)
	w.ReadOnly = slices.Contains(m.Options, "ro") || slices.Contains(m.Options, "rro")
	i := slices.IndexFunc(s.record.Config.Mounts, func(c container.Mount) bool { return c.Target == m.Destination })
	switch {
	case i >= 0:
		s.asked(w, s.record.Config.Mounts[i])
	case m.Type == "tmpfs" || m.Type == "ramfs":
		w.Kind, w.Why = OnTmpfs, "it is in memory, and goes when the container stops"
	case m.Type == "bind" && m.Destination != "/dev/shm":
		w.Kind, w.Why = OnFile, "containr made it for the container, and it goes with it"
	case m.Type == rootfs.SecretsType || m.Type == rootfs.SecretType:
		w.Kind, w.Host, w.Why = OnSecret, "", "it is in memory; the secret itself stays until `containr secret rm`"
	default:
		w.Kind, w.Name, w.Host, w.Why = OnSystem, m.Type, "", "it is no file: the kernel says it"
	}
}

// asked says what the user has mounted there.
func (s *seeker) asked(w *Whereabouts, c container.Mount) {
	w.Name = c.Source
	switch c.Type {
	case container.MountVolume:
		w.Kind, w.Survives, w.Why = OnVolume, true, "a volume stays until `containr volume rm "+c.Source+"`"
		if s.placed(w, c) || !c.Anonymous {
			return
		}
		w.Why = "nobody has named the volume, so `containr rm -v` and `containr volume prune` remove it"
		if s.record.Config.AutoRemove {
			w.Survives, w.Why = false, "nobody has named the volume, so it goes with the container, which was made with --rm"
		}
	case container.MountImage:
		w.Kind, w.Survives, w.Why = OnPicture, true, "the image has it, and it cannot be written"
	case container.MountTmpfs:
		w.Kind, w.Name, w.Host, w.Why = OnTmpfs, "", "", "it is in memory, and goes when the container stops"
	default:
		w.Kind, w.Survives, w.Why = OnBind, true, "it is the host's, and nothing of it is removed"
	}
}

// hostPath is what a path on a mount is called on the host, if it is a bind.
func hostPath(at mountedAt, name string) string {
	if at.mount == nil || at.mount.Type != "bind" && !slices.Contains(at.mount.Options, "bind") && !slices.Contains(at.mount.Options, "rbind") {
		return ""
	}
	var sub string
	for _, o := range at.mount.Options {
		if rest, ok := strings.CutPrefix(o, rootfs.SubpathOption); ok {
			sub = rest
		}
	}
	return filepath.Join(at.mount.Source, sub, strings.TrimPrefix(name, at.point))
}

// ErrChanges means that a container has changes that would be lost.
var ErrChanges = errors.New("changes would be lost")

// ChangesError lists them.
type ChangesError struct {
	Container string
	Changes   []snapshot.Change
}

// Error says so, with the first of them.
func (e *ChangesError) Error() string {
	const most = 5
	var first []string
	for _, c := range e.Changes[:min(len(e.Changes), most)] {
		first = append(first, c.Kind.String()+" "+c.Path)
	}
	if more := len(e.Changes) - most; more > 0 {
		first = append(first, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("container %s: %v: %s", e.Container, ErrChanges, strings.Join(first, ", "))
}

// Unwrap is ErrChanges.
func (e *ChangesError) Unwrap() error { return ErrChanges }

// mustBeUnchanged refuses a container that has changed something of its image's tree. A directory that has changed only by
// what is in it is no change of its own.
func (e *Engine) mustBeUnchanged(ctx context.Context, ref, name string) error {
	changes, err := e.Diff(ctx, ref)
	if errors.Is(err, ErrNoImage) {
		return nil // its directory stays
	}
	if err != nil {
		return err
	}
	changes = slices.DeleteFunc(changes, func(c snapshot.Change) bool {
		return c.Kind == snapshot.Changed && slices.ContainsFunc(changes, func(o snapshot.Change) bool { return strings.HasPrefix(o.Path, c.Path+"/") })
	})
	if len(changes) > 0 {
		return &ChangesError{name, changes}
	}
	return nil
}
