package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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

func (e *Engine) mountNotes() string { return filepath.Join(e.root, "volume-mounts") }

// mountPlugins has the volumes of plugins mounted for the container with an id, and names the places in a copy of the
// specification. give lets go of the notes.
func (e *Engine) mountPlugins(ctx context.Context, spec *specs.Spec, c container.Config, id string) (_ *specs.Spec, give func(), err error) {
	var notes []*durable.Lock
	give = func() { release(notes) }
	defer func() {
		if err != nil {
			give()
			err = errors.Join(err, e.unmountPlugins(ctx))
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
			return nil, give, fmt.Errorf("volume %s: %w", name, err)
		}
		place, err := p.Mount(ctx, name, id)
		if err != nil {
			return nil, give, err
		}
		spec = withSource(spec, store.Path(name), place)
	}
	return spec, give, nil
}

// unmountPlugins tells plugins which containers need their volumes no more. What cannot be told now is noted still, and no error:
// a plugin that is away must not keep containers from being removed. Check tells of it.
func (e *Engine) unmountPlugins(ctx context.Context) error {
	_, err := e.owedUnmounts(context.WithoutCancel(ctx), "")
	return err
}

// owedUnmounts is unmountPlugins, and says what could not be told. The container ended does not run, whatever its state says.
func (e *Engine) owedUnmounts(ctx context.Context, ended string) (owed []error, err error) {
	entries, err := os.ReadDir(e.mountNotes())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, entry := range entries {
		id, name, ok := strings.Cut(entry.Name(), ".")
		if !ok {
			continue
		}
		refused, settleErr := e.settleMount(ctx, id, name, id == ended)
		if refused != nil {
			owed = append(owed, refused)
		}
		err = errors.Join(err, settleErr)
	}
	return owed, err
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
		p, openErr := plugin.Open(ctx, v.Driver)
		if openErr == nil {
			openErr = p.Unmount(ctx, name, id)
		}
		if openErr != nil {
			return fmt.Errorf("volume %s, for container %s: %w", name, id, openErr), nil
		}
	}
	return nil, os.Remove(path)
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
