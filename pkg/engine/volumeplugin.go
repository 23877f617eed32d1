package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/volume"
	"github.com/containr/containr/pkg/volume/plugin"
)

// Volumes of plugins are mounted on the host, by a program that counts who needs them. So each mount that it was asked for is
// noted before, in a file that names the container and the volume, and the note goes when the plugin has been told that the
// container needs it no more. Who starts the container holds the lock of the note until the container's state says that it runs.
// Whoever finds a note without a holder, of a container that does not run, tells the plugin in the place of who was killed.
//
// A plugin may hang. So who ends a container settles the notes of that one alone, and only recovery and `system check` those of
// others, for no longer than othersPatience. A plugin that did not answer in time is left alone for a while: its notes stay.

const (
	// othersPatience bounds how long a command is kept by all that is owed for containers that it has nothing to do with.
	othersPatience = 3 * time.Second
	// silence is how long a plugin that did not answer in time is not told again by the same process.
	silence = 30 * time.Second
)

// silentPlugins remembers which plugins did not answer in time, when that was, and what the error was.
type silentPlugins struct {
	mu    sync.Mutex
	since map[string]time.Time
	errs  map[string]error
}

// note remembers a driver if an error means that it did not answer in time. One that refuses, or is away, takes nobody's time.
func (s *silentPlugins) note(driver string, err error) {
	if !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since == nil {
		s.since, s.errs = map[string]time.Time{}, map[string]error{}
	}
	s.since[driver], s.errs[driver] = time.Now(), err
}

// of is the error of a driver that did not answer lately, or nil.
func (s *silentPlugins) of(driver string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since, ok := s.since[driver]; ok && time.Since(since) < silence {
		return s.errs[driver]
	}
	return nil
}

func (e *Engine) mountNotes() string { return filepath.Join(e.root, "volume-mounts") }

// mountPlugins has the volumes of plugins mounted for the container with an id, and names the places in a copy of the
// specification. give lets go of the notes.
func (e *Engine) mountPlugins(ctx context.Context, spec *specs.Spec, c container.Config, id string) (_ *specs.Spec, give func(), err error) {
	var notes []*durable.Lock
	give = func() { release(notes) }
	defer func() {
		if err != nil {
			give()
			err = errors.Join(err, e.unmountPlugins(ctx, id))
		}
	}()
	store, err := e.volumes()
	if err != nil {
		return nil, give, err
	}
	for _, name := range volumesOf(c) {
		v, err := store.Get(name)
		if err != nil {
			return nil, give, err
		}
		if !v.OfPlugin() {
			continue
		}
		if err := os.MkdirAll(e.mountNotes(), 0o700); err != nil {
			return nil, give, err
		}
		note, err := durable.Acquire(ctx, filepath.Join(e.mountNotes(), id+"."+name), durable.Exclusive)
		if err != nil {
			return nil, give, err
		}
		notes = append(notes, note)
		if err := durable.SyncDir(e.mountNotes()); err != nil {
			return nil, give, err
		}
		p, err := plugin.Open(ctx, v.Driver)
		if err != nil {
			e.unanswering.note(v.Driver, err)
			return nil, give, fmt.Errorf("volume %s: %w", name, err)
		}
		place, err := p.Mount(ctx, name, id, e.root)
		if err != nil {
			e.unanswering.note(v.Driver, err)
			return nil, give, err
		}
		spec = withSource(spec, store.Path(name), place)
	}
	return spec, give, nil
}

// unmountPlugins tells plugins that the container with an id needs their volumes no more, unless it runs. What cannot be told now
// is noted still, and no error: a plugin that is away must not keep containers from being removed. Check tells of it.
func (e *Engine) unmountPlugins(ctx context.Context, id string) error {
	return e.unmountOwn(ctx, id, false)
}

// unmountEnded is unmountPlugins for a container that does not run, whatever its state says.
func (e *Engine) unmountEnded(ctx context.Context, id string) error {
	return e.unmountOwn(ctx, id, true)
}

func (e *Engine) unmountOwn(ctx context.Context, id string, ended bool) error {
	if ctx.Err() != nil { // the container ends because of that: the plugin is told still, if it is quick
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), othersPatience)
		defer cancel()
	}
	_, err := e.settleMounts(ctx, func(of string) bool { return of == id }, ended)
	return err
}

// owedUnmounts tells plugins what was not told at the ends of containers, in no more than othersPatience, and says what could not be
// told now either.
func (e *Engine) owedUnmounts(ctx context.Context) (owed []error, err error) {
	ctx, cancel := context.WithTimeout(ctx, othersPatience)
	defer cancel()
	return e.settleMounts(ctx, func(string) bool { return true }, false)
}

// settleMounts settles the notes of the containers whose ids are chosen.
func (e *Engine) settleMounts(ctx context.Context, chosen func(id string) bool, ended bool) (owed []error, err error) {
	entries, err := os.ReadDir(e.mountNotes())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, entry := range entries {
		id, name, ok := strings.Cut(entry.Name(), ".")
		if !ok || !chosen(id) {
			continue
		}
		refused, settleErr := e.settleMount(ctx, id, name, ended)
		if refused != nil {
			owed = append(owed, refused)
		}
		err = errors.Join(err, settleErr)
	}
	return owed, err
}

// ForgetVolume is RemoveVolume that also removes a volume whose plugin is away or does not answer: all that is noted of it here. Then
// untold says why the plugin was not asked to remove what it keeps.
func (e *Engine) ForgetVolume(ctx context.Context, name string) (v volume.Volume, untold, err error) {
	if _, err := e.attendToAll(ctx); err != nil {
		return volume.Volume{}, nil, err
	}
	v, err = e.dropVolumeBy(ctx, name, func(ctx context.Context, v volume.Volume) error {
		err := removeByPlugin(ctx, v)
		if errors.Is(err, plugin.ErrNotFound) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			untold, err = err, nil
		}
		return err
	})
	if err == nil {
		err = e.forgetMounts(ctx, name)
	}
	return v, untold, err
}

// forgetMounts settles the notes of a volume that is gone: there is nobody to tell.
func (e *Engine) forgetMounts(ctx context.Context, name string) error {
	notes, err := filepath.Glob(filepath.Join(e.mountNotes(), "*."+name))
	for _, path := range notes {
		id, of, _ := strings.Cut(filepath.Base(path), ".")
		if of != name {
			continue
		}
		_, settleErr := e.settleMount(ctx, id, name, false)
		err = errors.Join(err, settleErr)
	}
	return err
}

// settleMount tells a plugin that a container needs a volume no more, unless it runs or somebody starts it.
func (e *Engine) settleMount(ctx context.Context, id, name string, ended bool) (refused, err error) {
	path := filepath.Join(e.mountNotes(), id+"."+name)
	note, err := durable.TryAcquireExisting(path, durable.Exclusive)
	if errors.Is(err, durable.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer note.Release()
	if !note.IsOf(path) {
		return nil, nil
	}
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	st, err := containers.State(id)
	if err == nil && st.PID != 0 && !ended && !formerBoot(st) {
		return nil, nil
	}
	if ignore(err, container.ErrNotFound) != nil {
		return nil, err
	}
	store, err := e.volumes()
	if err != nil {
		return nil, err
	}
	v, err := store.Get(name)
	if ignore(err, volume.ErrNotFound) != nil {
		return nil, err
	}
	if err == nil && v.OfPlugin() {
		if tellErr := e.tellUnmount(ctx, v.Driver, name, id); tellErr != nil {
			return fmt.Errorf("volume %s, for container %s: %w", name, id, tellErr), nil
		}
	}
	return nil, os.Remove(path)
}

// tellUnmount tells a plugin that a container needs a volume no more, if it has answered lately and there is time left.
func (e *Engine) tellUnmount(ctx context.Context, driver, name, id string) error {
	if err := e.unanswering.of(driver); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("plugin %s: not told yet: %w", driver, err)
	}
	p, err := plugin.Open(ctx, driver)
	if err == nil {
		err = p.Unmount(ctx, name, id)
	}
	e.unanswering.note(driver, err)
	return err
}

// createByPlugin has the plugin of a volume make it, before the volume is there for others.
func createByPlugin(ctx context.Context, v volume.Volume) func(dir string) error {
	if !v.OfPlugin() {
		return nil
	}
	return func(string) error {
		p, err := plugin.Open(ctx, v.Driver)
		if err == nil {
			err = p.Create(ctx, v.Name, v.Options)
		}
		return err
	}
}

// removeByPlugin has the plugin of a volume remove it.
func removeByPlugin(ctx context.Context, v volume.Volume) error {
	if !v.OfPlugin() {
		return nil
	}
	p, err := plugin.Open(ctx, v.Driver)
	if err == nil {
		err = p.Remove(ctx, v.Name)
	}
	return err
}

// placePlugin says how the plan shows what a plugin keeps. Where that is, the plugin says when the container starts: until then
// the mount has the path of the volume's own directory.
func placePlugin(store *volume.Store, p *prepared, m *container.Mount, v volume.Volume) error {
	if m.Own || m.Subpath != "" {
		return fmt.Errorf("volume %s: U and volume-subpath: plugin %s keeps it: %w", v.Name, v.Driver, volume.ErrElsewhere)
	}
	content := container.Content{Type: "bind", Source: store.Path(v.Name), Options: []string{"bind", "rprivate"}}
	if p.home.mapped || p.home.idmapped {
		content.Options = append(content.Options, "idmap")
	}
	p.contents[m.Target] = content
	return nil
}

// AskPlugins adds to a list of volumes what plugins say: their scope, where they have them, and those that they alone know. It
// waits no longer than othersPatience. untold are the plugins that did not answer: what is known of their volumes here stays in the list.
func (e *Engine) AskPlugins(ctx context.Context, list []UsedVolume) (all []UsedVolume, untold []error) {
	ctx, cancel := context.WithTimeout(ctx, othersPatience)
	defer cancel()
	holdings, untold := plugin.All(ctx)
	type key struct{ driver, name string }
	at := map[key]int{}
	for i, v := range list {
		at[key{v.Driver, v.Name}] = i
	}
	for _, h := range holdings {
		for i := range list {
			if list[i].Driver == h.Plugin {
				list[i].Scope = h.Scope
			}
		}
		for _, k := range h.Volumes {
			if i, known := at[key{h.Plugin, k.Name}]; known {
				list[i].tell(k)
				continue
			}
			u := UsedVolume{Volume: volume.Volume{Name: k.Name, Driver: h.Plugin}, Scope: h.Scope, Bytes: -1, Elsewhere: true}
			u.tell(k)
			list = append(list, u)
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, untold
}

// AskPlugin is AskPlugins for one volume that is known here.
func (e *Engine) AskPlugin(ctx context.Context, u *UsedVolume) error {
	if !u.OfPlugin() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, othersPatience)
	defer cancel()
	p, err := plugin.Open(ctx, u.Driver)
	if err != nil {
		return err
	}
	if u.Scope, err = p.Scope(ctx); err != nil {
		return err
	}
	k, err := p.Get(ctx, u.Name)
	if err == nil {
		u.tell(k)
	}
	return err
}

// tell notes what a plugin says of its volume.
func (u *UsedVolume) tell(k plugin.Kept) {
	u.Path, u.Status = k.Mountpoint, k.Status
	if at, err := time.Parse(time.RFC3339, k.CreatedAt); err == nil && u.Created.IsZero() {
		u.Created = at
	}
}
