package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// RemoveOptions says how an image is removed.
type RemoveOptions struct {
	// Force removes an image that was given by id even if it has several names.
	Force bool
	// KeepContent leaves the blobs until the next collection of garbage.
	KeepContent bool
	// InUse is asked before an image loses its last name. An error of it keeps
	// the image, and is returned together with ErrInUse. Nil means: not in use.
	// It is called with the store locked and must not change the store.
	InUse func(*Image) error
}

// Removed says what went.
type Removed struct {
	Untagged []string        // names that are no more
	Deleted  []digest.Digest // blobs
	Freed    int64           // bytes that the blobs took on disk, in whole blocks
}

// onDisk returns what a file takes on disk.
func onDisk(info fs.FileInfo) int64 {
	const block = 512 // the unit of st_blocks, stat(2)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * block
	}
	return info.Size()
}

// Remove takes away a name; with the last name go the image and all blobs that
// nothing else needs. Given an id, it takes away the image's name, or all of
// them if Force is set (else ErrAmbiguous). Errors are those of Resolve, and
// ErrInUse; they leave the store as it was.
func (s *Store) Remove(ctx context.Context, name string, o RemoveOptions) (*Removed, error) {
	lock, err := s.lock(ctx, durable.Exclusive)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	doomed, err := s.doomed(index, name, o)
	if err != nil {
		return nil, fmt.Errorf("remove: %w", err)
	}
	removed := &Removed{}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(e v1.Descriptor) bool {
		gone := slices.ContainsFunc(doomed, func(d v1.Descriptor) bool { return d.Digest == e.Digest && nameOf(d) == nameOf(e) })
		if gone && nameOf(e) != "" {
			removed.Untagged = append(removed.Untagged, nameOf(e))
		}
		return gone
	})
	if err := s.writeIndex(index); err != nil {
		return nil, err
	}
	if o.KeepContent {
		return removed, nil
	}
	return removed, s.collect(index, removed)
}

// doomed returns the entries that are to go, if they may.
func (s *Store) doomed(index *v1.Index, name string, o RemoveOptions) ([]v1.Descriptor, error) {
	entries, err := s.findIn(index, name)
	if err != nil {
		return nil, err
	}
	if entries.byID {
		if _, err := s.choose(entries, name, AnyPlatform); err != nil {
			return nil, err
		}
		if len(entries.found) > 1 && !o.Force {
			var names []string
			for _, e := range entries.found {
				names = append(names, nameOf(e))
			}
			return nil, fmt.Errorf("image %q has several names (%s): %w", cut(name), strings.Join(names, ", "), ErrAmbiguous)
		}
	}
	for _, e := range entries.found {
		if err := s.checkUnused(index, e, entries.found, o); err != nil {
			return nil, err
		}
	}
	return entries.found, nil
}

// checkUnused asks the predicate about the images of an entry if no entry that
// stays has the same target.
func (s *Store) checkUnused(index *v1.Index, entry v1.Descriptor, doomed []v1.Descriptor, o RemoveOptions) error {
	count := func(entries []v1.Descriptor) (n int) {
		for _, e := range entries {
			if e.Digest == entry.Digest {
				n++
			}
		}
		return n
	}
	if o.InUse == nil || count(index.Manifests) > count(doomed) {
		return nil
	}
	images, _ := s.present(nameOf(entry), entry) // one that is damaged cannot be used
	for _, image := range images {
		if err := o.InUse(image); err != nil {
			return fmt.Errorf("image %s: %w: %w", cut(nameOf(entry)), ErrInUse, err)
		}
	}
	return nil
}

// GC removes all blobs that no name and no living lease reaches, and what crashes
// left under ingest/ and leases/. It may run beside anything else.
func (s *Store) GC(ctx context.Context) (*Removed, error) {
	lock, err := s.lock(ctx, durable.Exclusive)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	removed := &Removed{}
	return removed, s.collect(index, removed)
}

// collect marks and sweeps. The caller holds the exclusive lock, so that there
// are no new names, leases or protected digests meanwhile.
func (s *Store) collect(index *v1.Index, removed *Removed) error {
	live, err := s.live(index)
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	if err := s.sweepBlobs(live, removed); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	if err := s.sweepIngest(PartialAge); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return s.sweepTemporaries()
}

// live is what names and living leases lead to. The caller holds the lock.
func (s *Store) live(index *v1.Index) (map[digest.Digest]bool, error) {
	live := map[digest.Digest]bool{}
	protected, err := s.protectedDigests(nil)
	if err != nil {
		return nil, err
	}
	for _, d := range protected {
		live[d] = true
	}
	return live, s.mark(live, index.Manifests...)
}

// mark adds descriptors and what they lead to. What is absent, or damaged so
// that it leads nowhere, has no children. Each manifest is read once, however many
// list it, and each index once for each target: of indexes that list the next one
// twice, forty make a million million ways.
func (s *Store) mark(live map[digest.Digest]bool, targets ...v1.Descriptor) error {
	read := map[digest.Digest]bool{}
	for _, target := range targets {
		if err := s.markTree(live, read, target); err != nil {
			return err
		}
	}
	return nil
}

// markTree is mark for one target. read holds the manifests, and the targets, whose children are marked. What is
// unfinished is so for this target alone, therefore indexes in it are not among them.
func (s *Store) markTree(live, read map[digest.Digest]bool, target v1.Descriptor) error {
	live[target.Digest] = true
	if read[target.Digest] {
		return nil
	}
	unfinished := s.unfinished(target)
	here := map[digest.Digest]bool{}
	for todo := []v1.Descriptor{target}; len(todo) > 0; {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		live[d.Digest] = true
		if here[d.Digest] || IsManifest(d.MediaType) && read[d.Digest] || !IsIndex(d.MediaType) && !IsManifest(d.MediaType) {
			continue
		}
		data, err := s.ReadBlob(d, MaxManifestSize)
		if isContentError(err) {
			continue // of this length: another entry may have the right one
		}
		if err != nil {
			return err
		}
		here[d.Digest] = true
		read[d.Digest] = read[d.Digest] || IsManifest(d.MediaType) || d.Digest == target.Digest
		for _, c := range children(data) {
			if !unfinished[c.Digest] {
				todo = append(todo, c)
			}
		}
	}
	return nil
}

// unfinished returns the manifests in an index, and in indexes in it, of which something is absent that they list, while
// another one is whole. That is what a pull or a load leaves that is cut off, if the index has a name already because of
// another platform: with the manifest the platform would seem to be here. If none is whole, what is here is all that is
// known of the image, and stays.
func (s *Store) unfinished(target v1.Descriptor) map[digest.Digest]bool {
	unfinished, whole := map[digest.Digest]bool{}, false
	read := map[digest.Digest]bool{}
	for todo := []v1.Descriptor{target}; len(todo) > 0; {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if read[d.Digest] || !IsIndex(d.MediaType) && (!IsManifest(d.MediaType) || d.Digest == target.Digest) {
			continue
		}
		data, err := s.ReadBlob(d, MaxManifestSize)
		if err != nil {
			continue // it is absent, and what leads to it leads nowhere
		}
		read[d.Digest] = true
		switch {
		case IsIndex(d.MediaType):
			todo = append(todo, children(data)...)
		case s.hasAll(children(data)):
			whole = true
		default:
			unfinished[d.Digest] = true
		}
	}
	if !whole {
		return nil
	}
	return unfinished
}

// hasAll reports whether all blobs are here, if perhaps damaged, that a registry has: layers of other places have
// addresses.
func (s *Store) hasAll(blobs []v1.Descriptor) bool {
	for _, d := range blobs {
		if d.Digest == "" || len(d.URLs) > 0 || s.damaged[d.Digest] {
			continue
		}
		if checkDescriptor(d) != nil {
			return false
		}
		if _, err := os.Lstat(s.blobPath(d.Digest)); errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// isContentError reports whether an error is about what a blob is, and not about
// reading it: reading may succeed the next time.
func isContentError(err error) bool {
	for _, target := range []error{ErrNotFound, ErrCorrupt, ErrLimit, ErrInvalid} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// children returns whatever descriptors an index or manifest holds. It is less
// strict than decoding: a layout may hold signatures and other artifacts, which
// are not images for us to run, nor garbage for us to remove.
func children(data []byte) []v1.Descriptor {
	var d struct {
		Manifests []v1.Descriptor `json:"manifests"`
		Config    v1.Descriptor   `json:"config"`
		Layers    []v1.Descriptor `json:"layers"`
	}
	if checkJSON(data, "manifest", MaxManifestSize) != nil || json.Unmarshal(data, &d) != nil {
		return nil
	}
	return append(append(d.Manifests, d.Layers...), d.Config)
}

// sweepBlobs removes blobs that are not live.
func (s *Store) sweepBlobs(live map[digest.Digest]bool, removed *Removed) error {
	return fs.WalkDir(os.DirFS(s.dir), blobsDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		algorithm, encoded := filepath.Base(filepath.Dir(path)), e.Name()
		d, err := ParseDigest(algorithm + ":" + encoded)
		if err != nil || live[d] {
			return nil // not a blob, not ours
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(s.dir, path)); err != nil {
			return err
		}
		removed.Deleted = append(removed.Deleted, d)
		removed.Freed += onDisk(info)
		return nil
	})
}

// PartialAge is how long a part of a blob is kept for who may take it up again.
const PartialAge = 24 * time.Hour

// DropPartials removes all parts of blobs that nobody works on, however young they are.
func (s *Store) DropPartials(ctx context.Context) error {
	lock, err := s.lock(ctx, durable.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	return s.sweepIngest(0)
}

// sweepIngest removes files whose writer is gone: those that can be taken up again once
// they have an age.
func (s *Store) sweepIngest(age time.Duration) error {
	dir := filepath.Join(s.dir, ingestDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !strings.HasPrefix(e.Name(), newPrefix) && info.Size() > 0 && time.Since(info.ModTime()) < age {
			continue
		}
		if err := removeUnlocked(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeUnlocked removes a file that nobody has locked, and keeps it locked until
// it is gone: who waits for the lock finds out that the name is.
func removeUnlocked(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = durable.TryLockFile(f, durable.Exclusive)
	if errors.Is(err, durable.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	ours, err := f.Stat()
	if err != nil {
		return err
	}
	// Committed, and replaced by a new file of that name, since it was opened?
	if current, err := os.Stat(path); err != nil || !os.SameFile(ours, current) {
		return nil
	}
	return os.Remove(path)
}

// sweepTemporaries removes what killed writers of index.json left. Nobody writes
// it while the store is locked.
func (s *Store) sweepTemporaries() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if durable.IsTemporary(e.Name()) && strings.HasPrefix(e.Name(), indexFile) {
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
