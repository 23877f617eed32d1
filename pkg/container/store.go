package container

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containr/containr/internal/durable"
)

// Errors that callers of a Store tell apart.
var (
	ErrNotFound  = errors.New("no such container")
	ErrAmbiguous = errors.New("more than one container begins with this id")
	ErrNameInUse = errors.New("name is already in use")
)

// Store keeps containers as directories of plain files:
//
//	ROOT/containers/ID/   record.json spec.json state.json lock ...
//	RUN/containers/ID/    the same, for containers that end with their run
//	ROOT/names/NAME       a symbolic link whose text is the ID
//	ROOT/names.lock       held while a container or a name comes or goes
//
// A container's directory is made first, then its name, then, when everything
// about it is known, its record. The maker holds the directory's lock all the
// while. So a directory without a record is either being made (its lock is held)
// or was left by a crash (it is not), and a name that leads to no whole or
// growing container is free. Any number of processes may use one Store.
type Store struct {
	root, run string
}

// OpenStore opens the store with these two directories, which are made, for the
// owner alone, if they are missing.
func OpenStore(root, run string) (*Store, error) {
	s := &Store{root: root, run: run}
	for _, dir := range []string{s.kept(""), s.fleeting(""), s.name("")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("container store: %w", err)
		}
	}
	return s, nil
}

func (s *Store) kept(id string) string     { return filepath.Join(s.root, "containers", id) }
func (s *Store) fleeting(id string) string { return filepath.Join(s.run, "containers", id) }
func (s *Store) name(name string) string   { return filepath.Join(s.root, "names", name) }

// Dir returns the directory of the container with this full id; ErrNotFound if
// there is none.
func (s *Store) Dir(id string) (string, error) {
	for _, dir := range []string{s.fleeting(id), s.kept(id)} {
		if _, err := os.Lstat(dir); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("container %s: %w", id, ErrNotFound)
}

// Reservation is a container that is being made: its id, its name and its
// directory belong to this process, but nobody can find it yet. It ends with
// Commit or Cancel.
type Reservation struct {
	ID, Name string
	// Dir is the container's directory, for whatever belongs to it.
	Dir string

	store *Store
	lock  *durable.Lock
	files durable.Options
}

// Reserve begins a container. An empty name is made up. fleeting containers live
// in the directory that does not outlive a boot, and their files are not flushed
// to the disk.
//
// If another container has the name, the error is ErrNameInUse and says which.
func (s *Store) Reserve(ctx context.Context, id, name string, fleeting bool) (*Reservation, error) {
	r := &Reservation{ID: id, Name: name, Dir: s.kept(id), store: s, files: durable.Options{Volatile: fleeting}}
	if fleeting {
		r.Dir = s.fleeting(id)
	}
	if name != "" {
		if err := ValidateName(name); err != nil {
			return nil, err
		}
	}
	names, err := s.lockNames(ctx)
	if err != nil {
		return nil, err
	}
	defer names.Release()
	if err := os.Mkdir(r.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	if r.lock, err = durable.TryAcquire(filepath.Join(r.Dir, lockFile), durable.Exclusive); err != nil {
		return nil, errors.Join(fmt.Errorf("container %s: %w", id, err), os.RemoveAll(r.Dir))
	}
	if err := r.takeName(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.Dir), r.lock.Release())
	}
	return r, nil
}

// SpecFile is where Commit writes the Spec, as JSON.
func (r *Reservation) SpecFile() string { return SpecFile(r.Dir) }

// lockNames is held while containers and their names come and go, so that nobody
// takes a half-made directory for one that a crash left.
func (s *Store) lockNames(ctx context.Context) (*durable.Lock, error) {
	lock, err := durable.Acquire(ctx, filepath.Join(s.root, "names.lock"), durable.Exclusive)
	if err != nil {
		return nil, fmt.Errorf("container names: %w", err)
	}
	return lock, nil
}

// takeName links the name, or one that is made up. The caller holds the lock on
// names.
func (r *Reservation) takeName() error {
	if r.Name != "" {
		return r.store.link(r.Name, r.ID)
	}
	var err error
	for attempt := range 16 {
		r.Name = RandomName()
		if attempt >= 8 { // the plain names are mostly taken
			var suffix [3]byte
			rand.Read(suffix[:])
			r.Name += "_" + hex.EncodeToString(suffix[:])
		}
		if err = r.store.link(r.Name, r.ID); !errors.Is(err, ErrNameInUse) {
			return err
		}
	}
	return err
}

// link gives the name to the container. The caller holds the lock on names.
func (s *Store) link(name, id string) error {
	for {
		err := os.Symlink(id, s.name(name))
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		owner, err := os.Readlink(s.name(name))
		if err != nil {
			return err
		}
		if s.holds(owner, name) {
			return fmt.Errorf("container name %q: %w by container %s", name, ErrNameInUse, owner[:min(shortID, len(owner))])
		}
		if err := os.Remove(s.name(name)); err != nil {
			return err
		}
	}
}

// holds reports whether a name that leads to this full id is that container's. It is not if the
// container is gone, or has another name: who renamed it may have been killed.
func (s *Store) holds(owner, name string) bool {
	if r, err := s.load(owner); err == nil {
		return r.Name == name
	}
	return s.alive(owner)
}

// Alive reports whether the container with this full id exists, or is being made.
func (s *Store) Alive(id string) bool { return s.alive(id) }

// alive reports whether the container exists or is being made.
func (s *Store) alive(id string) bool {
	dir, err := s.Dir(id)
	if err != nil {
		return false
	}
	if _, err := os.Lstat(filepath.Join(dir, recordFile)); err == nil {
		return true
	}
	// Nothing is made there: somebody else may be removing the directory.
	lock, err := durable.TryAcquireExisting(filepath.Join(dir, lockFile), durable.Exclusive)
	if err != nil {
		return errors.Is(err, durable.ErrLocked)
	}
	// It may have been whole by the time its maker let go of the lock.
	_, err = os.Lstat(filepath.Join(dir, recordFile))
	lock.Release()
	return !errors.Is(err, fs.ErrNotExist) // what cannot be told is not taken for a leftover
}

// Commit writes the record, with which the container exists, in state Created.
// ID, Name and Version are filled in. If it fails the reservation still stands,
// to be cancelled.
func (r *Reservation) Commit(rec Record) (Record, error) {
	rec.Version, rec.ID, rec.Name = recordVersion, r.ID, r.Name
	if err := writeRecord(r.Dir, rec, r.files); err != nil {
		return Record{}, fmt.Errorf("container %s: %w", r.ID, err)
	}
	return rec, r.lock.Release()
}

// Cancel gives up the container: nothing of it stays. After Commit it does
// nothing.
func (r *Reservation) Cancel(ctx context.Context) error {
	if _, err := os.Lstat(filepath.Join(r.Dir, recordFile)); err == nil {
		return nil
	}
	names, err := r.store.lockNames(ctx)
	if err != nil {
		return err
	}
	err = r.store.forget(r.ID, r.Name, r.Dir)
	return errors.Join(err, names.Release(), os.RemoveAll(r.Dir), r.lock.Release())
}

// forget takes away the record and the name. The record goes first, so that a
// crash in between leaves what a crash while making it would leave. The caller
// holds the lock on names, and removes the directory when it has let go of it:
// that can take long, and is done once nobody can find the container any more.
func (s *Store) forget(id, name, dir string) error {
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(s.unlink(name, id), s.finishRename(id, dir))
}

// unlink takes a name away if it leads to this container. The caller holds the lock on names.
func (s *Store) unlink(name, id string) error {
	if owner, err := os.Readlink(s.name(name)); err != nil || owner != id {
		return nil
	}
	return os.Remove(s.name(name))
}

// Remove deletes the container with this full id: its name, its record and its
// directory. The caller has seen to it that nothing runs in it or is mounted
// below it. rest, if it is not nil, removes what else there is of the container, after the
// record and before the directory: whoever is killed over it leaves a directory to Sweep, which
// does it again.
func (s *Store) Remove(ctx context.Context, id string, rest func() error) error {
	names, err := s.lockNames(ctx)
	if err != nil {
		return err
	}
	dir, err := s.unlist(id)
	if err := errors.Join(err, names.Release()); err != nil {
		return err
	}
	if rest != nil {
		if err := rest(); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// unlist forgets a whole container and returns the directory that is left of it.
func (s *Store) unlist(id string) (string, error) {
	r, err := s.load(id)
	if err != nil {
		return "", err
	}
	dir, err := s.Dir(id)
	if err != nil {
		return "", err
	}
	return dir, s.forget(id, r.Name, dir)
}

// Rename gives the container with this full id another name.
func (s *Store) Rename(ctx context.Context, id, name string) error {
	if err := ValidateName(name); err != nil {
		return err
	}
	names, err := s.lockNames(ctx)
	if err != nil {
		return err
	}
	defer names.Release()
	r, err := s.load(id)
	if err != nil {
		return err
	}
	dir, err := s.Dir(id)
	if err != nil {
		return err
	}
	if name == r.Name {
		return fmt.Errorf("container %s: this is its name already", name)
	}
	if err := s.finishRename(id, dir); err != nil {
		return err
	}
	o := durable.Options{Volatile: dir == s.fleeting(id)}
	if err := writeJSON(filepath.Join(dir, renameFile), []string{r.Name, name}, o); err != nil {
		return fmt.Errorf("container %s: %w", id, err)
	}
	// Two names lead to the container now. The one in its record counts, so it is renamed at the moment when
	// that is written.
	err = s.link(name, id)
	if err == nil {
		r.Name = name
		if err = writeJSON(filepath.Join(dir, recordFile), r, o); err != nil {
			err = fmt.Errorf("container %s: %w", id, err)
		}
	}
	return errors.Join(err, s.finishRename(id, dir))
}

// finishRename takes away the name that does not count of the two that a renaming, which may have been killed, had.
// The caller holds the lock on names.
func (s *Store) finishRename(id, dir string) error {
	note := filepath.Join(dir, renameFile)
	var names []string
	if err := readJSON(note, &names); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, name := range names {
		if r, err := s.load(id); err == nil && r.Name == name {
			continue
		}
		if err := s.unlink(name, id); err != nil {
			return err
		}
	}
	return os.Remove(note)
}

// Change changes what may change in the record of the container with this full id, and in its
// Spec: limits and the restart policy. If change fails, nothing is written.
func (s *Store) Change(ctx context.Context, id string, change func(*Record) error) (Record, error) {
	names, err := s.lockNames(ctx) // the one of Rename, which writes the record too
	if err != nil {
		return Record{}, err
	}
	defer names.Release()
	r, err := s.Get(id)
	if err != nil {
		return Record{}, err
	}
	dir, err := s.Dir(id)
	if err != nil {
		return Record{}, err
	}
	if err := change(&r); err != nil {
		return Record{}, err
	}
	o := durable.Options{Volatile: dir == s.fleeting(id)}
	// The specification first: it is what the next start does.
	err = writeJSON(filepath.Join(dir, specFile), r.Spec, o)
	if err == nil {
		err = writeJSON(filepath.Join(dir, recordFile), r, o)
	}
	if err != nil {
		return Record{}, fmt.Errorf("container %s: %w", id, err)
	}
	return r, nil
}

// load reads the record of a full id.
func (s *Store) load(id string) (Record, error) {
	dir, err := s.Dir(id)
	if err != nil {
		return Record{}, err
	}
	var r Record
	err = readRecord(dir, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, fmt.Errorf("container %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Record{}, err
	}
	return r, nil
}

// Get finds a container by its name, its id, or the beginning of its id if no
// other container's begins like that. The record comes with its Spec.
func (s *Store) Get(ref string) (Record, error) {
	id, err := s.resolve(ref)
	if err != nil {
		return Record{}, err
	}
	r, err := s.load(id)
	if err != nil {
		return Record{}, err
	}
	dir, err := s.Dir(id)
	if err != nil {
		return Record{}, err
	}
	if err := readJSON(filepath.Join(dir, specFile), &r.Spec); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Record{}, err
	}
	return r, nil
}

func (s *Store) resolve(ref string) (string, error) {
	if name := strings.TrimPrefix(ref, "/"); ValidateName(name) == nil { // docker's names begin with it
		if id, err := os.Readlink(s.name(name)); err == nil {
			if r, err := s.load(id); err != nil || r.Name == name { // else it is being renamed: see Rename
				return id, nil
			}
		}
	}
	ids, err := s.ids()
	if err != nil {
		return "", err
	}
	var found []string
	for _, id := range ids {
		if id == ref {
			return id, nil
		}
		if ref != "" && strings.HasPrefix(id, ref) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("container %s: %w", ref, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("container %s: %w", ref, ErrAmbiguous)
}

// State reads what the container with this full id is doing.
func (s *Store) State(id string) (State, error) {
	var st State
	dir, err := s.Dir(id)
	if err != nil {
		return State{}, err
	}
	err = readJSON(filepath.Join(dir, stateFile), &st)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("container %s: %w", id, ErrNotFound)
	}
	return st, err
}

// Update changes the state of the container with this full id: change is called
// with the present one, under the container's lock, and what it leaves is
// written. If change fails, nothing is.
func (s *Store) Update(ctx context.Context, id string, change func(*State) error) error {
	dir, err := s.Dir(id)
	if err != nil {
		return err
	}
	lock, err := durable.Acquire(ctx, filepath.Join(dir, lockFile), durable.Exclusive)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("container %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("container %s: %w", id, err)
	}
	defer lock.Release()
	st, err := s.State(id)
	if err != nil {
		return err
	}
	if err := change(&st); err != nil {
		return err
	}
	o := durable.Options{Volatile: dir == s.fleeting(id)}
	if err := writeJSON(filepath.Join(dir, stateFile), st, o); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("container %s: %w", id, ErrNotFound) // it has just been removed
	} else if err != nil {
		return fmt.Errorf("container %s: %w", id, err)
	}
	return nil
}

// Attend marks the container with this full id, which is being made, as looked after by
// this process, until the lock is released or the process dies: it waits for its end,
// and takes away what must not stay. The error wraps durable.ErrLocked if another process
// attends to it.
func (s *Store) Attend(id string) (*durable.Lock, error) {
	dir, err := s.Dir(id)
	if err != nil {
		return nil, err
	}
	return durable.TryAcquire(filepath.Join(dir, attendFile), durable.Exclusive)
}

// Await is Attend for a container that was made before. It waits until no other process
// attends to it, or ctx ends. The error wraps fs.ErrNotExist if the container is gone, or
// goes away at this moment.
func (s *Store) Await(ctx context.Context, id string) (*durable.Lock, error) {
	dir, err := s.Dir(id)
	if err != nil {
		return nil, err
	}
	return durable.AcquireExisting(ctx, filepath.Join(dir, attendFile), durable.Exclusive)
}

// TakeOver is Await that does not wait: if another process attends to the container, the
// error wraps durable.ErrLocked.
func (s *Store) TakeOver(id string) (*durable.Lock, error) {
	dir, err := s.Dir(id)
	if err != nil {
		return nil, err
	}
	return durable.TryAcquireExisting(filepath.Join(dir, attendFile), durable.Exclusive)
}

// Sweep removes what crashes left: directories without a record that nobody is
// making. It returns their ids. rest, if it is not nil, removes what else there is of one,
// before its directory, as for Remove. Those that cannot be removed are a LeftError each, and keep no other.
func (s *Store) Sweep(ctx context.Context, rest func(id string) error) ([]string, error) {
	names, err := s.lockNames(ctx)
	if err != nil {
		return nil, err
	}
	defer names.Release()
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var swept []string
	var left []error
	for _, id := range ids {
		if s.alive(id) {
			continue
		}
		dir, err := s.Dir(id)
		if err != nil {
			continue
		}
		err = s.forget(id, s.nameOf(id), dir)
		if err == nil && rest != nil {
			err = rest(id)
		}
		if err == nil {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			left = append(left, &LeftError{id, err})
			continue
		}
		swept = append(swept, id)
	}
	return swept, errors.Join(left...)
}

// LeftError says that what a crash left of a container, or of its making, cannot be removed.
type LeftError struct {
	ID  string
	Err error
}

// Error says so.
func (e *LeftError) Error() string {
	return fmt.Sprintf("what is left of container %s: %v", e.ID, e.Err)
}

// Unwrap is why.
func (e *LeftError) Unwrap() error { return e.Err }

// SweepNames removes names that lead to no container: to those of --rm that were gone after a restart of the machine.
func (s *Store) SweepNames(ctx context.Context) error {
	names, err := s.lockNames(ctx)
	if err != nil {
		return err
	}
	defer names.Release()
	entries, err := os.ReadDir(s.name(""))
	for _, e := range entries {
		owner, linkErr := os.Readlink(s.name(e.Name()))
		if linkErr == nil && !s.holds(owner, e.Name()) {
			err = errors.Join(err, os.Remove(s.name(e.Name())))
		}
	}
	return err
}

// nameOf finds the name that leads to id, for a container without a record.
func (s *Store) nameOf(id string) string {
	entries, _ := os.ReadDir(s.name(""))
	for _, e := range entries {
		if owner, err := os.Readlink(s.name(e.Name())); err == nil && owner == id {
			return e.Name()
		}
	}
	return ""
}
