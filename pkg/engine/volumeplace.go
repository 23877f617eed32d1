package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/volume"
)

// Volumes with options have their content elsewhere, see volume.Place. It is mounted by the plan of each container that has one,
// and goes with that container's mount namespace: nothing is counted, and nothing left, whatever is killed.
//
// A file system in memory would be another one for each container. So the first that starts has a new one, and those that start
// while it runs are shown that one's mount; it is gone when the last of them has ended.

// checkPlace refuses options of a volume that is to be made which this machine cannot do.
func checkPlace(v volume.Volume) error {
	place, err := v.Place()
	if err != nil {
		return err
	}
	if err := place.CheckHost(isRoot()); err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return nil
}

// sameVolume refuses a volume that was asked for with options, or a driver, and has others. Who asks for none gets what is there.
func sameVolume(v, asked volume.Volume) error {
	if len(asked.Options) > 0 && !maps.Equal(asked.Options, v.Options) {
		return fmt.Errorf("volume %s: it has other options: %w", v.Name, volume.ErrExists)
	}
	if asked.Driver != "" && asked.Driver != v.Driver {
		return fmt.Errorf("volume %s: its driver is %s: %w", v.Name, v.Driver, volume.ErrExists)
	}
	return nil
}

// pathOnHost is where on the host what a volume holds is, empty if only containers see it.
func pathOnHost(store *volume.Store, v volume.Volume) string {
	place, err := v.Place()
	switch {
	case err != nil:
		return ""
	case place.Here():
		return store.Path(v.Name)
	case place.Type == volume.PlaceBind:
		return place.Device
	}
	return ""
}

// placeIsThere refuses a volume whose directory or device is not there, and returns the directory, if it is one.
func placeIsThere(store *volume.Store, name string) (volume.Place, string, error) {
	v, err := store.Get(name)
	if err != nil {
		return volume.Place{}, "", err
	}
	place, err := store.PlaceOf(v)
	if err == nil {
		err = place.CheckDevice()
	}
	if err != nil {
		return place, "", fmt.Errorf("volume %s: %w", name, err)
	}
	return place, pathOnHost(store, v), nil
}

// placeVolume says how the plan mounts what a volume with options holds.
func placeVolume(store *volume.Store, p *prepared, m *container.Mount, v volume.Volume, place volume.Place) error {
	own := p.home.mapped || p.config.Namespaces.User != container.HostNamespace
	same := func(o container.Mount) bool {
		return o.Type == container.MountVolume && o.Source == v.Name && o.Target != m.Target
	}
	switch bind := place.Type == volume.PlaceBind; {
	case place.Type == volume.PlacePlugin:
		return placePlugin(store, p, m, v)
	case m.Own && place.Limited():
		return fmt.Errorf("volume %s: the option U changes the owners of files: %w", v.Name, volume.ErrLimited)
	case m.Own:
		return fmt.Errorf("volume %s: the option U changes the owners of files, and these are not containr's: %w", v.Name, volume.ErrElsewhere)
	case m.Subpath != "" && place.Limited():
		return fmt.Errorf("volume %s: volume-subpath: not of a volume with a size", v.Name)
	case m.Subpath != "" && !bind:
		return fmt.Errorf("volume %s: volume-subpath: only of a directory, this is a %s", v.Name, place.Type)
	case own && place.Limited():
		return fmt.Errorf("volume %s: a container with users of its own cannot mount a volume with a size", v.Name)
	case own && !bind && place.Type != volume.PlaceTmpfs:
		return fmt.Errorf("volume %s: a container with users of its own cannot mount a %s", v.Name, place.Type)
	case place.Alone() && slices.ContainsFunc(p.config.Mounts, same):
		return fmt.Errorf("volume %s: a %s can be mounted once in a container", v.Name, place.Type)
	}
	content := container.Content{Type: place.Type, Source: place.Device, Options: append([]string{"rprivate"}, place.Words...)}
	if place.Limited() { // its device is known when the container starts: attachVolumes
		fsType, words := volume.Image(place.Device).Mount()
		content.Type, content.Options = fsType, append(content.Options, words...)
	}
	p.contents[m.Target] = content
	return nil
}

// shareVolumes puts the mount of a container that runs in the place of a file system that would be a new one, in a copy of the
// specification of the container id. Who starts it holds those volumes alone, until its state says that it runs.
func (e *Engine) shareVolumes(spec *specs.Spec, c container.Config, id string) (*specs.Spec, error) {
	for _, name := range volumesOf(c) {
		if !isNew(spec, c, name) {
			continue
		}
		mount, err := e.runningMount(name, c, id)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", name, err)
		}
		if mount != nil {
			spec = withMount(spec, *mount, c, name)
		}
	}
	return spec, nil
}

// attachVolumes names the devices of volumes with a limit in a copy of the specification, and has these open until free is
// called: after that the mounts of the container keep them.
func (e *Engine) attachVolumes(ctx context.Context, spec *specs.Spec, c container.Config) (_ *specs.Spec, free func(), err error) {
	var devices []*os.File
	free = func() {
		for _, d := range devices {
			d.Close()
		}
	}
	defer func() {
		if err != nil {
			free()
		}
	}()
	spec, layer, err := attachLayer(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	if layer != nil {
		devices = append(devices, layer)
	}
	for _, name := range volumesOf(c) {
		store, err := e.volumes()
		if err != nil {
			return nil, nil, err
		}
		v, err := store.Get(name)
		if err != nil {
			return nil, nil, err
		}
		place, err := store.PlaceOf(v)
		if err != nil {
			return nil, nil, err
		}
		if !place.Limited() {
			continue
		}
		device, err := volume.Image(place.Device).Attach(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("volume %s: %w", name, err)
		}
		devices = append(devices, device)
		spec = withSource(spec, place.Device, device.Name())
	}
	return spec, free, nil
}

// volumesLast refuses volumes that are where a plan says only while a command of ours starts the container: the loop device
// of one with a limit is another file's later, and a plugin is told that it need not keep its own mounted.
func (e *Engine) volumesLast(c container.Config) error {
	if c.StorageSize > 0 {
		return errors.New("--storage-opt size: the layer's device is another file's once this command has ended: leave out --keep")
	}
	for _, name := range volumesOf(c) {
		store, err := e.volumes()
		if err != nil {
			return err
		}
		v, err := store.Get(name)
		if err != nil {
			return err
		}
		place, err := store.PlaceOf(v)
		if err != nil {
			return err
		}
		if place.Limited() || v.OfPlugin() {
			return fmt.Errorf("volume %s: a script or program that is kept could find another file system in its place: it is where the plan says only while containr starts the container", name)
		}
	}
	return nil
}

// withSource is a specification with another source of mounts.
func withSource(spec *specs.Spec, from, to string) *specs.Spec {
	out := *spec
	out.Mounts = slices.Clone(spec.Mounts)
	for i := range out.Mounts {
		if out.Mounts[i].Source == from {
			out.Mounts[i].Source = to
		}
	}
	return &out
}

// isNew reports whether the mount of a volume in a specification is of a file system that would be a new one.
func isNew(spec *specs.Spec, c container.Config, name string) bool {
	i := indexOfVolume(c, name)
	return slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool {
		return m.Destination == c.Mounts[i].Target && volume.Place{Type: m.Type}.Alone()
	})
}

// indexOfVolume finds the first mount of a volume that a container has.
func indexOfVolume(c container.Config, name string) int {
	return slices.IndexFunc(c.Mounts, func(m container.Mount) bool { return m.Type == container.MountVolume && m.Source == name })
}

// runningMount is a mount that shows what a container that runs has as a volume, nil if none does.
func (e *Engine) runningMount(name string, c container.Config, id string) (*specs.Mount, error) {
	users, err := e.usersOf(name)
	if err != nil {
		return nil, err
	}
	for _, r := range users {
		if r.ID == id {
			continue
		}
		st, err := e.State(r)
		if errors.Is(err, container.ErrNotFound) || err == nil && st.PID == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.Config.Namespaces.User != c.Namespaces.User || c.Namespaces.User == container.Private {
			return nil, fmt.Errorf("container %s runs with it: %w", r.Name, ErrOtherUsers)
		}
		i := indexOfVolume(r.Config, name)
		m := container.TreeOf(r.ID, r.Config.Mounts[i].Target, "", "rprivate", "rw")
		return &m, nil
	}
	return nil, nil
}

// withMount is a specification with another mount of a volume, with the attributes of the one that it has.
func withMount(spec *specs.Spec, mount specs.Mount, c container.Config, name string) *specs.Spec {
	out := *spec
	out.Mounts = slices.Clone(spec.Mounts)
	i := indexOfVolume(c, name)
	for j := range out.Mounts {
		m := &out.Mounts[j]
		if m.Destination != c.Mounts[i].Target {
			continue
		}
		mount.Destination = m.Destination
		for _, o := range m.Options {
			if slices.Contains(volume.Attributes, o) {
				mount.Options = append(mount.Options, o)
			}
		}
		*m = mount
	}
	return &out
}

// placed says what becomes of a path on a volume with options, and reports whether it is one.
func (s *seeker) placed(w *Whereabouts, c container.Mount) bool {
	store, err := s.engine.volumes()
	if err != nil {
		return false
	}
	v, err := store.Get(c.Source)
	if err != nil || len(v.Options) == 0 && !v.OfPlugin() {
		return false
	}
	place, err := v.Place()
	switch {
	case err != nil:
		return false
	case place.Type == volume.PlacePlugin:
		w.Host, w.Why = "", "the plugin "+v.Driver+" keeps it until the volume is removed"
	case place.Limited():
		w.Host, w.Why = "", "it is in a file system of "+v.Options[volume.OptionSize]+", which is kept until the volume is removed"
	case place.Type == volume.PlaceTmpfs:
		w.Host, w.Survives, w.Why = "", false, "it is in memory, and goes when the last container stops that has the volume"
	case place.Type == volume.PlaceBind:
		w.Why = "the directory is the host's, and nothing of it is removed with the volume"
	default:
		w.Host, w.Why = "", "it is on "+place.Device+", and nothing of that is removed with the volume"
	}
	return true
}
