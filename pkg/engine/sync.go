package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry"
)

// A synchronisation is a list of copies, which is made in advance: what cannot be named at the target is refused before anything
// is copied. Each image passes through the store and stays there until the next one is copied, so that what two of them have in
// common is fetched once.

// InList is the kind of a file that lists what registries have: skopeo's, in YAML.
const InList = "yaml"

// ErrSync says that images cannot be copied so.
var ErrSync = errors.New("cannot be synchronised")

// ParseSyncPlaces reads where images come from, docker://REPOSITORY[:TAG], dir:DIR or yaml:FILE, and where they go to,
// docker://PREFIX or dir:DIR.
func ParseSyncPlaces(from, to string) (source, target Place, err error) {
	if file, ok := strings.CutPrefix(from, InList+":"); ok {
		source, err = Place{Kind: InList, Path: file}, checkPath(from, file)
	} else {
		source, err = ParsePlace(from)
	}
	if err != nil {
		return source, target, err
	}
	if target, err = ParsePlace(to); err != nil {
		return source, target, err
	}
	switch {
	case source.Kind != InList && source.Kind != InRegistry && source.Kind != InDirectory:
		return source, target, fmt.Errorf("%s: %w: images come from docker://REPOSITORY, dir:DIR or yaml:FILE", from, ErrPlace)
	case target.Kind != InRegistry && target.Kind != InDirectory:
		return source, target, fmt.Errorf("%s: %w: images go to docker://PREFIX or dir:DIR", to, ErrPlace)
	case source.Kind == InDirectory && target.Kind == InDirectory:
		return source, target, fmt.Errorf("%s: %w: from a directory they go to a registry; `cp -r` copies a directory", to, ErrPlace)
	}
	return source, target, nil
}

// SyncRequest asks for all images of a place to be copied, each under a name of its own.
type SyncRequest struct {
	RegistryAccess
	// From and To are as ParseSyncPlaces returns them.
	From, To Place
	// Scoped keeps all of an image's name below the target, not its last component alone.
	Scoped bool
	// AllPlatforms copies all platforms, from a registry to a registry.
	AllPlatforms bool
	// KeepGoing copies the others after one that failed.
	KeepGoing bool
	// DryRun copies nothing.
	DryRun bool
	// Copied is told of each image that was copied, or would be; then without a digest.
	Copied func(Synced) error
	// Progress, if set, is told how far each blob is.
	Progress func(registry.Progress)
}

// Synced is an image or artifact that was copied.
type Synced struct {
	From, To Place
	Digest   digest.Digest
	// Skipped says why it was not: it cannot be at such a place.
	Skipped error
}

// String is the place as ParsePlace reads it.
func (p Place) String() string {
	switch p.Kind {
	case InRegistry:
		return p.Kind + "://" + p.Name
	case InStore, InContainersStorage, InDockerDaemon:
		return p.Kind + ":" + p.Name
	}
	if p.Name == "" {
		return p.Kind + ":" + p.Path
	}
	return p.Kind + ":" + p.Path + ":" + p.Name
}

// syncItem is one image to be copied.
type syncItem struct {
	from, to Place
	access   *RegistryAccess
	// name is all of its name: domain, path and tag of one in a registry, path below the directory of one in it.
	name string
}

// Sync copies images.
func (e *Engine) Sync(ctx context.Context, r SyncRequest) error {
	if r.AllPlatforms && r.To.Kind == InDirectory {
		return fmt.Errorf("sync to %s: %w: a directory is for one platform", r.To, ErrSync)
	}
	items, err := e.syncItems(ctx, r)
	if err == nil {
		err = r.aim(items)
	}
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	var failures []error
	held := func(context.Context) error { return nil }
	for _, item := range items {
		var drop func(context.Context) error
		drop, err := e.syncOne(ctx, r, item)
		if drop != nil {
			err = errors.Join(err, held(context.WithoutCancel(ctx)))
			held = drop
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("sync %s: %w", item.from, err))
			if !r.KeepGoing || ctx.Err() != nil {
				break
			}
		}
	}
	return errors.Join(append(failures, held(context.WithoutCancel(ctx)))...)
}

// syncOne copies one image, and returns what removes it from the store.
func (e *Engine) syncOne(ctx context.Context, r SyncRequest, item syncItem) (func(context.Context) error, error) {
	if r.DryRun {
		return nil, r.Copied(Synced{From: item.from, To: item.to})
	}
	if item.to.Kind == InDirectory {
		if err := os.MkdirAll(item.to.Path, 0o755); err != nil {
			return nil, err
		}
	}
	d, drop, err := e.copyImage(ctx, CopyRequest{RegistryAccess: r.RegistryAccess, Source: item.access, From: item.from, To: item.to,
		AllPlatforms: r.AllPlatforms, Progress: r.Progress})
	if item.to.Kind == InDirectory && errors.Is(err, image.ErrArtifact) {
		return drop, r.Copied(Synced{From: item.from, To: item.to, Skipped: err})
	}
	if err == nil {
		err = r.Copied(Synced{From: item.from, To: item.to, Digest: d})
	}
	return drop, err
}

// aim names the target of each image.
func (r SyncRequest) aim(items []syncItem) error {
	taken := map[string]Place{}
	for i := range items {
		item := &items[i]
		name := item.name
		if !r.Scoped {
			name = path.Base(name)
		}
		if r.To.Kind == InDirectory {
			item.to = Place{Kind: InDirectory, Path: filepath.Join(r.To.Path, name)}
		} else {
			item.to = Place{Kind: InRegistry, Name: strings.TrimSuffix(r.To.Name, "/") + "/" + name}
			if _, err := image.ParseReference(item.to.Name); err != nil {
				return fmt.Errorf("%s: %w", item.from, err)
			}
		}
		if other, ok := taken[item.to.String()]; ok {
			return fmt.Errorf("%s and %s: %w: both would be %s (--scoped keeps their whole names)", other, item.from, ErrSync, item.to)
		}
		taken[item.to.String()] = item.from
	}
	return nil
}

// syncItems lists what is to be copied.
func (e *Engine) syncItems(ctx context.Context, r SyncRequest) ([]syncItem, error) {
	switch r.From.Kind {
	case InDirectory:
		return listDirectory(r.From.Path)
	case InList:
		list, err := readSyncList(r.From.Path)
		if err != nil {
			return nil, err
		}
		return e.listed(ctx, list, r.RegistryAccess)
	}
	ref, err := image.ParseReference(r.From.Name)
	if err != nil {
		return nil, err
	}
	if hasSelector(r.From.Name) {
		return []syncItem{itemOf(ref, nil)}, nil
	}
	return e.allTags(ctx, ref, nil, r.RegistryAccess, func(string) bool { return true })
}

// hasSelector says whether a reference says which image of a repository is meant.
func hasSelector(name string) bool {
	return strings.Contains(name, "@") || strings.Contains(path.Base(name), ":")
}

// itemOf is an image in a registry.
func itemOf(ref image.Reference, access *RegistryAccess) syncItem {
	name := ref.Name() + ":" + ref.Tag
	if ref.Digest != "" {
		name = ref.Name() + "@" + ref.Digest.String()
	}
	return syncItem{from: Place{Kind: InRegistry, Name: name}, name: name, access: access}
}

// allTags are the images of a repository whose tags are wanted.
func (e *Engine) allTags(ctx context.Context, ref image.Reference, own *RegistryAccess, access RegistryAccess, wanted func(string) bool) ([]syncItem, error) {
	if own != nil {
		access = *own
	}
	tags, err := e.ListTags(ctx, TagsRequest{RegistryAccess: access, Repository: ref.Name()})
	if err != nil {
		return nil, err
	}
	var items []syncItem
	for _, tag := range tags {
		if wanted(tag) {
			ref.Tag, ref.Digest = tag, ""
			items = append(items, itemOf(ref, own))
		}
	}
	if items == nil {
		return nil, fmt.Errorf("repository %s: none of its %d tags is wanted: %w", ref.Familiar(), len(tags), image.ErrNotFound)
	}
	return items, nil
}

// listDirectory finds the directories with images, as skopeo and Sync write them.
func listDirectory(root string) (items []syncItem, err error) {
	err = filepath.WalkDir(root, func(dir string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if !image.IsFlat(dir) {
			return nil
		}
		name, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		if name == "." {
			name = filepath.Base(root)
		}
		items = append(items, syncItem{from: Place{Kind: InDirectory, Path: dir}, name: filepath.ToSlash(name)})
		return fs.SkipDir
	})
	if err == nil && items == nil {
		err = fmt.Errorf("directory %s: there is no image in it, as skopeo and containr write them: %w", root, image.ErrNotFound)
	}
	return items, err
}
