package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containr/containr/internal/durable"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Store is a directory of images. Its methods may be called from any number of
// goroutines and processes at once.
type Store struct {
	dir string
	// Volatile leaves out flushes to the disk: for a store that need not survive
	// a power failure. Set it before using the store.
	Volatile bool
	// damaged are blobs that a check has found to be so: what lists them is not what a pull has left half done.
	damaged map[digest.Digest]bool
}

// Names of the entries of a store, see the package comment.
const (
	layoutFile = v1.ImageLayoutFile
	indexFile  = v1.ImageIndexFile
	blobsDir   = v1.ImageBlobsDir
	ingestDir  = "ingest"
	leasesDir  = "leases"
	lockFile   = "lock"
)

// Open opens the store in dir, which is made if it does not exist (mode 0700,
// parents too). An existing OCI image layout is taken as it is; one of another
// version than 1.0.0 is refused with ErrInvalid.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	data, err := os.ReadFile(filepath.Join(dir, layoutFile))
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.create(); err != nil {
			return nil, fmt.Errorf("create image store: %w", err)
		}
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if err := checkLayout(data); err != nil {
		return nil, fmt.Errorf("open image store %s: %w", dir, err)
	}
	return s, nil
}

// create makes the directories first and the file that makes it a layout last.
// Two processes may create a store at once.
func (s *Store) create() error {
	for _, sub := range []string{filepath.Join(blobsDir, digest.SHA256.String()), ingestDir, leasesDir} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o700); err != nil {
			return err
		}
	}
	data, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(s.dir, layoutFile), data, durable.Options{Mode: 0o644})
}

// checkLayout checks the content of an oci-layout file.
func checkLayout(data []byte) error {
	var layout v1.ImageLayout
	if err := json.Unmarshal(data, &layout); err != nil {
		return fmt.Errorf("%s: %w: %w", layoutFile, ErrInvalid, err)
	}
	if layout.Version != v1.ImageLayoutVersion {
		return fmt.Errorf("%s: version %q is not %s: %w", layoutFile, cut(layout.Version), v1.ImageLayoutVersion, ErrInvalid)
	}
	return nil
}

// blobPath returns where a blob is or will be. The digest must have been parsed.
func (s *Store) blobPath(d digest.Digest) string {
	return filepath.Join(s.dir, blobsDir, d.Algorithm().String(), d.Encoded())
}

// OpenBlob opens a blob to read it. The size is checked here, the digest is not:
// whoever reads layers verifies diff ids ([Layer.Open]). Errors wrap ErrNotFound,
// ErrCorrupt, or ErrInvalid if the digest is none.
func (s *Store) OpenBlob(d v1.Descriptor) (*os.File, error) {
	if _, err := ParseDigest(d.Digest.String()); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != d.Size {
		err = &VerifyError{Blob: d.Digest, WantSize: d.Size, Size: info.Size()}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadBlob reads a blob whose size is at most limit and verifies it. Errors are
// those of OpenBlob, and ErrLimit.
func (s *Store) ReadBlob(d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("blob %s of %d bytes is larger than %d: %w", d.Digest, d.Size, limit, ErrLimit)
	}
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	data, err := s.readWhole(d)
	if err != nil {
		return nil, err
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		return nil, &VerifyError{Blob: d.Digest, Digest: got, WantSize: d.Size, Size: d.Size}
	}
	return data, nil
}

// readWhole reads a small blob by plain system calls: an os.File costs as much again, and a
// listing reads thousands.
func (s *Store) readWhole(d v1.Descriptor) ([]byte, error) {
	path := s.blobPath(d.Digest)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, ErrNotFound)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	data := make([]byte, d.Size+1) // one more, to see that it ends
	size := 0
	for size < len(data) {
		n, err := unix.Read(fd, data[size:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			break
		}
		size += n
	}
	if int64(size) != d.Size {
		return nil, &VerifyError{Blob: d.Digest, WantSize: d.Size, Size: int64(size)}
	}
	return data[:size], nil
}

// Has reports whether a blob is in the store.
func (s *Store) Has(d v1.Descriptor) bool {
	f, err := s.OpenBlob(d)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// Fits reports whether blobs that are not in the store yet fit on its disk. The error is
// a *[SpaceError] if they do not: better to be told before the first byte is fetched than
// when the disk is full. what is for the error.
func (s *Store) Fits(what string, blobs ...v1.Descriptor) error {
	var need int64
	counted := map[digest.Digest]bool{}
	for _, d := range blobs {
		if !counted[d.Digest] && !s.Has(d) {
			need += d.Size - s.begun(d)
		}
		counted[d.Digest] = true
	}
	free, _, err := s.Space()
	if err != nil {
		return err
	}
	if need > free {
		return &SpaceError{What: what, Dir: s.dir, Need: need, Free: free}
	}
	return nil
}

// Space returns how many bytes the disk of the store has left for us, of how many.
func (s *Store) Space() (free, size int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: s.dir, Err: err}
	}
	free = int64(st.Bavail)
	if os.Geteuid() == 0 {
		free = int64(st.Bfree) // what is reserved is for root
	}
	return free * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}

// Dir returns the directory of the store.
func (s *Store) Dir() string { return s.dir }

// begun returns how many bytes of a blob are there already, of a download that was cut off.
func (s *Store) begun(d v1.Descriptor) int64 {
	if _, err := ParseDigest(d.Digest.String()); err != nil {
		return 0
	}
	info, err := os.Stat(s.ingestPath(d.Digest))
	if err != nil {
		return 0
	}
	return min(info.Size(), d.Size)
}

// ingestPath returns where a blob that is known by its digest comes in.
func (s *Store) ingestPath(d digest.Digest) string {
	return filepath.Join(s.dir, ingestDir, d.Algorithm().String()+"-"+d.Encoded())
}

// readIndex reads the names of the store. A store without index.json has none.
func (s *Store) readIndex() (*v1.Index, error) {
	index := &v1.Index{MediaType: v1.MediaTypeImageIndex}
	index.SchemaVersion = 2
	f, err := os.Open(filepath.Join(s.dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return index, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxStoreIndex+1))
	if err != nil {
		return nil, err
	}
	if err := decodeStoreIndex(data, index); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return index, nil
}

// decodeStoreIndex decodes the index.json of a layout, ours or somebody else's.
func decodeStoreIndex(data []byte, index *v1.Index) error {
	if err := checkJSON(data, "index of the layout", MaxStoreIndex); err != nil {
		return err
	}
	if err := json.Unmarshal(data, index); err != nil {
		return fmt.Errorf("index of the layout: %w: %w", ErrInvalid, err)
	}
	for i, d := range index.Manifests {
		if err := checkDescriptor(d); err != nil {
			return fmt.Errorf("index of the layout: entry %d: %w", i, err)
		}
	}
	return nil
}

// writeIndex replaces the names of the store. The caller holds the exclusive lock.
// Blobs are flushed before the names that make them an image.
func (s *Store) writeIndex(index *v1.Index) error {
	if index.Manifests == nil {
		index.Manifests = []v1.Descriptor{} // the specification wants an array
	}
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(index); err != nil {
		return err
	}
	if !s.Volatile {
		if err := s.syncBlobDirs(); err != nil {
			return err
		}
	}
	path := filepath.Join(s.dir, indexFile)
	return durable.WriteFile(path, data.Bytes(), durable.Options{Mode: 0o644, Volatile: s.Volatile})
}

func (s *Store) syncBlobDirs() error {
	algorithms, err := os.ReadDir(filepath.Join(s.dir, blobsDir))
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		if err := durable.SyncDir(filepath.Join(s.dir, blobsDir, a.Name())); err != nil {
			return err
		}
	}
	return nil
}
