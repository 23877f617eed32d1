package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/volume"
)

// provide makes the volumes that a container is to have and does not find, puts what the image has there into those that
// are empty, and finds the images that it is to see. Its volumes cannot be removed until p.release.
func (e *Engine) provide(ctx context.Context, p *prepared, o prepareOptions) error {
	mounts, err := withImageVolumes(p)
	if err != nil {
		return err
	}
	p.config.Mounts = mounts
	p.contents = map[string]container.Content{}
	for i := range p.config.Mounts {
		m := &p.config.Mounts[i]
		if m.Type == container.MountVolume && !strings.Contains(m.Source, "@") {
			m.VolumeDriver = cmp.Or(m.VolumeDriver, p.config.VolumeDriver)
		}
		var err error
		switch m.Type {
		case container.MountVolume:
			err = e.provideVolume(ctx, p, m, o)
		case container.MountImage:
			err = e.provideImage(ctx, p, m, o)
		}
		if err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	// Only now: filling wants each of them to itself, and one may be seen in two places.
	if p.held, err = e.holdVolumes(ctx, p.config, false); err != nil {
		return err
	}
	return e.holdSecrets(ctx, p)
}

// withImageVolumes adds the volumes that the image wants, in places where the user has put nothing. An image has none in
// the kernel's own file systems, whose content programs and the kernel's security modules trust.
func withImageVolumes(p *prepared) ([]container.Mount, error) {
	mounts := slices.Clone(p.config.Mounts)
	if p.image == nil {
		return mounts, nil
	}
	for _, target := range slices.Sorted(maps.Keys(p.image.Config.Config.Volumes)) {
		m, err := container.ParseVolume(target, "/")
		if err != nil || m.Type != container.MountVolume || !m.Anonymous {
			continue // no place that anything can be mounted on
		}
		if slices.ContainsFunc(mounts, func(o container.Mount) bool { return o.Target == m.Target }) {
			continue
		}
		if below := m.Target + "/"; strings.HasPrefix(below, "/proc/") || strings.HasPrefix(below, "/sys/") {
			return nil, fmt.Errorf("the image wants a volume on %s: what is there is the kernel's", m.Target)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

func (e *Engine) provideVolume(ctx context.Context, p *prepared, m *container.Mount, o prepareOptions) error {
	store, err := e.volumes()
	if err != nil {
		return err
	}
	if strings.Contains(m.Source, "@") { // the state of a volume that was kept: it stays as it is
		m.ReadOnly, m.NoCopy = true, true
		if m.Own {
			return fmt.Errorf("volume %s: a snapshot cannot be written: leave out U", m.Source)
		}
	}
	v, err := e.ensureVolume(ctx, store, p, m)
	if err != nil {
		return err
	}
	place, err := store.PlaceOf(v)
	if err != nil {
		return err
	}
	if p.image != nil && !m.NoCopy && m.Subpath == "" && !o.look && (place.Here() || place.Limited()) {
		if err := e.fillVolume(ctx, store, p, m); err != nil {
			return err
		}
	}
	if !place.Here() {
		return placeVolume(store, p, m, v, place)
	}
	content := container.Content{Type: "bind", Source: store.Path(m.Source), Options: []string{"bind", "rprivate"}}
	if p.home.mapped || p.home.idmapped { // volumes have the owners that containers see
		content.Options = append(content.Options, "idmap")
	}
	p.contents[m.Target] = content
	return nil
}

// ensureVolume makes a volume that is not there. One without a name goes with a container that goes by itself.
func (e *Engine) ensureVolume(ctx context.Context, store *volume.Store, p *prepared, m *container.Mount) (volume.Volume, error) {
	v := volume.Volume{Name: m.Source, Labels: m.Labels, Options: m.VolumeOptions, Driver: m.VolumeDriver, Anonymous: m.Anonymous}
	if m.Source == "" {
		v.Name = volume.RandomName()
		if p.config.AutoRemove {
			v.Owner = p.place.ID
		}
	} else if found, err := store.Get(m.Source); !errors.Is(err, volume.ErrNotFound) || strings.Contains(m.Source, "@") {
		if err == nil {
			err = sameVolume(found, v)
		}
		return found, err
	}
	if err := checkPlace(v); err != nil {
		return v, err
	}
	made, err := store.Create(ctx, v, createByPlugin(ctx, v))
	if errors.Is(err, volume.ErrExists) { // somebody else needs it, too
		if made, err = store.Get(v.Name); err == nil {
			err = sameVolume(made, v)
		}
		return made, err
	}
	if err != nil {
		return made, err
	}
	m.Source = v.Name
	p.volumes = append(p.volumes, v.Name)
	e.tellVolume(events.Create, v.Name)
	return made, nil
}

// fillVolume copies what the image has at the target into a volume that is empty.
func (e *Engine) fillVolume(ctx context.Context, store *volume.Store, p *prepared, m *container.Mount) error {
	snapshots, err := p.home.snapshots(e)
	if err != nil {
		return err
	}
	idle := func() (bool, error) { return e.idleVolume(m.Source) }
	_, err = store.Fill(ctx, m.Source, idle, func(dir string) error {
		what := fillHelping{Chain: p.chain, Name: strings.TrimPrefix(m.Target, "/"), Dir: dir}
		among, err := e.keptAmong(snapshots)
		if err != nil {
			return err
		}
		if among {
			_, err = e.among(ctx, helping{Fill: &what})
			return err
		}
		return snapshots.CopyPart(ctx, what.Chain, what.Name, dir)
	})
	return err
}

// idleVolume reports whether no container that runs has the volume. Its lock is held, so none begins to.
func (e *Engine) idleVolume(name string) (bool, error) {
	users, err := e.usersOf(name)
	for _, r := range users {
		st, err := e.State(r)
		if errors.Is(err, container.ErrNotFound) {
			continue
		}
		if err != nil || st.PID != 0 {
			return false, err
		}
	}
	return err == nil, err
}

// giveVolumes gives all that is in volumes with the option U to the user whom the program runs as.
func (e *Engine) giveVolumes(ctx context.Context, p *prepared, spec *specs.Spec) error {
	store, err := e.volumes()
	if err != nil {
		return err
	}
	for _, m := range p.config.Mounts {
		if m.Type != container.MountVolume || !m.Own {
			continue
		}
		if spec.Process == nil {
			return fmt.Errorf("mount on %s: U: nobody runs in the container", m.Target)
		}
		uid, gid := int(spec.Process.User.UID), int(spec.Process.User.GID)
		if !p.home.mapped && !p.home.idmapped && p.config.Namespaces.User != container.HostNamespace {
			uid, gid = outsideID(p.config.UIDMap, uid), outsideID(p.config.GIDMap, gid)
		}
		if err := e.own(ctx, store.Path(m.Source), m.Subpath, uid, gid); err != nil {
			return fmt.Errorf("volume %s: %w", m.Source, err)
		}
	}
	return nil
}

// outsideID is the host's number of an id in a container.
func outsideID(maps []specs.LinuxIDMapping, id int) int {
	for _, m := range maps {
		if id >= int(m.ContainerID) && id-int(m.ContainerID) < int(m.Size) {
			return int(m.HostID) + id - int(m.ContainerID)
		}
	}
	return id
}

// holdVolumes keeps the volumes of a container from being removed and replaced. For one that is starting, those are held alone
// that it has to share with others that run: two that start at once see each other.
func (e *Engine) holdVolumes(ctx context.Context, c container.Config, starting bool) ([]*durable.Lock, error) {
	var held []*durable.Lock
	for _, name := range volumesOf(c) {
		store, err := e.volumes()
		if err != nil {
			return held, err
		}
		lock, err := store.Hold(ctx, name)
		if err != nil {
			return held, err
		}
		held = append(held, lock)
		place, dir, err := placeIsThere(store, name)
		if err == nil {
			err = partsAreThere(c, name, dir)
		}
		if err == nil && starting && place.Alone() { // its record keeps it from being removed meanwhile
			err = lock.Release()
			if err == nil {
				held[len(held)-1], err = store.HoldAlone(ctx, name)
			}
		}
		if err != nil {
			return held, err
		}
	}
	return held, nil
}

// partsAreThere refuses a part of a volume where nothing is, by the names that the user knows. What is there may be
// another thing when it is mounted: that the runtime finds out.
func partsAreThere(c container.Config, name, dir string) error {
	for _, m := range c.Mounts {
		if m.Type != container.MountVolume || m.Source != name || m.Subpath == "" || dir == "" {
			continue
		}
		root, err := safepath.OpenRoot(dir)
		if err != nil {
			return err
		}
		f, err := root.OpenFile(m.Subpath, unix.O_PATH, 0)
		root.Close()
		if err != nil {
			err = cmp.Or(errors.Unwrap(err), err)
			return fmt.Errorf("mount on %s: volume %s: volume-subpath %s: %w", m.Target, name, m.Subpath, err)
		}
		f.Close()
	}
	return nil
}

func release(held []*durable.Lock) {
	for _, lock := range held {
		lock.Release()
	}
}

// release lets go of the volumes.
func (p *prepared) release() {
	release(p.held)
	p.held = nil
}

// unprovide takes away the volumes that were made for a container that is not to be, unless somebody else has found them.
func (e *Engine) unprovide(ctx context.Context, p *prepared) error {
	var failures []error
	for _, name := range p.volumes {
		_, err := e.dropVolume(ctx, name)
		failures = append(failures, ignore(err, volume.ErrInUse, volume.ErrNotFound))
	}
	return errors.Join(failures...)
}

// ignore returns nil for an error that is one of those.
func ignore(err error, those ...error) error {
	for _, e := range those {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// volumesOf lists the volumes of a container, each once.
func volumesOf(c container.Config) []string {
	var names []string
	for _, m := range c.Mounts {
		if m.Type == container.MountVolume && m.Source != "" {
			names = append(names, m.Source)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// usersOf lists the containers that have a volume, whether they run or not.
func (e *Engine) usersOf(name string) ([]container.Record, error) {
	all, err := e.allUsers()
	return all[name], err
}

// allUsers lists for each volume the containers that have it. They are read from the records of containers: there is no
// other list that could differ.
func (e *Engine) allUsers() (map[string][]container.Record, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	users := map[string][]container.Record{}
	for _, r := range records {
		for _, name := range volumesOf(r.Config) {
			users[name] = append(users[name], r)
		}
	}
	return users, err
}

// removeAnonymous removes the volumes without a name of a container that is gone, but for those that others have.
func (e *Engine) removeAnonymous(ctx context.Context, record container.Record) error {
	var failures []error
	for _, m := range record.Config.Mounts {
		if m.Type == container.MountVolume && m.Anonymous {
			_, err := e.dropVolume(context.WithoutCancel(ctx), m.Source)
			failures = append(failures, ignore(err, volume.ErrInUse, volume.ErrNotFound))
		}
	}
	return errors.Join(failures...)
}

// removeOrphanVolumes removes the volumes of containers that were to take them along and are gone.
func (e *Engine) removeOrphanVolumes() error {
	store, err := e.volumes()
	if err != nil {
		return err
	}
	orphans, err := e.orphanVolumes(store)
	for _, v := range orphans {
		_, dropErr := e.dropVolume(context.Background(), v.Name)
		err = errors.Join(err, ignore(dropErr, volume.ErrInUse, volume.ErrNotFound))
	}
	return err
}

// orphanVolumes lists them.
func (e *Engine) orphanVolumes(store *volume.Store) ([]volume.Volume, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	list, err := store.List()
	return slices.DeleteFunc(list, func(v volume.Volume) bool { return v.Owner == "" || containers.Alive(v.Owner) }), err
}

// dropVolume removes a volume that no container has.
func (e *Engine) dropVolume(ctx context.Context, name string) (volume.Volume, error) {
	return e.dropVolumeBy(ctx, name, removeByPlugin)
}

// dropVolumeBy is dropVolume where somebody else is asked first to remove what a volume holds.
func (e *Engine) dropVolumeBy(ctx context.Context, name string, first func(context.Context, volume.Volume) error) (volume.Volume, error) {
	store, err := e.volumes()
	if err != nil {
		return volume.Volume{}, err
	}
	v, err := store.Remove(ctx, name, func(v volume.Volume) error {
		users, err := e.usersOf(name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return &VolumeInUseError{name, namesOfRecords(users)}
		}
		return first(ctx, v)
	})
	if err == nil {
		e.tellVolume(events.Destroy, v.Name)
	}
	return v, err
}

// VolumeInUseError says which containers have a volume.
type VolumeInUseError struct {
	Volume     string
	Containers []string
}

// Error says so.
func (e *VolumeInUseError) Error() string {
	who := "container " + e.Containers[0] + " has it"
	if len(e.Containers) > 1 {
		who = "containers " + strings.Join(e.Containers, ", ") + " have it"
	}
	return fmt.Sprintf("volume %s: %s: %v", e.Volume, who, volume.ErrInUse)
}

// Unwrap is volume.ErrInUse.
func (e *VolumeInUseError) Unwrap() error { return volume.ErrInUse }

func namesOfRecords(records []container.Record) []string {
	var names []string
	for _, r := range records {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return names
}

// VolumeRequest asks for a volume.
type VolumeRequest struct {
	// Name may be empty: one is made up.
	Name   string
	Labels map[string]string
	// Driver is the name of a plugin; empty and volume.DriverLocal are none.
	Driver string
	// Options are those of the driver: of local see volume.ParseOptions.
	Options map[string]string
}

// CreateVolume makes a volume. One that is there already stays as it is, and is no error.
func (e *Engine) CreateVolume(ctx context.Context, r VolumeRequest) (volume.Volume, error) {
	store, err := e.volumes()
	if err != nil {
		return volume.Volume{}, err
	}
	v := volume.Volume{Name: r.Name, Labels: r.Labels, Driver: r.Driver, Options: r.Options}
	if v.Name == "" {
		v.Name, v.Anonymous = volume.RandomName(), true
	}
	if err := volume.ValidateName(v.Name); err != nil {
		return v, err
	}
	if err := checkPlace(v); err != nil {
		return v, err
	}
	made, err := store.Create(ctx, v, createByPlugin(ctx, v))
	if errors.Is(err, volume.ErrExists) {
		if made, err = store.Get(v.Name); err == nil {
			v.Driver = cmp.Or(v.Driver, volume.DriverLocal)
			err = sameVolume(made, v)
		}
		return made, err
	}
	if err == nil {
		e.tellVolume(events.Create, made.Name)
	}
	return made, err
}

// UsedVolume is a volume with what is known of it besides.
type UsedVolume struct {
	volume.Volume
	// Path is where its content is on the host; empty if only containers see it.
	Path string
	// Containers are the names of those that have it.
	Containers []string
	// Bytes is what it takes on disk, -1 if it was not measured.
	Bytes int64
	// Scope is plugin.ScopeLocal or plugin.ScopeGlobal; empty if nobody was asked. Status is what its plugin says besides.
	Scope  string
	Status map[string]any
	// Elsewhere says that the plugin alone knows of it: none was created here by this name.
	Elsewhere bool
	// Limit is what a volume with a size may hold, and does; zero for others, and in lists where nothing was measured.
	Limit volume.Limit
}

// Volumes lists the volumes, by name. With measure it says what they take on disk.
func (e *Engine) Volumes(ctx context.Context, measure bool) ([]UsedVolume, error) {
	store, err := e.volumes()
	if err != nil {
		return nil, err
	}
	list, err := store.List()
	if err != nil {
		return nil, err
	}
	if _, err := e.attendToAll(ctx); err != nil {
		return nil, err
	}
	users, err := e.allUsers()
	if err != nil {
		return nil, err
	}
	var all []UsedVolume
	for _, v := range list {
		u := UsedVolume{Volume: v, Path: pathOnHost(store, v), Containers: namesOfRecords(users[v.Name]), Bytes: -1}
		if measure && u.Path == store.Path(v.Name) { // what is elsewhere takes nothing here
			if u.Bytes, err = bytesBelow(u.Path); err != nil {
				return nil, err
			}
		}
		if measure {
			if u.Limit, err = e.measureLimited(ctx, store, v); err != nil {
				return nil, err
			}
			if u.Limit.Bytes > 0 {
				u.Bytes = u.Limit.Used
			}
		}
		all = append(all, u)
	}
	return all, nil
}

// bytesBelow is what a tree takes on disk.
func bytesBelow(dir string) (int64, error) {
	m, err := measure(dir)
	if err != nil {
		return 0, err
	}
	return m.total(), nil
}

// Volume finds one by its name.
func (e *Engine) Volume(ctx context.Context, name string) (UsedVolume, error) {
	store, err := e.volumes()
	if err != nil {
		return UsedVolume{}, err
	}
	v, err := store.Get(name)
	if err != nil {
		return UsedVolume{}, err
	}
	if _, err := e.attendToAll(ctx); err != nil {
		return UsedVolume{}, err
	}
	users, err := e.usersOf(name)
	if err != nil {
		return UsedVolume{}, err
	}
	limit, err := e.measureLimited(ctx, store, v)
	return UsedVolume{Volume: v, Path: pathOnHost(store, v), Containers: namesOfRecords(users), Bytes: -1, Limit: limit}, err
}

// measureLimited says what a volume with a limit may hold and does. One that is gone meanwhile has neither.
func (e *Engine) measureLimited(ctx context.Context, store *volume.Store, v volume.Volume) (volume.Limit, error) {
	if place, err := v.Place(); err != nil || !place.Limited() {
		return volume.Limit{}, err
	}
	held, err := store.Hold(ctx, v.Name)
	if err != nil {
		return volume.Limit{}, ignore(err, volume.ErrNotFound)
	}
	defer held.Release()
	return store.Measure(v)
}

// RemoveVolume removes a volume that no container has. Its snapshots stay, as volumes of their own.
func (e *Engine) RemoveVolume(ctx context.Context, name string) (volume.Volume, error) {
	if _, err := e.attendToAll(ctx); err != nil {
		return volume.Volume{}, err
	}
	return e.dropVolume(ctx, name)
}

// PruneVolumes removes the volumes that no container has and that may go; what they took on disk is told, too. Snapshots
// stay: they are there for the day on which the volume is lost.
func (e *Engine) PruneVolumes(ctx context.Context, doomed func(volume.Volume) bool) ([]volume.Volume, int64, error) {
	list, err := e.Volumes(ctx, false)
	if err != nil {
		return nil, 0, err
	}
	store, err := e.volumes()
	if err != nil {
		return nil, 0, err
	}
	var gone []volume.Volume
	var freed int64
	var failures []error
	if err := store.Sweep(ctx); err != nil { // what cannot be removed keeps no other
		failures = append(failures, err)
	}
	for _, u := range list {
		if len(u.Containers) > 0 || u.Of != "" || !doomed(u.Volume) {
			continue
		}
		bytes, err := bytesBelow(store.Taken(u.Volume))
		if err == nil {
			_, err = e.dropVolume(ctx, u.Name)
		}
		if errors.Is(err, volume.ErrInUse) || errors.Is(err, volume.ErrNotFound) {
			continue
		}
		if err != nil { // a plugin does not answer, say: that keeps its own only
			failures = append(failures, err)
			continue
		}
		gone, freed = append(gone, u.Volume), freed+bytes
	}
	return gone, freed, errors.Join(failures...)
}
