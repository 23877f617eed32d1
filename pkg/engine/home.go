package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/snapshot"
)

// home is where the files of a container's root file system are: the snapshots
// that it lies on and the container's own layer.
//
// For most containers that is the state root itself, also where the container's root is
// another user of the host (--userns, --uidmap): the mounts that it sees are id-mapped. Where
// the kernel or the file system cannot do that, it needs files of that user's, and may
// not be let into anything else: it has a home below ROOT/mapped, one for each pair of
// maps, with snapshots whose owners are shifted.
//
// That other user may be somebody who is logged in, whose subordinate ids these are.
// So every directory in which we make or change something as root stays ours: the
// container's root, by its group, may pass and no more. Else a symbolic link in the
// right place would have us write to, or give away, any file of the host. What the
// user does own (the upper directory, the generated files) we do not look into.
type home struct {
	dir      string
	uid, gid int // of the container's root, if mapped
	mapped   bool
	// idmapped says that files have the owners that the container sees, and are mapped where it sees them.
	idmapped bool
	// allOwn says that all files of its image are the user's own, who is an ordinary one: the container's root is not him, so
	// layers with the owners that images name would mean others in it.
	allOwn bool

	uids, gids []snapshot.IDMap
}

// homeOf finds a container's home.
func (e *Engine) homeOf(c container.Config) (*home, error) {
	facts, err := e.facts()
	if err != nil {
		return nil, err
	}
	if c.Namespaces.User == container.HostNamespace || !facts.Root() {
		return &home{dir: e.root, allOwn: e.ownFiles(facts, c)}, nil
	}
	if c.IDMapped {
		return &home{dir: e.root, idmapped: true, uids: idMaps(c.UIDMap), gids: idMaps(c.GIDMap)}, nil
	}
	h := &home{mapped: true, uids: idMaps(c.UIDMap), gids: idMaps(c.GIDMap)}
	name, err := json.Marshal([][]snapshot.IDMap{h.uids, h.gids})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(name)
	h.dir = filepath.Join(e.mappedDir(), hex.EncodeToString(sum[:8]))
	h.uid, h.gid = rootOf(h.uids), rootOf(h.gids)
	if h.uid < 0 || h.gid < 0 {
		return nil, errors.New("--uidmap and --gidmap: id 0 of the container must be mapped: its root owns its files")
	}
	return h, nil
}

// ownFiles is home.allOwn of an ordinary user's container.
func (e *Engine) ownFiles(facts *host.Facts, c container.Config) bool {
	if facts.Root() || len(c.UIDMap) < 2 || len(c.GIDMap) < 2 { // all is one user
		return false
	}
	return rootOf(idMaps(c.UIDMap)) != int(facts.UID) || rootOf(idMaps(c.GIDMap)) != int(facts.GID)
}

func (e *Engine) mappedDir() string { return filepath.Join(e.root, "mapped") }

func idMaps(maps []specs.LinuxIDMapping) []snapshot.IDMap {
	var out []snapshot.IDMap
	for _, m := range maps {
		out = append(out, snapshot.IDMap{Container: m.ContainerID, Host: m.HostID, Size: m.Size})
	}
	return out
}

// nobody is who owns, for a container, what belongs to none of its users: overflow_uid of user_namespaces(7).
const nobody = 65534

// inside says who owns, for the container, what belongs to these here.
func (h *home) inside(uid, gid int) (int, int) {
	if h == nil {
		return uid, gid
	}
	back := func(maps []snapshot.IDMap, id int) int {
		for _, m := range maps {
			if id >= int(m.Host) && id-int(m.Host) < int(m.Size) {
				return int(m.Container) + id - int(m.Host)
			}
		}
		return nobody
	}
	return back(h.uids, uid), back(h.gids, gid)
}

// outside says who here is these users of the container, and whether there are such.
func (h *home) outside(uid, gid int) (int, int, bool) {
	if h == nil {
		return uid, gid, true
	}
	there := func(maps []snapshot.IDMap, id int) (int, bool) {
		for _, m := range maps {
			if id >= int(m.Container) && id-int(m.Container) < int(m.Size) {
				return int(m.Host) + id - int(m.Container), true
			}
		}
		return id, false
	}
	u, okUID := there(h.uids, uid)
	g, okGID := there(h.gids, gid)
	return u, g, okUID && okGID
}

// rootOf returns the host's id of the container's root, -1 if it has none.
func rootOf(maps []snapshot.IDMap) int {
	for _, m := range maps {
		if m.Container == 0 {
			return int(m.Host)
		}
	}
	return -1
}

// open makes the home. The state root, else closed to everybody, lets others pass
// to what they know the name of and may enter: the home alone.
func (h *home) open(e *Engine) error {
	if !h.mapped {
		return nil
	}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err
	}
	for _, dir := range []string{e.root, e.mappedDir()} {
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	}
	return h.admit(h.dir)
}

// admit lets the container's root pass through a directory, and nobody else.
func (h *home) admit(dir string) error {
	if !h.mapped {
		return nil
	}
	if err := os.Lchown(dir, os.Geteuid(), h.gid); err != nil {
		return err
	}
	return os.Chmod(dir, 0o710)
}

// snapshots opens the home's snapshot store.
func (h *home) snapshots(e *Engine) (*snapshot.Store, error) {
	if h.allOwn {
		return snapshot.Open(filepath.Join(e.mappedDir(), "own", "snapshots"), snapshot.Options{Rootless: true})
	}
	if !h.mapped {
		return e.snapshots()
	}
	if err := h.open(e); err != nil {
		return nil, fmt.Errorf("mapped snapshots: %w", err)
	}
	return snapshot.Open(filepath.Join(h.dir, "snapshots"), snapshot.Options{Rootless: true, UIDMap: h.uids, GIDMap: h.gids})
}

// layer is the directory of the container's own layer. It is never in the
// directory that does not outlive a boot, which is usually in memory.
func (h *home) layer(id string) string { return filepath.Join(h.dir, "layers", id) }

// own gives a file to the container's root, if that is not our own.
func (h *home) own(path string) error {
	if !h.mapped {
		return nil
	}
	return os.Lchown(path, h.uid, h.gid)
}

// makeDir makes a directory that the container's root may pass through.
func (h *home) makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return h.admit(path)
}

// files is the directory for the container's generated files: its directory in the
// store of containers, or, since nobody but us may enter that, its layer's.
func (h *home) files(place *container.Reservation) string {
	if h.mapped {
		return h.layer(place.ID)
	}
	return place.Dir
}

// removeLayer takes away the container's own layer.
func (h *home) removeLayer(id string) error { return safepath.RemoveAll(h.layer(id)) }

// mappedSnapshots opens the snapshot stores of all mapped homes, to collect what is
// not needed; nothing can be extracted with them.
func (e *Engine) mappedSnapshots() ([]*snapshot.Store, error) {
	entries, err := os.ReadDir(e.mappedDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*snapshot.Store
	for _, entry := range entries {
		s, err := snapshot.Open(filepath.Join(e.mappedDir(), entry.Name(), "snapshots"), snapshot.Options{Rootless: true})
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
