package image

import (
	"archive/tar"
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
)

// writeArchive writes the tables of contents and the blobs to a tar file. No entry
// has a time, owner or other trace of this machine.
func (p *saver) writeArchive(w io.Writer, docker bool) error {
	t := tar.NewWriter(w)
	header := func(name string, size int64) error {
		return t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644})
	}
	for _, file := range p.documents(docker) {
		data, err := json.Marshal(file.content)
		if err != nil {
			return err
		}
		if err := header(file.name, int64(len(data))); err != nil {
			return err
		}
		if _, err := t.Write(data); err != nil {
			return err
		}
	}
	for _, d := range p.sorted() {
		err := p.store.copyBlob(p.ctx, d, func(size int64) (io.Writer, error) { return t, header(blobName(d), size) })
		if err != nil {
			return err
		}
	}
	return t.Close()
}

type namedDocument struct {
	name    string
	content any
}

// documents are the tables of contents.
func (p *saver) documents(docker bool) []namedDocument {
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: p.index}
	index.SchemaVersion = 2
	all := []namedDocument{{layoutFile, v1.ImageLayout{Version: v1.ImageLayoutVersion}}, {indexFile, index}}
	if docker {
		all = append(all, namedDocument{dockerManifestFile, p.docker})
	}
	return all
}

// writeDir writes the blobs to a layout in a directory, and the names last, when all
// that they lead to is there.
func (p *saver) writeDir(dir string) error {
	if err := checkTargetDir(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, blobsDir, digest.SHA256.String()), 0o755); err != nil {
		return err
	}
	// First, so that after a save that was cut off the directory is no stranger's.
	if err := writeJSON(filepath.Join(dir, layoutFile), v1.ImageLayout{Version: v1.ImageLayoutVersion}); err != nil {
		return err
	}
	for _, d := range p.sorted() {
		if err := p.writeBlobFile(filepath.Join(dir, filepath.FromSlash(blobName(d))), d); err != nil {
			return err
		}
	}
	// Another tool may add names at this time: containr at least waits for itself.
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := durable.LockFile(p.ctx, lock, durable.Exclusive); err != nil {
		return err
	}
	index, err := (&Store{dir: dir}).readIndex()
	if err != nil {
		return err
	}
	for _, e := range p.index {
		index.Manifests = setEntry(index.Manifests, e)
	}
	return writeJSON(filepath.Join(dir, indexFile), index)
}

// setEntry adds an entry to the index of a layout. Another one of the same name goes.
func setEntry(entries []v1.Descriptor, e v1.Descriptor) []v1.Descriptor {
	out := []v1.Descriptor{}
	for _, old := range entries {
		if nameOf(old) != nameOf(e) || nameOf(e) == "" && old.Digest != e.Digest {
			out = append(out, old)
		}
	}
	return append(out, e)
}

func writeJSON(path string, document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, data, durable.Options{Mode: 0o644})
}

// checkTargetDir refuses a directory with something else than a layout in it.
func checkTargetDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(dir, layoutFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("directory %s has something in it that is no OCI image layout: %w", dir, ErrExists)
	}
	if err != nil {
		return err
	}
	return checkLayout(data)
}

// writeBlobFile copies a blob to a file, which appears complete and verified. One
// that is there with the right size is left.
func (p *saver) writeBlobFile(path string, d digest.Digest) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	var f *os.File
	var there bool
	err := p.store.copyBlob(p.ctx, d, func(size int64) (io.Writer, error) {
		if info, err := os.Stat(path); err == nil && info.Size() == size {
			there = true
			return io.Discard, nil
		}
		var err error
		f, err = os.CreateTemp(filepath.Dir(path), ".tmp-")
		return f, err
	})
	if f == nil || there {
		return err
	}
	if err == nil {
		err = errors.Join(f.Chmod(0o644), f.Sync())
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
