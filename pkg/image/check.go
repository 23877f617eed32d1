package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/containr/containr/internal/durable"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Problem is something in a store that is not as it should be.
type Problem struct {
	// Path is the file that it is about, below the store; empty if it is about an image.
	Path string
	// Image is the name or digest of the image that it is about, if it is.
	Image string
	// Text says what is wrong, in words.
	Text string
	// Remedy says what repairing does about it; empty if nothing can be done here.
	Remedy string
}

// Check reads every blob and compares it with its digest, follows every name to the
// layers of its image, and looks for what crashes have left. With repair it does what
// the Remedy of each problem says: damaged blobs are removed, as a pull brings them back
// only then, and names that lead to no manifest go.
//
// The blobs are read while others use the store; it is locked for what comes after, which
// takes little time.
func (s *Store) Check(ctx context.Context, repair bool) ([]Problem, error) {
	c := checker{ctx: ctx, repair: repair, bad: map[digest.Digest]bool{}}
	c.store = &Store{dir: s.dir, Volatile: s.Volatile, damaged: c.bad}
	err := c.readBlobs()
	if err == nil {
		err = c.locked()
	}
	if err != nil {
		return c.problems, fmt.Errorf("check image store: %w", err)
	}
	return c.problems, nil
}

// checker is one check of a store.
type checker struct {
	ctx      context.Context
	store    *Store
	repair   bool
	bad      map[digest.Digest]bool // damaged blobs
	problems []Problem
}

// report notes a problem, and repairs it.
func (c *checker) report(p Problem, repair func() error) error {
	c.problems = append(c.problems, p)
	if !c.repair || repair == nil {
		return nil
	}
	return repair()
}

// readBlobs compares all blobs with their digests.
func (c *checker) readBlobs() error {
	blobs, err := c.store.Blobs()
	if err != nil {
		return err
	}
	for d := range blobs {
		err := c.store.copyBlob(c.ctx, d, func(int64) (io.Writer, error) { return io.Discard, nil })
		switch {
		case errors.Is(err, ErrCorrupt):
			c.bad[d] = true
		case err != nil && !errors.Is(err, ErrNotFound): // one that was removed meanwhile is fine
			return err
		}
	}
	return nil
}

// locked does what nobody may come between.
func (c *checker) locked() error {
	lock, err := c.store.lock(c.ctx, durable.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	for _, d := range slices.Sorted(maps.Keys(c.bad)) {
		p := Problem{Path: blobName(d), Text: "its content is not that of its digest", Remedy: "remove it; pull or load the image again"}
		if err := c.report(p, func() error { return os.Remove(c.store.blobPath(d)) }); err != nil {
			return err
		}
	}
	if err := c.names(); err != nil {
		return err
	}
	return c.garbage()
}

// names follows the names to what they mean.
func (c *checker) names() error {
	index, err := c.store.readIndex()
	if err != nil {
		return err
	}
	var kept []v1.Descriptor
	for _, e := range index.Manifests {
		gone, err := c.name(e)
		if err != nil {
			return err
		}
		if !gone {
			kept = append(kept, e)
		}
	}
	if !c.repair || len(kept) == len(index.Manifests) {
		return nil
	}
	index.Manifests = kept
	return c.store.writeIndex(index)
}

// name checks one entry of the index, and reports whether it leads nowhere.
func (c *checker) name(e v1.Descriptor) (bool, error) {
	label := nameOf(e)
	if label == "" {
		label = e.Digest.String()
	}
	images, err := c.store.present(nameOf(e), e)
	switch {
	case errors.Is(err, ErrArtifact):
		return false, nil
	case isContentError(err):
		p := Problem{Image: label, Text: fmt.Sprintf("it leads to no image: %v", err), Remedy: "remove the name"}
		return true, c.report(p, nil)
	case err != nil:
		return false, err
	}
	unfinished := c.store.unfinished(e)
	for _, i := range images {
		if unfinished[i.ManifestDigest] {
			continue // garbage, and named as such
		}
		for n, l := range i.Layers {
			if c.store.Has(l.Descriptor) && !c.bad[l.Descriptor.Digest] {
				continue
			}
			p := Problem{Image: label, Text: fmt.Sprintf("layer %d for %s, blob %s, is missing or damaged; pull or load the image again", n+1, i.Platform(), l.Descriptor.Digest)}
			if err := c.report(p, nil); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// garbage looks for what nothing leads to: what a killed process left.
func (c *checker) garbage() error {
	if err := c.leftovers(); err != nil {
		return err
	}
	index, err := c.store.readIndex()
	if err != nil {
		return err
	}
	doomed, err := c.store.unreachable(index)
	if err != nil {
		return err
	}
	for _, d := range doomed {
		if c.bad[d] {
			continue
		}
		c.problems = append(c.problems, Problem{Path: blobName(d), Text: "no name leads to it", Remedy: "remove it"})
	}
	if !c.repair {
		return nil
	}
	return c.store.collect(index, &Removed{})
}

// unreachable lists the blobs that neither names nor living leases reach. The caller
// holds the lock.
func (s *Store) unreachable(index *v1.Index) ([]digest.Digest, error) {
	live, err := s.live(index)
	if err != nil {
		return nil, err
	}
	blobs, err := s.Blobs()
	if err != nil {
		return nil, err
	}
	var doomed []digest.Digest
	for _, d := range slices.Sorted(maps.Keys(blobs)) {
		if !live[d] {
			doomed = append(doomed, d)
		}
	}
	return doomed, nil
}

// leftovers finds files that writers who are dead have left.
func (c *checker) leftovers() error {
	for _, pattern := range []string{filepath.Join(ingestDir, newPrefix+"*"), filepath.Join(leasesDir, "*"), indexFile + "*"} {
		paths, err := filepath.Glob(filepath.Join(c.store.dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := c.leftover(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) leftover(path string) error {
	name, err := filepath.Rel(c.store.dir, path)
	if err != nil || name == indexFile {
		return err
	}
	if filepath.Dir(name) != "." {
		alive, err := isLocked(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || alive {
			return err
		}
	} else if !durable.IsTemporary(name) {
		return nil
	}
	c.problems = append(c.problems, Problem{Path: name, Text: "a process that was killed left it", Remedy: "remove it"})
	return nil
}

// Blobs lists all blobs with their sizes in bytes.
func (s *Store) Blobs() (map[digest.Digest]int64, error) {
	all := map[digest.Digest]int64{}
	err := fs.WalkDir(os.DirFS(s.dir), blobsDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		d, err := ParseDigest(filepath.Base(filepath.Dir(path)) + ":" + e.Name())
		if err != nil {
			return nil // not a blob, not ours
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		all[d] = info.Size()
		return nil
	})
	return all, err
}

// Reach returns the digests of all that the targets lead to, whether it is present or not.
func (s *Store) Reach(targets ...v1.Descriptor) (map[digest.Digest]bool, error) {
	live := map[digest.Digest]bool{}
	return live, s.mark(live, targets...)
}
