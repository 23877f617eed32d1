package engine

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/volume"
)

// CloneVolume makes a volume with the content of another. Containers that run with that one are paused meanwhile, and others wait
// before they start with it, so that nothing in the copy is half written by them; with noPause they go on. ErrCannotHold means that one cannot be paused.
func (e *Engine) CloneVolume(ctx context.Context, source, target string, noPause bool) (volume.Volume, error) {
	if err := volume.ValidateName(target); err != nil {
		return volume.Volume{}, err
	}
	store, err := e.volumes()
	if err != nil {
		return volume.Volume{}, err
	}
	clone := volume.Volume{Name: target}
	if from, err := store.Get(source); err == nil { // else there will be an error
		if place, err := from.Place(); err == nil && place.Limited() { // with the same limit
			clone.Options = from.Options
		}
	}
	return e.copyVolume(ctx, source, clone, noPause)
}

// SnapshotVolume keeps the content of a volume as it is now, as VOLUME@NAME. An empty name is made of the time.
// For noPause and errors see CloneVolume.
func (e *Engine) SnapshotVolume(ctx context.Context, source, name string, noPause bool) (volume.Volume, error) {
	if name == "" {
		name = time.Now().UTC().Format("20060102-150405.000")
	}
	if err := volume.ValidateName(source); err != nil { // a snapshot changes no more
		return volume.Volume{}, err
	}
	return e.copyVolume(ctx, source, volume.Volume{Name: source + "@" + name, Of: source}, noPause)
}

func (e *Engine) copyVolume(ctx context.Context, source string, v volume.Volume, noPause bool) (volume.Volume, error) {
	store, err := e.volumes()
	if err != nil {
		return v, err
	}
	held, err := holdQuiet(ctx, store, source, noPause)
	if err != nil {
		return v, err
	}
	defer held.Release()
	v, err = store.Create(ctx, v, func(dir string) error {
		return e.inQuiet(source, noPause, func() error { return store.Copy(source, dir) })
	})
	if err == nil {
		e.tellVolume(events.Create, v.Name)
	}
	return v, err
}

// holdQuiet keeps a volume from being removed and, unless noPause is set, from being written by others than who has it now: no
// container starts with it meanwhile, and nothing is copied to it.
func holdQuiet(ctx context.Context, store *volume.Store, name string, noPause bool) (*durable.Lock, error) {
	if noPause {
		return store.Hold(ctx, name)
	}
	return store.HoldAlone(ctx, name)
}

// owners says who owns in an archive what belongs to these on disk: to an ordinary user without other ids belongs what is root's
// for his containers.
func owners() func(uid, gid int) (int, int) {
	if os.Geteuid() == 0 {
		return nil
	}
	return func(uid, gid int) (int, int) {
		if uid == os.Geteuid() {
			uid = 0
		}
		if gid == os.Getegid() {
			gid = 0
		}
		return uid, gid
	}
}

// inQuiet does something while the containers that run with a volume are paused, unless noPause is set.
func (e *Engine) inQuiet(name string, noPause bool, do func() error) (err error) {
	users, err := e.usersOf(name)
	if err != nil {
		return err
	}
	for _, r := range users {
		resume, holdErr := e.hold(r, noPause)
		if holdErr != nil {
			return holdErr
		}
		defer func() { err = errors.Join(err, resume()) }()
	}
	return do()
}

// RestoreVolume makes a volume what it was when the snapshot VOLUME@NAME was made. No container may run with it.
func (e *Engine) RestoreVolume(ctx context.Context, snapshot string) (string, error) {
	name, _, ok := strings.Cut(snapshot, "@")
	if !ok {
		return "", fmt.Errorf("%s: a snapshot is called VOLUME@NAME: %w", snapshot, volume.ErrName)
	}
	store, err := e.volumes()
	if err != nil {
		return name, err
	}
	held, err := store.Hold(ctx, snapshot)
	if err != nil {
		return name, err
	}
	defer held.Release()
	return name, store.Replace(ctx, name, func() error { return e.mustBeIdle(name) }, func(dir string) error { return store.Copy(snapshot, dir) })
}

// mustBeIdle refuses to have the content of a volume replaced while a container runs that sees it.
func (e *Engine) mustBeIdle(name string) error {
	idle, err := e.idleVolume(name)
	if err != nil || idle {
		return err
	}
	users, err := e.usersOf(name)
	if err != nil {
		return err
	}
	return &VolumeInUseError{name, namesOfRecords(users)}
}

// ExportVolume writes what a volume holds as a tar archive, with owners, modes, times, attributes and links.
// For noPause and errors see CloneVolume.
func (e *Engine) ExportVolume(ctx context.Context, name string, noPause bool, w io.Writer) (err error) {
	store, err := e.volumes()
	if err != nil {
		return err
	}
	held, err := holdQuiet(ctx, store, name, noPause)
	if err != nil {
		return err
	}
	defer held.Release()
	content, done, err := store.Content(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	dir, err := os.Open(content)
	if err != nil {
		return err
	}
	defer dir.Close()
	return e.inQuiet(name, noPause, func() error {
		tw := tar.NewWriter(w)
		if err := image.PackEntry(ctx, tw, dir, ".", ".", owners()); err != nil {
			return fmt.Errorf("export volume %s: %w", name, err)
		}
		return tw.Close()
	})
}

// VolumeSnapshots lists the snapshots of a volume, by name, whether it is there any more or not.
func (e *Engine) VolumeSnapshots(name string) ([]string, error) {
	store, err := e.volumes()
	if err != nil {
		return nil, err
	}
	list, err := store.List()
	var names []string
	for _, v := range list {
		if v.Of == name {
			names = append(names, v.Name)
		}
	}
	return names, err
}

// ErrArchiveTooLarge means that an archive has more bytes than it may.
var ErrArchiveTooLarge = errors.New("the archive is larger than it may be")

// bounded reads at most left bytes, and fails where there are more.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		n, err := b.r.Read(p[:min(len(p), 1)])
		if n > 0 {
			err = ErrArchiveTooLarge
		}
		return 0, err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// ImportVolume makes a volume of a tar archive of at most limit bytes, 0 for any number: whole, or not at all. Whatever its
// names and links say, nothing outside is touched; devices are refused.
func (e *Engine) ImportVolume(ctx context.Context, name string, r io.Reader, limit int64) (volume.Volume, error) {
	if err := volume.ValidateName(name); err != nil {
		return volume.Volume{}, err
	}
	store, err := e.volumes()
	if err != nil {
		return volume.Volume{}, err
	}
	if limit > 0 {
		r = &bounded{r, limit}
	}
	in := bufio.NewReader(r)
	v, err := store.Create(ctx, volume.Volume{Name: name}, func(dir string) error {
		if err := looksLikeTar(in); err != nil {
			return fmt.Errorf("volume %s: %w", name, err)
		}
		root, err := safepath.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		u := unpacking{root: root, archive: os.Geteuid() == 0, uid: os.Geteuid(), gid: os.Getegid(), top: true}
		if err := u.unpack(ctx, in); err != nil {
			return fmt.Errorf("volume %s: %w", name, err)
		}
		return nil
	})
	if err == nil {
		e.tellVolume(events.Create, v.Name)
	}
	return v, err
}

// looksLikeTar refuses what is often given in place of a tar archive: nothing, as comes out of a command that failed, and
// one that is compressed. An archive of nothing has an end, too.
func looksLikeTar(r *bufio.Reader) error {
	head, err := r.Peek(4)
	switch {
	case errors.Is(err, io.EOF) && len(head) == 0:
		return errors.New("the archive is empty, and has not even an end")
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return errors.New("the archive is compressed by gzip: `gzip -dc` unpacks it")
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return errors.New("the archive is compressed by zstd: `zstd -dc` unpacks it")
	}
	return nil
}

// openVolumeSide opens a volume to be copied from or to. It is not removed, and its content not replaced, until the side is
// closed. Containers may run with it: links in it lead to nothing outside, whatever they do meanwhile.
func (e *Engine) openVolumeSide(ctx context.Context, p FilePlace, writes bool) (*side, error) {
	store, err := e.volumes()
	if err != nil {
		return nil, err
	}
	if writes && strings.Contains(p.Volume, "@") {
		return nil, fmt.Errorf("volume %s: %w", p.Volume, volume.ErrSnapshotWritten)
	}
	held, err := store.Hold(ctx, p.Volume)
	if err != nil {
		return nil, err
	}
	root, free, err := openContent(store, p.Volume, writes)
	if err != nil {
		return nil, errors.Join(err, held.Release())
	}
	done := func() error { return errors.Join(free(), held.Release()) }
	s := &side{tree: &tree{Root: root, done: done}, uid: os.Geteuid(), gid: os.Getegid(), volume: p.Volume}
	if !writes {
		return s, nil
	}
	staging, drop, err := store.Stage(p.Volume)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.staging, s.settles = staging, func() error { return store.Flush(p.Volume) }
	s.done = func() error { return errors.Join(drop(), done()) }
	return s, nil
}

// openContent opens what a volume holds. Where that is elsewhere nothing can be made beside it, so that it would appear whole,
// and it is only read.
func openContent(store *volume.Store, name string, writes bool) (*safepath.Root, func() error, error) {
	v, err := store.Get(name)
	if err != nil {
		return nil, nil, err
	}
	place, err := v.Place()
	if err != nil {
		return nil, nil, err
	}
	if writes && place.Limited() {
		return nil, nil, fmt.Errorf("volume %s: it cannot be copied to: %w", name, volume.ErrLimited)
	}
	if writes && !place.Here() {
		return nil, nil, fmt.Errorf("volume %s: it cannot be copied to: %w", name, volume.ErrElsewhere)
	}
	dir, free, err := store.Content(name)
	if err != nil {
		return nil, nil, err
	}
	root, err := safepath.OpenRoot(dir)
	if err != nil {
		err = errors.Join(err, free())
	}
	return root, free, err
}
