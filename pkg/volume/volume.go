// Package volume keeps named data that outlives containers.
//
// # Theory of operation
//
// A volume is a directory that is called as it is:
//
//	volumes/NAME/
//	  volume.json  what it is
//	  data/        what containers see
//	  image        what is there in its place if it has a limit: a file with a file system
//	  lock         held shared by who is about to mount it or copies files, exclusively by who replaces or removes data
//	  fill-N/      what is to become data, or was, or a file that is to appear in it; without a holder of the lock, what a
//	               crash has left
//	volumes/NAME@SNAPSHOT/
//	               the same, for a state of NAME that was kept
//	volumes/.new-N/, .old-N/
//	               volumes that are being made, or removed
//
// Everything that can be half done is done where nobody looks, and shown by one rename(2): a volume that is made is
// .new-N until it is whole; one that is removed is .old-N before the first of its files goes; content that is copied into
// an empty volume is fill-N until all of it is there. So a crash at any moment leaves a volume as it was or as it was to
// be, and beside it a directory that the next one who makes or prunes volumes takes away. That nobody is at work on such a
// directory is told by its lock, which dies with its holder.
//
// The rename that puts content into an empty volume is also the check that it is empty: the kernel replaces a directory
// by another one only if there is nothing in it. What somebody wrote meanwhile is not lost, the copy is.
//
// Who uses a volume is not written here. It is in the records of containers, and is read from there when it matters: a
// number that is kept beside a list is wrong after the first crash. The lock makes that right: a container that is being
// made holds it until its record can be found, one that is being started until its state says that it runs.
//
// A volume with options has its content elsewhere, see Place: in a directory of the host, on a device, in memory. Its data
// stays empty, and is never mounted on: the plan of each container mounts the content where the container sees it, and the
// kernel undoes that with the container, whatever is killed. So removing a volume never meets what somebody else has made.
//
// What is in data belongs to containers and is not trusted. It is reached through package safepath; its names are never
// joined to a path. Everything above it is closed to others than the owner of the state root.
package volume

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/internal/spelling"
)

// DriverLocal is the driver that needs no other program: a directory here, or a Place. Others are names of plugins.
const DriverLocal = "local"

// Errors that callers tell apart.
var (
	// ErrNotFound means that there is no volume of that name.
	ErrNotFound = errors.New("no such volume")
	// ErrExists means that there is one already.
	ErrExists = errors.New("there is a volume of this name")
	// ErrSnapshotWritten means that something was to be written to a snapshot.
	ErrSnapshotWritten = errors.New("a snapshot cannot be written")
	// ErrInUse means that containers use it.
	ErrInUse = errors.New("the volume is in use")
	// ErrName means that a name is none for a volume.
	ErrName = errors.New("no name for a volume")
)

// Layouts of volume.json: one with options is not to be taken for an empty directory by who does not know of them.
const (
	layoutPlain   = 1
	layoutOptions = 2
	layoutPlugin  = 3
)

// Volume is what is kept of a volume.
type Volume struct {
	Version int               `json:"version"`
	Name    string            `json:"name"`
	Driver  string            `json:"driver"`
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	// Options are those of the driver, see ParseOptions.
	Options map[string]string `json:"options,omitempty"`
	// Anonymous volumes were made for a container whose image or command line named a place and no volume.
	Anonymous bool `json:"anonymous,omitempty"`
	// Owner is the id of the container that an anonymous volume was made for, if it is to go with it.
	Owner string `json:"owner,omitempty"`
	// Of is the volume that this is a snapshot of.
	Of string `json:"of,omitempty"`
}

// Store is the directory of volumes. Any number of processes may use one.
type Store struct{ dir string }

// Open opens the store in a directory, which is made if it is missing.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("volume store: %w", err)
	}
	return &Store{dir}, nil
}

// Files of a volume.
const (
	recordFile = "volume.json"
	dataDir    = "data"
	lockFile   = "lock"
	fillPrefix = "fill-"
	newPrefix  = ".new-"
	oldPrefix  = ".old-"
)

func (s *Store) path(name string, more ...string) string {
	return filepath.Join(append([]string{s.dir, name}, more...)...)
}

// Path is the directory that containers see, for a name that Get or List returned.
func (s *Store) Path(name string) string { return s.path(name, dataDir) }

// ValidateName refuses what is no name for a volume.
func ValidateName(name string) error {
	if !spelling.IsName(name, 128) {
		return fmt.Errorf("volume name %q: use letters, digits and _.- after a letter or digit, at most 128: %w", name, ErrName)
	}
	return nil
}

// ValidateReference refuses what is no name for a volume, nor for a snapshot of one: VOLUME@SNAPSHOT.
func ValidateReference(name string) error {
	if volume, snapshot, ok := strings.Cut(name, "@"); ok && spelling.IsName(volume, 128) && spelling.IsName(snapshot, 64) {
		return nil
	}
	return ValidateName(name)
}

// RandomName is a name for a volume that nobody has named.
func RandomName() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// NotFoundError says that there is no volume of a name, and which one may be meant.
type NotFoundError struct{ Name, Near string }

// Error says so.
func (e *NotFoundError) Error() string { return fmt.Sprintf("volume %s: %v", e.Name, ErrNotFound) }

// Unwrap is ErrNotFound.
func (e *NotFoundError) Unwrap() error { return ErrNotFound }

func (s *Store) notFound(name string) error {
	list, err := s.List()
	var names []string
	for _, v := range list {
		names = append(names, v.Name)
	}
	return errors.Join(&NotFoundError{name, spelling.Nearest(name, names)}, err)
}

// Get finds a volume by its name.
func (s *Store) Get(name string) (Volume, error) {
	if err := ValidateReference(name); err != nil {
		return Volume{}, err
	}
	v, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return v, s.notFound(name)
	}
	return v, err
}

func (s *Store) read(name string) (Volume, error) {
	var v Volume
	path := s.path(name, recordFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	if v.Version > layoutPlugin {
		return v, fmt.Errorf("%s: layout %d: written by a newer containr", path, v.Version)
	}
	return v, nil
}

// List returns all volumes, by name.
func (s *Store) List() ([]Volume, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("volume store: %w", err)
	}
	var list []Volume
	var failures []error
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		v, err := s.read(e.Name())
		switch {
		case err == nil:
			list = append(list, v)
		case !errors.Is(err, fs.ErrNotExist): // it went away meanwhile
			failures = append(failures, err)
		}
	}
	return list, errors.Join(failures...)
}

// Create makes a volume. fill, if there is one, puts its content into a directory that is there, is empty, and nobody
// else can see; if it fails there is no volume. Version, Driver and Created are filled in.
func (s *Store) Create(ctx context.Context, v Volume, fill func(dir string) error) (Volume, error) {
	if err := ValidateReference(v.Name); err != nil {
		return v, err
	}
	_ = s.sweep(ctx, s.unfinished) // what cannot be taken away is in nobody's way; a check of the store tells
	if _, err := os.Lstat(s.path(v.Name)); err == nil {
		return v, fmt.Errorf("volume %s: %w", v.Name, ErrExists)
	}
	if _, err := v.Place(); err != nil {
		return v, err
	}
	v.Version, v.Driver, v.Created = layoutPlain, cmp.Or(v.Driver, DriverLocal), time.Now().UTC()
	switch {
	case v.OfPlugin():
		v.Version = layoutPlugin
	case len(v.Options) > 0:
		v.Version = layoutOptions
	}
	staging, lock, err := s.stage(ctx)
	if err != nil {
		return v, err
	}
	defer lock.Release()
	err = s.build(ctx, filepath.Base(staging), v, fill)
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, staging, unix.AT_FDCWD, s.path(v.Name), unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) { // a file system without that: whole directories are never replaced by it
			err = os.Rename(staging, s.path(v.Name))
		}
		if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
			err = ErrExists
		}
		if err != nil {
			err = fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	if err != nil {
		return v, errors.Join(err, safepath.RemoveAll(staging))
	}
	return v, s.flush(v)
}

// flush makes what was renamed last through a power failure, unless that is not wanted.
func (s *Store) flush(v Volume) error {
	if v.Owner != "" {
		return nil
	}
	return durable.SyncDir(s.dir)
}

// stage makes a directory for a volume to be, and holds its lock. No two of these are made while others are looked for.
func (s *Store) stage(ctx context.Context) (string, *durable.Lock, error) {
	comings, err := s.lockComings(ctx)
	if err != nil {
		return "", nil, err
	}
	defer comings.Release()
	dir, err := os.MkdirTemp(s.dir, newPrefix)
	if err != nil {
		return "", nil, fmt.Errorf("volume store: %w", err)
	}
	lock, err := durable.TryAcquire(filepath.Join(dir, lockFile), durable.Exclusive)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, lock, nil
}

func (s *Store) lockComings(ctx context.Context) (*durable.Lock, error) {
	return durable.Acquire(ctx, filepath.Join(s.dir, "..", "volumes.lock"), durable.Exclusive)
}

// build makes what is in a volume's directory.
func (s *Store) build(ctx context.Context, staging string, v Volume, fill func(dir string) error) error {
	data := s.path(staging, dataDir)
	if err := os.Mkdir(data, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(data, 0o755); err != nil { // whatever the umask is
		return err
	}
	place, err := v.Place()
	switch {
	case err != nil:
		return err
	case place.Limited():
		err = s.Image(staging).Make(ctx, place.Size, fill)
	case fill != nil:
		err = fill(data)
	}
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(s.path(staging, recordFile), append(text, '\n'), durable.Options{Volatile: v.Owner != ""}); err != nil {
		return err
	}
	if fill != nil && v.Owner == "" {
		return syncTree(data)
	}
	return nil
}

// syncTree flushes the file system that a directory is on.
func syncTree(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) { // what it holds is another user's of a container; who has it above is on the same file system
		d, err = os.Open(filepath.Dir(dir))
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// Hold keeps a volume from being removed, and its content from being replaced, until it is released or its process dies.
func (s *Store) Hold(ctx context.Context, name string) (*durable.Lock, error) {
	return s.lock(ctx, name, durable.Shared)
}

// HoldAlone is Hold, while nobody else holds the volume.
func (s *Store) HoldAlone(ctx context.Context, name string) (*durable.Lock, error) {
	return s.lock(ctx, name, durable.Exclusive)
}

// lock waits for the lock of a volume that is there.
func (s *Store) lock(ctx context.Context, name string, kind durable.Kind) (*durable.Lock, error) {
	if err := ValidateReference(name); err != nil {
		return nil, err
	}
	path := s.path(name, lockFile)
	for {
		lock, err := durable.AcquireExisting(ctx, path, kind)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, s.notFound(name)
		}
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", name, err)
		}
		if lock.IsOf(path) {
			return lock, nil
		}
		lock.Release() // the volume was removed while we waited; there may be another one of its name
	}
}

// Fill puts content into a volume that is empty, and reports whether it did. idle says that no container can write to it
// at this moment; while it is asked, none can begin to. fill makes dir, which is not there, a copy of what is to be in it,
// with the owner and mode of the top; it may also leave it missing.
func (s *Store) Fill(ctx context.Context, name string, idle func() (bool, error), fill func(dir string) error) (bool, error) {
	v, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, s.notFound(name)
	}
	if err != nil {
		return false, err
	}
	place, err := v.Place()
	if err != nil {
		return false, err
	}
	if !place.Limited() {
		if empty, err := isEmpty(s.Path(name)); err != nil || !empty {
			return false, err
		}
	}
	lock, err := s.lock(ctx, name, durable.Exclusive)
	if err != nil {
		return false, err
	}
	defer lock.Release()
	if ok, err := idle(); err != nil || !ok {
		return false, err
	}
	if place.Limited() {
		return s.fillImage(ctx, name, place.Size, fill)
	}
	staging, err := s.fillDir(name)
	if err != nil {
		return false, err
	}
	done, err := s.replaceEmpty(name, staging, fill)
	if err != nil {
		err = fmt.Errorf("volume %s: %w", name, err)
	}
	if !done {
		err = errors.Join(err, safepath.RemoveAll(staging))
	}
	return done, err
}

// Replace puts other content in the place of a volume's, at once and whole. check has to have nothing against; while it is
// asked, and until all is done, no container begins to use the volume. fill is that of Fill.
func (s *Store) Replace(ctx context.Context, name string, check func() error, fill func(dir string) error) error {
	lock, err := s.lock(ctx, name, durable.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	v, err := s.read(name)
	if err != nil {
		return err
	}
	place, err := v.Place()
	if err == nil && !place.Here() && !place.Limited() {
		err = fmt.Errorf("volume %s: its content cannot be replaced: %w", name, ErrElsewhere)
	}
	if err != nil {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	if place.Limited() {
		if err := s.exchangeImage(ctx, name, place.Size, fill); err != nil {
			return fmt.Errorf("volume %s: %w", name, err)
		}
		return nil
	}
	staging, err := s.fillDir(name)
	if err == nil {
		err = fill(staging)
	}
	if err == nil {
		err = syncTree(staging)
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, staging, unix.AT_FDCWD, s.Path(name), unix.RENAME_EXCHANGE)
	}
	if err == nil {
		err = durable.SyncDir(s.path(name))
	}
	if err != nil {
		err = fmt.Errorf("volume %s: %w", name, err)
	}
	return errors.Join(err, safepath.RemoveAll(staging)) // what was, if all went well
}

// Stage makes a directory beside what containers see of a volume, on the same file system, for files that are to appear in
// it whole. The caller holds the volume until drop has removed the directory; what a crash leaves goes as other remains do.
func (s *Store) Stage(name string) (root *safepath.Root, drop func() error, err error) {
	dir := s.path(name, fillPrefix+RandomName()[:8])
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("volume %s: %w", name, err)
	}
	root, err = safepath.OpenRoot(dir)
	if err != nil {
		return nil, nil, errors.Join(err, os.Remove(dir))
	}
	return root, func() error { return errors.Join(root.Close(), safepath.RemoveAll(dir)) }, nil
}

// Flush makes what is in a volume last through a power failure, unless it goes with its container.
func (s *Store) Flush(name string) error {
	v, err := s.read(name)
	if err != nil || v.Owner != "" {
		return err
	}
	return syncTree(s.Path(name))
}

// Content is a path of what a volume holds, until close: see Place.Open. The caller holds the volume.
func (s *Store) Content(name string) (dir string, close func() error, err error) {
	v, err := s.read(name)
	if err != nil {
		return "", nil, err
	}
	place, err := s.PlaceOf(v)
	if err != nil {
		return "", nil, err
	}
	if place.Here() {
		return s.Path(name), func() error { return nil }, nil
	}
	if dir, close, err = place.Open(); err != nil {
		err = fmt.Errorf("volume %s: %w", name, err)
	}
	return dir, close, err
}

// Copy makes dir, which is not there or empty, a copy of what a volume holds, with the owner and mode of its top. The caller
// holds the volume.
func (s *Store) Copy(name, dir string) (err error) {
	content, done, err := s.Content(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	from, err := os.Open(content)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := safepath.CopyTree(int(from.Fd()), int(to.Fd()), true); err != nil {
		return fmt.Errorf("copy volume %s: %w", name, err)
	}
	return nil
}

// fillDir names a directory for new content of a volume whose lock is held, after those that a crash has left are gone.
func (s *Store) fillDir(name string) (string, error) {
	entries, err := os.ReadDir(s.path(name))
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), fillPrefix) {
			if err := safepath.RemoveAll(s.path(name, e.Name())); err != nil {
				return "", err
			}
		}
	}
	return s.path(name, fillPrefix+RandomName()[:8]), nil
}

func (s *Store) replaceEmpty(name, staging string, fill func(dir string) error) (bool, error) {
	v, err := s.read(name)
	if err != nil || len(v.Options) > 0 || v.OfPlugin() { // what is elsewhere is not ours to fill
		return false, err
	}
	if err := fill(staging); err != nil {
		return false, err
	}
	if _, err := os.Lstat(staging); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if v.Owner == "" {
		if err := syncTree(staging); err != nil {
			return false, err
		}
	}
	err = unix.Rename(staging, s.Path(name))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return false, nil // somebody has put something in it: that stays
	}
	if err != nil {
		return false, &os.LinkError{Op: "rename", Old: staging, New: s.Path(name), Err: err}
	}
	if v.Owner == "" {
		return true, durable.SyncDir(s.path(name))
	}
	return true, nil
}

func isEmpty(dir string) (bool, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) { // what we may not read is somebody's
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	names, _ := d.Readdirnames(1)
	return len(names) == 0, nil
}

// Remove removes a volume that check has nothing against. Nobody begins to use it meanwhile.
func (s *Store) Remove(ctx context.Context, name string, check func(Volume) error) (Volume, error) {
	lock, err := s.lock(ctx, name, durable.Exclusive)
	if err != nil {
		return Volume{}, err
	}
	defer lock.Release()
	v, err := s.read(name)
	if err != nil {
		return v, err
	}
	if err := check(v); err != nil {
		return v, err
	}
	old := s.path(oldPrefix + RandomName()[:16])
	if err := os.Rename(s.path(name), old); err != nil {
		return v, fmt.Errorf("volume %s: %w", name, err)
	}
	if err := s.flush(v); err != nil {
		return v, err
	}
	return v, safepath.RemoveAll(old)
}

// Sweep takes away what crashes have left of volumes that were being made, filled or removed.
func (s *Store) Sweep(ctx context.Context) error { return s.sweep(ctx, s.Leftovers) }

func (s *Store) sweep(ctx context.Context, find func(context.Context) ([]string, error)) error {
	left, err := find(ctx)
	for _, name := range left {
		err = errors.Join(err, safepath.RemoveAll(s.path(name)))
	}
	return err
}

// Leftovers lists the directories that Sweep would remove.
func (s *Store) Leftovers(ctx context.Context) ([]string, error) {
	left, err := s.unfinished(ctx)
	half, halfErr := s.halfFilled()
	return append(left, half...), errors.Join(err, halfErr)
}

// halfFilled lists what was to become content of volumes, where nobody is at work on it.
func (s *Store) halfFilled() ([]string, error) {
	list, err := filepath.Glob(s.path("[a-zA-Z0-9]*", fillPrefix+"*"))
	var left []string
	for _, path := range list {
		lock, lockErr := durable.TryAcquireExisting(filepath.Join(filepath.Dir(path), lockFile), durable.Exclusive)
		switch {
		case errors.Is(lockErr, durable.ErrLocked), errors.Is(lockErr, fs.ErrNotExist):
			continue
		case lockErr != nil:
			err = errors.Join(err, lockErr)
			continue
		}
		lock.Release()
		if rel, relErr := filepath.Rel(s.dir, path); relErr == nil {
			left = append(left, rel)
		}
	}
	return left, err
}

// unfinished lists the volumes that were being made or removed, where nobody is at work on them.
func (s *Store) unfinished(ctx context.Context) ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("volume store: %w", err)
	}
	var suspects []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) || strings.HasPrefix(e.Name(), oldPrefix) {
			suspects = append(suspects, e.Name())
		}
	}
	if len(suspects) == 0 {
		return nil, nil
	}
	comings, err := s.lockComings(ctx)
	if err != nil {
		return nil, err
	}
	defer comings.Release()
	var left []string
	for _, name := range suspects {
		lock, err := durable.TryAcquireExisting(s.path(name, lockFile), durable.Exclusive)
		switch {
		case errors.Is(err, durable.ErrLocked): // somebody is at work on it
			continue
		case err == nil:
			lock.Release()
		case !errors.Is(err, fs.ErrNotExist):
			return left, err
		}
		if _, err := os.Lstat(s.path(name)); err == nil {
			left = append(left, name)
		}
	}
	return left, nil
}
