// Package snapshot turns the layers of an image into directories that can be
// mounted as the root file system of a container.
//
// # Vocabulary
//
// A layer is a tar archive of changes; its diff id is the digest of the
// uncompressed archive. A chain is a sequence of layers, each changing what
// those before it made; its [ChainID] is a digest over their diff ids (OCI
// image specification, "Layer ChainID"). A snapshot is what the store keeps
// for a chain: one directory with the changes of its last layer, and the name
// of the chain below. The lower view of a layer is the tree that the chain
// below it makes.
//
// # Theory of operation
//
// overlayfs shows a stack of directories as one tree. The changes of a layer
// fit into one directory of the stack: what is removed becomes a whiteout (a
// character device 0:0), a directory that hides everything below it carries
// the attribute "overlay.opaque". A layer therefore needs nothing of the
// layers below it to be extracted, and all layers of an image are extracted at
// the same time, each into a directory of its own ([Store.Extract]).
//
// Nearly nothing, that is. Four things depend on the chain below, and are
// written down during extraction to be settled when the layer joins its chain
// ([Store.Commit]), which happens in order and takes little time:
//
//   - directories that the archive does not mention but puts files into: they must
//     look as in the lower view, or be made when they are missing;
//   - hard links to files of the lower view: the file is copied up, as overlayfs
//     does when somebody writes to it;
//   - whiteouts of what is not there: they are removed, as overlayfs lists them as
//     broken names in directories that only one layer has;
//   - a directory that is not mentioned and is a symbolic link in the lower view
//     ("lib/x" where lib leads to usr/lib). Where the link leads decides what
//     earlier and later entries meet, so the layer is extracted once more, with
//     the lower view at hand ([ErrDependsOnParent]). Few images have such layers.
//
// Within one layer, one goroutine reads (inflates, if the reader does that)
// and hashes the archive, ahead of another that applies it entry by entry, so
// that later entries win over earlier ones. Writing the files in more
// goroutines was measured to be no faster on two processors. Directories get
// their owner, mode and times last, as making files in them changes and needs
// those.
//
// Order of calls on a file: write (clears set-id bits and capabilities), chown
// (clears them too), attributes, chmod, times.
//
// # Hostile archives
//
// All that an archive says is data, applied through [safepath]: no name leaves
// the layer's directory, no link is followed out of it, and nothing but
// regular files that we have just made (O_EXCL) and directories is ever
// opened. [Limits] bounds what an archive may cost. The archive must have the
// digest that the image's configuration promises. A failed extraction leaves
// nothing behind.
//
// # The way back
//
// Two views are walked at once ([Store.Changes], [Store.Compare]); what both
// have from the same directory on disk is passed over unseen, so that the walk
// costs what has changed. The differences, written down, are a layer again
// ([Store.Diff]): opaque directories say so, other removed names become
// whiteouts, owners are turned back into those of the container. No mount is
// needed, for any kind of store.
//
// # On disk
//
//	<alg>/<hex>/fs/         the changes of a chain's last layer
//	<alg>/<hex>/meta.json   diff id, parent, size; see [Info]
//	l/<short>               symbolic links to fs/, for long mount options
//	staging/<random>/       work under way, locked by the process that does it
//	lock                    shared: adding; exclusive: removing
//	chains.lock             one byte per chain, locked by who unpacks that
//
// A snapshot is made in staging and renamed, complete, to its place. What a
// killed process leaves in staging is recognised by its lock being free, and
// removed by [Store.GC]. Snapshots are not flushed to the disk when they are
// made, as that takes longer than making them; after a reboot one that was
// never flushed ([Store.Sync]) counts as missing, because a power failure may
// have emptied its files.
//
// # On an overlay
//
// An overlay, such as the root of a container that containr runs in, cannot have the layers of another: it takes the marks
// of removed files and opaque directories for its own. A store there has marks that mean nothing to the kernel, an
// attribute each, and can only be used with drivers that copy the layers ([Native]).
//
// # Without root
//
// With [Options].Rootless, overlayfs keeps its attributes as user.overlay.*;
// owners that cannot be set are recorded in the attribute [OwnerXattr]
// (regular files and directories, others drop it), attributes that need
// privilege are dropped, and device nodes are left out, hiding what has their
// name in lower layers.
package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "crypto/sha256" // the digests of layers and chains
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"

	"github.com/containr/containr/internal/erofs"
	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/internal/sys"
)

var (
	// ErrNotFound says that the store has no snapshot of a chain.
	ErrNotFound = errors.New("snapshot not found")
	// ErrInUse says that a snapshot cannot be removed, as others build on it
	// or an unpacking under way needs it.
	ErrInUse = errors.New("snapshot in use")
	// ErrUnmapped says that a file's owner has no id in the user namespace that the
	// snapshot is for.
	ErrUnmapped = errors.New("owner is not mapped")
	// ErrMalformed says that an archive contradicts itself or the format.
	ErrMalformed = errors.New("malformed layer")
	// ErrDigest says that an archive is not the one that was asked for.
	ErrDigest = errors.New("layer does not have its digest")
	// ErrNoErofs says that a layer is kept as an EROFS image that cannot be mounted: it takes root, and a kernel and a file
	// system as those that the driver [Erofs] takes.
	ErrNoErofs = errors.New("the layer is kept as an EROFS image, which cannot be read here")
	// ErrDependsOnParent says that a layer can only be extracted with its
	// parent named in [ExtractOptions].
	ErrDependsOnParent = errors.New("layer writes through a symbolic link of the layers below it")
)

// ChainID names a sequence of layers; "" is the empty one.
type ChainID digest.Digest

// Chain returns the name of the sequence parent followed by the layer diffID.
func Chain(parent ChainID, diffID digest.Digest) ChainID {
	if parent == "" {
		return ChainID(diffID)
	}
	return ChainID(digest.FromString(string(parent) + " " + string(diffID)))
}

// ChainIDs returns the chain id of each prefix of a sequence of layers.
func ChainIDs(diffIDs []digest.Digest) []ChainID {
	chains := make([]ChainID, len(diffIDs))
	var parent ChainID
	for i, d := range diffIDs {
		parent = Chain(parent, d)
		chains[i] = parent
	}
	return chains
}

// Options says how a store works. The zero value is an overlayfs store of
// root. A store must always be opened with the same Rootless.
type Options struct {
	// Rootless tolerates what a user without privileges cannot do, see above.
	Rootless bool
	// Among says, together with Rootless, that this process is in a user namespace in which files have the owners that containers see:
	// archives' owners are set, and read, as they are.
	Among bool
	// UIDMap and GIDMap are the maps of the user namespace in which the
	// snapshots will be mounted, given together with Rootless: the owners that
	// an archive names are owners in the namespace, and the files get the host's
	// ids for them. An archive with another owner is refused. A store must always
	// be opened with the same maps.
	UIDMap, GIDMap []IDMap
	// Driver is the way to present chains; empty is Overlay.
	Driver Driver
	// NoImages says why Erofs cannot be used here; extracting a layer with that driver fails with it.
	NoImages error
	// Limits bounds each layer.
	Limits Limits
}

// Store is a directory of snapshots. Its methods may be called by many
// goroutines and processes at once.
type Store struct {
	dir   string
	opts  Options
	marks marks
}

// Open opens the store at dir, which is made (mode 0700: the files in it have
// the owners and set-id bits of their image) if it does not exist.
func Open(dir string, o Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	for _, d := range []string{dir, filepath.Join(dir, stagingDir), filepath.Join(dir, shortDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open snapshots: %w", err)
		}
	}
	marks, err := marksIn(dir, o.Rootless)
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	marks.fuse = o.Driver == Fuse
	return &Store{dir: dir, opts: o, marks: marks}, nil
}

const (
	stagingDir = "staging"
	shortDir   = "l"
	fsDir      = "fs"
	metaFile   = "meta.json"
)

// Info describes one snapshot.
type Info struct {
	Chain  ChainID       `json:"-"`
	DiffID digest.Digest `json:"diffID"`
	Parent ChainID       `json:"parent,omitempty"`
	Usage
	// OpaqueRoot says that the layer hides everything below it, which
	// overlayfs cannot express at the root of a layer.
	OpaqueRoot bool      `json:"opaqueRoot,omitempty"`
	Created    time.Time `json:"created"`
	// Image says that the layer is kept as an EROFS image, not as a directory.
	Image bool `json:"image,omitempty"`
	// ImageSum is what is known of the image; zero: it was not noted.
	ImageSum erofs.Sum `json:"imageSum,omitzero"`
	// Short is the name of the link to the layer's directory in l/.
	Short string `json:"short"`
	// UnsyncedBoot is the boot in which the snapshot was made, until it has
	// been flushed to the disk.
	UnsyncedBoot string `json:"unsyncedBoot,omitempty"`
}

// Usage is what the last layer of a chain holds, without those below it, as
// the entries of its archive sum up (an entry that replaces an earlier one
// counts too).
type Usage struct {
	Bytes  int64 `json:"size"`   // sum of the sizes of regular files
	Inodes int64 `json:"inodes"` // files of every kind, hard links counted once
}

// path returns the directory of a chain; the id becomes part of a path only
// after it was parsed.
func (s *Store) path(c ChainID) (string, error) {
	d := digest.Digest(c)
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("chain id %q: %w", string(c), err)
	}
	return filepath.Join(s.dir, d.Algorithm().String(), d.Encoded()), nil
}

// Dir is the directory that was opened.
func (s *Store) Dir() string { return s.dir }

// Has reports whether chain is unpacked, complete and safe to use.
func (s *Store) Has(chain ChainID) bool {
	_, err := s.Stat(chain)
	return err == nil
}

// Usage returns what the last layer of chain holds.
func (s *Store) Usage(chain ChainID) (Usage, error) {
	info, err := s.Stat(chain)
	return info.Usage, err
}

// Stat describes a snapshot. The error wraps ErrNotFound if there is none, or
// one that a reboot has made doubtful.
func (s *Store) Stat(chain ChainID) (Info, error) {
	dir, err := s.path(chain)
	if err != nil {
		return Info{}, err
	}
	info, err := readInfo(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.doubtful() {
		return Info{}, fmt.Errorf("%s: %w", chain, ErrNotFound)
	}
	info.Chain = chain
	return info, err
}

func readInfo(dir string) (Info, error) {
	var info Info
	data, err := sys.ReadFile(filepath.Join(dir, metaFile), 64<<10)
	if err != nil {
		return info, err
	}
	if err := quickjson.Decode(string(data), &info); err != nil {
		return info, fmt.Errorf("%s: %w", filepath.Join(dir, metaFile), err)
	}
	return info, nil
}

// doubtful reports whether the machine was restarted before the snapshot was
// flushed.
func (i Info) doubtful() bool {
	return i.UnsyncedBoot != "" && i.UnsyncedBoot != sys.BootID()
}

// chain describes chain and all those it builds on, the base last.
func (s *Store) chain(chain ChainID) ([]Info, error) {
	var all []Info
	for chain != "" {
		info, err := s.Stat(chain)
		if err != nil {
			return nil, err
		}
		all = append(all, info)
		chain = info.Parent
	}
	return all, nil
}

// fs is the directory with the changes of the snapshot i, or the empty one where its image is to be mounted.
func (s *Store) fs(i Info) string {
	d := digest.Digest(i.Chain)
	return filepath.Join(s.dir, d.Algorithm().String(), d.Encoded(), fsDir)
}

// image is the file with the changes of the snapshot i, if that is kept as an image.
func (s *Store) image(i Info) string { return filepath.Join(filepath.Dir(s.fs(i)), imageFile) }

// List describes all snapshots. Those that are removed meanwhile may be
// missing.
func (s *Store) List() ([]Info, error) {
	var all []Info
	dirs, err := filepath.Glob(filepath.Join(globQuote(s.dir), "*", "*", metaFile))
	if err != nil {
		return nil, err
	}
	for _, meta := range dirs {
		hex := filepath.Dir(meta)
		chain := ChainID(filepath.Base(filepath.Dir(hex)) + ":" + filepath.Base(hex))
		info, err := s.Stat(chain)
		if errors.Is(err, ErrNotFound) || errors.Is(err, digest.ErrDigestInvalidFormat) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}

// globQuote makes path stand for itself in a pattern.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
