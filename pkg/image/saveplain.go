package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
)

// SavePlain writes one image to w as docker's daemons have taken it in since their beginning: docker's table of contents, the
// configuration, and the layers uncompressed. (Those before version 23 cannot inflate zstd, and their own stores keep nothing
// of compression.) o.Format is not used.
func (s *Store) SavePlain(ctx context.Context, w io.Writer, o SaveOptions, names ...string) error {
	return s.save(ctx, o, names, func(p *saver) error { return p.writePlain(w) })
}

func (p *saver) writePlain(w io.Writer) error {
	images, err := p.choose(p.index[0])
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	begin := func(name string, size int64) (io.Writer, error) {
		return t, t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644})
	}
	entry := p.docker[0]
	entry.Layers = nil
	for i, l := range images[0].Layers {
		name := path.Join(fmt.Sprint(i), "layer.tar")
		entry.Layers = append(entry.Layers, name)
		if err := p.store.writeInflated(l, func(size int64) (io.Writer, error) { return begin(name, size) }); err != nil {
			return err
		}
	}
	err = p.store.copyBlob(p.ctx, images[0].ConfigDigest, func(size int64) (io.Writer, error) { return begin(entry.Config, size) })
	if err != nil {
		return err
	}
	table, err := json.Marshal([]dockerImage{entry})
	if err != nil {
		return err
	}
	if _, err := begin(dockerManifestFile, int64(len(table))); err != nil {
		return err
	}
	if _, err := t.Write(table); err != nil {
		return err
	}
	return t.Close()
}

// writeInflated writes a layer uncompressed. A tar header has the size before the content, so it is inflated twice: the first
// time only to count.
func (s *Store) writeInflated(l Layer, begin func(size int64) (io.Writer, error)) error {
	inflate := func(w io.Writer) (int64, error) {
		r, err := l.Open(s, Limits{})
		if err != nil {
			return 0, err
		}
		defer r.Close()
		return io.Copy(w, r)
	}
	size, err := inflate(io.Discard)
	if err != nil {
		return err
	}
	w, err := begin(size)
	if err != nil {
		return err
	}
	_, err = inflate(w)
	return err
}
