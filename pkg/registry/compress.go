package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/image"
)

// Compression says how layers are compressed before they are pushed. Layers that are
// compressed so already stay as they are unless there is a level.
type Compression struct {
	Format string // gzip, zstd or none; empty leaves all as they are
	Level  int    // 1 to 9 for gzip, 1 to 22 for zstd; zero is the library's choice
}

// ParseCompression reads format and level as users write them.
func ParseCompression(format string, level int) (Compression, error) {
	most := map[string]int{"gzip": 9, "zstd": 22, "none": 0}
	highest, ok := most[format]
	switch {
	case format == "" && level == 0:
	case format == "":
		return Compression{}, errors.New("a level needs a format: gzip or zstd")
	case !ok:
		return Compression{}, fmt.Errorf("%q is none of gzip, zstd, none", format)
	case level < 0 || level > highest:
		return Compression{}, fmt.Errorf("level %d: %s has %s", level, format, levels(highest))
	}
	return Compression{Format: format, Level: level}, nil
}

func levels(highest int) string {
	if highest == 0 {
		return "no levels"
	}
	return fmt.Sprintf("levels 1 to %d", highest)
}

// mediaType is that of a layer compressed so.
func (c Compression) mediaType() string {
	switch c.Format {
	case "gzip":
		return v1.MediaTypeImageLayerGzip
	case "zstd":
		return v1.MediaTypeImageLayerZstd
	}
	return v1.MediaTypeImageLayer
}

// formatOf returns the compression that a layer's media type tells.
func formatOf(mediaType string) string {
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		return "gzip"
	case strings.HasSuffix(mediaType, "zstd"):
		return "zstd"
	}
	return "none"
}

// converter rewrites a tree.
type converter struct {
	Compression
	store *image.Store
	lease *image.Lease
	done  map[digest.Digest]v1.Descriptor // layers, by their digest before
	nodes map[*node]*node                 // indexes and manifests, likewise
}

// convert returns the tree with its layers compressed anew, all of it in the store and
// kept by the lease. Manifests become OCI's, as docker's know no zstd.
func (c Compression) convert(ctx context.Context, s *image.Store, lease *image.Lease, tree *node) (*node, error) {
	x := &converter{Compression: c, store: s, lease: lease, done: map[digest.Digest]v1.Descriptor{}, nodes: map[*node]*node{}}
	return x.node(ctx, tree)
}

// node converts an index or a manifest. What is no container image stays as it is.
func (x *converter) node(ctx context.Context, n *node) (*node, error) {
	if n.children != nil {
		return x.index(ctx, n)
	}
	m, err := image.DecodeManifest(n.data, n.MediaType)
	if err != nil {
		return n, nil // an attestation, a signature
	}
	config, err := x.store.ReadBlob(m.Config, image.MaxConfigSize)
	if err != nil {
		return nil, err
	}
	decoded, err := image.DecodeConfig(config, len(m.Layers))
	if err != nil {
		return nil, err
	}
	changed := &node{blobs: []v1.Descriptor{m.Config}}
	for i, l := range m.Layers {
		if m.Layers[i], err = x.layer(ctx, image.Layer{Descriptor: l, DiffID: decoded.RootFS.DiffIDs[i]}); err != nil {
			return nil, err
		}
		if x.store.Has(m.Layers[i]) {
			changed.blobs = append(changed.blobs, m.Layers[i])
		}
	}
	m.Config.MediaType = v1.MediaTypeImageConfig
	changed.blobs[0] = m.Config
	fields := map[string]any{"mediaType": v1.MediaTypeImageManifest, "config": m.Config, "layers": m.Layers}
	return changed, changed.rewrite(n, v1.MediaTypeImageManifest, fields)
}

// index converts an index: its entries get other digests.
func (x *converter) index(ctx context.Context, n *node) (*node, error) {
	changed := &node{}
	renamed := map[digest.Digest]digest.Digest{}
	var entries []v1.Descriptor
	for _, child := range n.children {
		c := x.nodes[child]
		if c == nil {
			var err error
			if c, err = x.node(ctx, child); err != nil {
				return nil, err
			}
			x.nodes[child] = c
		}
		renamed[child.Digest] = c.Digest
		d := child.Descriptor
		d.MediaType, d.Digest, d.Size = c.MediaType, c.Digest, c.Size
		changed.children, entries = append(changed.children, c), append(entries, d)
	}
	for i := range entries { // attestations name the manifest that they are about
		for key, value := range entries[i].Annotations {
			if now, ok := renamed[digest.Digest(value)]; ok {
				entries[i].Annotations = maps.Clone(entries[i].Annotations)
				entries[i].Annotations[key] = now.String()
			}
		}
	}
	return changed, changed.rewrite(n, v1.MediaTypeImageIndex, map[string]any{"mediaType": v1.MediaTypeImageIndex, "manifests": entries})
}

// rewrite makes the document of n out of the old one: fields that are not named stay.
func (n *node) rewrite(old *node, mediaType string, fields map[string]any) error {
	var document map[string]json.RawMessage
	if err := json.Unmarshal(old.data, &document); err != nil {
		return err
	}
	for key, value := range fields {
		data, err := json.Marshal(value)
		if err != nil {
			return err
		}
		document[key] = data
	}
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	n.data = data
	n.Descriptor = old.Descriptor
	n.MediaType, n.Digest, n.Size = mediaType, digest.FromBytes(data), int64(len(data))
	return nil
}

// layer compresses one layer, unless it is as wanted or not here.
func (x *converter) layer(ctx context.Context, l image.Layer) (v1.Descriptor, error) {
	if formatOf(l.Descriptor.MediaType) == x.Format && x.Level == 0 {
		l.Descriptor.MediaType = x.mediaType()
		return l.Descriptor, nil
	}
	if done, ok := x.done[l.Descriptor.Digest]; ok {
		return done, nil
	}
	if !x.store.Has(l.Descriptor) { // a foreign one
		return l.Descriptor, nil
	}
	d, err := x.compress(ctx, l)
	if err != nil {
		return d, fmt.Errorf("compress layer %s: %w", l.Descriptor.Digest, err)
	}
	d.MediaType, d.Annotations = x.mediaType(), keptAnnotations(l.Descriptor.Annotations)
	x.done[l.Descriptor.Digest] = d
	return d, nil
}

// keptAnnotations returns those that are not about the bytes as they were: tables of
// contents of estargz and zstd:chunked are lost with them.
func keptAnnotations(all map[string]string) map[string]string {
	kept := maps.Clone(all)
	maps.DeleteFunc(kept, func(key, _ string) bool {
		return slices.ContainsFunc([]string{"containerd.io/snapshot/stargz/", "io.containers.estargz.", "io.github.containers.zstd-chunked."},
			func(prefix string) bool { return strings.HasPrefix(key, prefix) })
	})
	return kept
}

// compress writes the layer to the store in the new form.
func (x *converter) compress(ctx context.Context, l image.Layer) (v1.Descriptor, error) {
	in, err := l.Open(x.store, image.Limits{})
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer in.Close()
	w, err := x.lease.IngestNew(ctx)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer w.Close()
	out, err := x.writer(w)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if _, err := io.Copy(out, readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return in.Read(p)
	})); err != nil {
		return v1.Descriptor{}, err
	}
	if err := out.Close(); err != nil {
		return v1.Descriptor{}, err
	}
	if err := w.Commit(ctx); err != nil {
		return v1.Descriptor{}, err
	}
	return w.Descriptor(), nil
}

// writer returns a compressor. The same input gives the same bytes.
func (x *converter) writer(to io.Writer) (io.WriteCloser, error) {
	switch x.Format {
	case "gzip":
		level := gzip.DefaultCompression
		if x.Level > 0 {
			level = x.Level
		}
		return gzip.NewWriterLevel(to, level)
	case "zstd":
		var o []zstd.EOption
		if x.Level > 0 {
			o = append(o, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(x.Level)))
		}
		return zstd.NewWriter(to, o...)
	}
	return nopCloser{to}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
