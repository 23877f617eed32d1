package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/snapshot"
)

// DiskUsage is what the state root takes on disk. The parts add up to what du(1) says of it.
type DiskUsage struct {
	Parts      []UsedPart
	Images     []UsedImage
	Containers []UsedContainer
	Volumes    []UsedVolume
	// Closed are directories that we may not look into, of other ids: what is in them is not counted.
	Closed []string
}

// Kinds of UsedPart, in docker's words where it has them.
const (
	UsedImages     = "Images"
	UsedLayers     = "Unpacked Layers"
	UsedContainers = "Containers"
	UsedVolumes    = "Local Volumes"
	UsedBuilds     = "Build Cache"
	UsedOther      = "Other"
)

// UsedPart is one kind of things below the state root.
type UsedPart struct {
	Type string
	// Total and Active count them; active ones are images of containers, and containers that run.
	Total, Active int
	// Bytes is what they take on disk, in whole blocks as the file system counts. Reclaimable is what is left of it if
	// nothing but active things and containers stays.
	Bytes, Reclaimable int64
}

// UsedImage is one image.
type UsedImage struct {
	Name string // empty if it has none
	ID   digest.Digest
	// Bytes is the size of its content; Shared is how many of them other images have too.
	Bytes, Shared int64
	Containers    int
}

// UsedContainer is one container.
type UsedContainer struct {
	ID, Name, Image string
	Status          container.Status
	// Bytes is what it takes on disk without its image.
	Bytes int64
}

// DiskUsage measures the state root. What is in memory (the directory for what does not outlive a boot, unless it is
// below the state root) is not in it, nor what mounted images show.
func (e *Engine) DiskUsage() (*DiskUsage, error) {
	m, err := measure(e.root)
	if err != nil {
		return nil, err
	}
	listed, err := e.Images()
	if err != nil {
		return nil, err
	}
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	if err != nil {
		return nil, err
	}
	u := &DiskUsage{Closed: m.closed}
	made, err := e.usedContainers(u, m, records)
	if err != nil {
		return nil, err
	}
	images, err := e.usedImagesOf(u, m, listed, records)
	if err != nil {
		return nil, err
	}
	layers, err := e.usedLayers(m)
	if err != nil {
		return nil, err
	}
	images.Bytes, layers.Bytes, made.Bytes = m.parts[UsedImages], m.parts[UsedLayers], m.parts[UsedContainers]
	u.Parts = []UsedPart{images, layers, made}
	volumes, err := e.usedVolumes(u, m)
	if err != nil {
		return nil, err
	}
	volumes.Bytes = m.parts[UsedVolumes]
	u.Parts = append(u.Parts, volumes)
	for _, kind := range []string{UsedBuilds, UsedOther} {
		u.Parts = append(u.Parts, UsedPart{Type: kind, Bytes: m.parts[kind]})
	}
	return u, nil
}

// usedContainers fills in the containers, and returns their sum but for the bytes on disk.
func (e *Engine) usedContainers(u *DiskUsage, m *measured, records []container.Record) (UsedPart, error) {
	part := UsedPart{Type: UsedContainers}
	containers, err := e.containers()
	if err != nil {
		return part, err
	}
	for _, r := range records {
		st, err := containers.State(r.ID)
		if errors.Is(err, container.ErrNotFound) {
			continue
		}
		if err != nil {
			return part, err
		}
		part.Total++
		if st.Status == container.Exited || st.Status == container.Created {
			part.Reclaimable += m.ids[r.ID]
		} else {
			part.Active++
		}
		u.Containers = append(u.Containers, UsedContainer{ID: r.ID, Name: r.Name, Image: r.Config.Image, Status: st.Status, Bytes: m.ids[r.ID]})
	}
	return part, nil
}

// usedImagesOf fills in the images, and returns their sum but for the bytes on disk.
func (e *Engine) usedImagesOf(u *DiskUsage, m *measured, listed []image.Listed, records []container.Record) (UsedPart, error) {
	part := UsedPart{Type: UsedImages}
	store, err := e.images()
	if err != nil {
		return part, err
	}
	blobs, err := store.Blobs()
	if err != nil {
		return part, err
	}
	made := map[string]int{}
	for _, r := range records {
		made[r.ConfigDigest]++
	}
	owners := ownersOf(listed)
	var active []v1.Descriptor
	seen := map[digest.Digest]bool{}
	for _, l := range listed {
		inUse := false
		for _, i := range l.Images {
			used := UsedImage{Name: l.Name, ID: i.ConfigDigest, Containers: made[i.ConfigDigest.String()]}
			for _, d := range blobsOf(i) {
				used.Bytes += blobs[d]
				if len(owners[d]) > 1 {
					used.Shared += blobs[d]
				}
			}
			u.Images = append(u.Images, used)
			inUse = inUse || used.Containers > 0
			if !seen[i.ConfigDigest] {
				seen[i.ConfigDigest] = true
				part.Total++
				part.Active += min(used.Containers, 1)
			}
		}
		if inUse {
			active = append(active, l.Target)
		}
	}
	live, err := store.Reach(active...)
	for d := range blobs {
		if !live[d] {
			part.Reclaimable += m.ids[blobKey(d.Encoded())]
		}
	}
	return part, err
}

// ownersOf returns the images, by id, that have each blob.
func ownersOf(listed []image.Listed) map[digest.Digest]map[digest.Digest]bool {
	owners := map[digest.Digest]map[digest.Digest]bool{}
	for _, l := range listed {
		for _, i := range l.Images {
			for _, d := range blobsOf(i) {
				if owners[d] == nil {
					owners[d] = map[digest.Digest]bool{}
				}
				owners[d][i.ConfigDigest] = true
			}
		}
	}
	return owners
}

// blobsOf lists the blobs of an image for one platform.
func blobsOf(i *image.Image) []digest.Digest {
	all := []digest.Digest{i.ManifestDigest, i.ConfigDigest}
	seen := map[digest.Digest]bool{}
	for _, l := range i.Layers {
		if !seen[l.Descriptor.Digest] {
			all = append(all, l.Descriptor.Digest)
		}
		seen[l.Descriptor.Digest] = true
	}
	return all
}

// usedLayers counts the snapshots: active are those below containers and mounted images, the others can be made again.
func (e *Engine) usedLayers(m *measured) (UsedPart, error) {
	part := UsedPart{Type: UsedLayers}
	stores, err := e.allSnapshots()
	if err != nil {
		return part, err
	}
	needed, err := e.occupiedChains()
	if err != nil {
		return part, err
	}
	for _, s := range stores {
		infos, err := s.List()
		if err != nil {
			return part, err
		}
		parents := map[snapshot.ChainID]snapshot.ChainID{}
		for _, i := range infos {
			parents[i.Chain] = i.Parent
		}
		active := map[snapshot.ChainID]bool{}
		for c := range needed {
			for ; c != "" && !active[c]; c = parents[c] {
				active[c] = true
			}
		}
		for _, i := range infos {
			part.Total++
			if active[i.Chain] {
				part.Active++
			} else {
				part.Reclaimable += m.ids[digest.Digest(i.Chain).Encoded()]
			}
		}
	}
	return part, nil
}

// usedVolumes fills in the volumes, and returns their sum but for the bytes on disk. Active are those that a container has.
func (e *Engine) usedVolumes(u *DiskUsage, m *measured) (UsedPart, error) {
	part := UsedPart{Type: UsedVolumes}
	store, err := e.volumes()
	if err != nil {
		return part, err
	}
	list, err := store.List()
	if err != nil {
		return part, err
	}
	users, err := e.allUsers()
	for _, v := range list {
		used := UsedVolume{Volume: v, Path: pathOnHost(store, v), Containers: namesOfRecords(users[v.Name]), Bytes: m.ids[volumeKey(v.Name)]}
		u.Volumes = append(u.Volumes, used)
		part.Total++
		switch {
		case len(used.Containers) > 0:
			part.Active++
		case v.Of == "": // no prune takes snapshots
			part.Reclaimable += used.Bytes
		}
	}
	return part, err
}

// volumeKey is the key of measured.ids for a volume, which may be called like a container.
func volumeKey(name string) string {
	if name == "" {
		return ""
	}
	return "volume " + name
}

// blobKey is the key of measured.ids for a blob, whose digest may be the id of a snapshot.
func blobKey(hex string) string {
	if hex == "" {
		return ""
	}
	return "blob " + hex
}

// measured is what a walk over the state root finds.
type measured struct {
	parts map[string]int64 // bytes on disk by kind
	ids   map[string]int64 // bytes on disk of containers, snapshots, volumes and blobs, by what their directories or files are called
	seen  map[[2]uint64]bool
	// closed are directories that we may not look into. A container of an ordinary user makes such ones as one of its
	// other users, whose ids only its user namespace has.
	closed []string
}

// measure walks over the state root. A file with several names counts once. What is mounted below it does not count.
func measure(root string) (*measured, error) {
	m := &measured{parts: map[string]int64{}, ids: map[string]int64{}, seen: map[[2]uint64]bool{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since its directory was read
		}
		name, relErr := filepath.Rel(root, path)
		if relErr != nil {
			return relErr
		}
		parts := strings.Split(name, string(filepath.Separator))
		if errors.Is(err, fs.ErrPermission) && isKernelsOwn(parts) {
			return nil // it was counted before it was opened
		}
		if errors.Is(err, fs.ErrPermission) && path != root {
			m.closed = append(m.closed, path)
			return nil
		}
		if err != nil {
			return err
		}
		if parts[0] == "mounts" && d.IsDir() {
			mounted, err := isMountPoint(path)
			if err != nil {
				return err
			}
			if mounted {
				return fs.SkipDir
			}
		}
		if err := m.count(path, parts); !errors.Is(err, fs.ErrPermission) {
			return err
		}
		m.closed = append(m.closed, filepath.Dir(path))
		return fs.SkipDir
	})
	return m, err
}

// isKernelsOwn reports whether a path below the state root is the directory that overlay makes in its work directory: it has
// no permissions, so that only root can open it. What the kernel has in it, it moves to the layer at once.
func isKernelsOwn(parts []string) bool {
	const home = 2 // components of mapped/HEX
	if len(parts) > home && parts[0] == "mapped" {
		parts = parts[home:]
	}
	return len(parts) == 4 && parts[0] == "layers" && parts[2] == "work" && (parts[3] == "work" || parts[3] == "index")
}

func (m *measured) count(path string, parts []string) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	key := [2]uint64{uint64(st.Dev), st.Ino}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if m.seen[key] {
			return nil
		}
		m.seen[key] = true
	}
	const block = 512 // the unit of st_blocks, stat(2)
	bytes := st.Blocks * block
	kind, id := kindOf(parts)
	m.parts[kind] += bytes
	if id != "" {
		m.ids[id] += bytes
	}
	return nil
}

// kindOf says to what a path below the state root belongs: the kind, and the key of the container, snapshot, volume or blob.
func kindOf(parts []string) (kind, id string) {
	at := func(i int) string {
		if i < len(parts) {
			return parts[i]
		}
		return ""
	}
	const home = 2 // components of mapped/HEX
	switch parts[0] {
	case "content":
		return UsedImages, blobKey(at(3))
	case "snapshots":
		return UsedLayers, at(2)
	case "containers", "layers", "logs":
		return UsedContainers, at(1)
	case "names":
		return UsedContainers, ""
	case "run":
		if at(1) == "containers" || at(1) == "runtime" || at(1) == "logs" {
			return UsedContainers, at(2)
		}
	case "mapped":
		if len(parts) > home {
			return kindOf(parts[home:])
		}
	case "volumes":
		return UsedVolumes, volumeKey(at(1))
	case "build":
		return UsedBuilds, ""
	}
	return UsedOther, ""
}
