package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds on documents. An image that exceeds one is refused with an error that
// wraps [ErrLimit] and names the bound.
const (
	MaxManifestSize = 4 << 20  // bytes of a manifest or index (what registries accept)
	MaxConfigSize   = 8 << 20  // bytes of an image configuration
	MaxJSONDepth    = 32       // nested objects and arrays; real documents have 6
	MaxIndexEntries = 1024     // manifests in an index
	MaxNesting      = 16       // indexes that lie in each other, the outermost included
	MaxIndexes      = 64       // indexes that are read for one image, the outermost included
	MaxLayers       = 500      // layers of an image (OVL_MAX_STACK of Linux's overlayfs)
	MaxStoreIndex   = 64 << 20 // bytes of a store's index.json
)

// Docker's media types, older than those of OCI and still served.
const (
	dockerIndexType    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifestType = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfigType   = "application/vnd.docker.container.image.v1+json"
	dockerLayerType    = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeignType  = "application/vnd.docker.image.rootfs.foreign.diff.tar"
)

// ManifestTypes lists the media types of indexes and manifests that this package
// understands, to ask a registry for.
func ManifestTypes() []string {
	return []string{v1.MediaTypeImageIndex, v1.MediaTypeImageManifest, dockerIndexType, dockerManifestType}
}

// IsIndex reports whether a media type is that of an index.
func IsIndex(mediaType string) bool {
	return mediaType == v1.MediaTypeImageIndex || mediaType == dockerIndexType
}

// IsManifest reports whether a media type is that of a manifest.
func IsManifest(mediaType string) bool {
	return mediaType == v1.MediaTypeImageManifest || mediaType == dockerManifestType
}

// isConfig reports whether a media type is that of a container image's
// configuration.
func isConfig(mediaType string) bool {
	return mediaType == v1.MediaTypeImageConfig || mediaType == dockerConfigType
}

// isLayer reports whether a media type is that of a file system layer whose
// compression we understand. Which compression it is, the content says.
func isLayer(mediaType string) bool {
	switch mediaType {
	case v1.MediaTypeImageLayer, v1.MediaTypeImageLayerGzip, v1.MediaTypeImageLayerZstd,
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
		dockerLayerType, dockerLayerType + ".gzip", dockerLayerType + ".zstd",
		dockerForeignType, dockerForeignType + ".gzip":
		return true
	}
	return false
}

// document holds the fields that tell the kinds of JSON documents apart. The
// decoder matches names without regard to case, as it will do again when the
// document is decoded: what it could mistake is seen here.
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     json.RawMessage `json:"manifests"`
	Layers        json.RawMessage `json:"layers"`
	Config        json.RawMessage `json:"config"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

// Identify finds out whether data is an index or a manifest, and returns its
// media type. mediaType is what a descriptor or a Content-Type header says; it
// may be empty or "application/json", as some registries have it. A document
// that disagrees with it, or with itself, is refused: it could mean one image to
// who signed it and another to who runs it (CVE-2021-41190).
func Identify(data []byte, mediaType string) (string, error) {
	if err := checkJSON(data, "manifest", MaxManifestSize); err != nil {
		return "", err
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return "", fmt.Errorf("manifest: %w: %w", ErrInvalid, err)
	}
	if mediaType == "application/json" || mediaType == "text/plain" {
		mediaType = ""
	}
	switch {
	case d.SchemaVersion == 1 || d.FSLayers != nil:
		return "", fmt.Errorf("manifest of schema version 1, which was given up in 2015, is not supported: %w", ErrInvalid)
	case d.SchemaVersion != 2:
		return "", fmt.Errorf("manifest has schema version %d, not 2: %w", d.SchemaVersion, ErrInvalid)
	case d.Manifests != nil && (d.Layers != nil || d.Config != nil):
		return "", fmt.Errorf("manifest has both manifests and layers or config: %w", ErrInvalid)
	case mediaType != "" && d.MediaType != "" && mediaType != d.MediaType:
		return "", fmt.Errorf("manifest says it is %q but was announced as %q: %w", cut(d.MediaType), cut(mediaType), ErrInvalid)
	}
	return d.kind(mediaType)
}

// kind checks the media type against the fields that are there.
func (d *document) kind(mediaType string) (string, error) {
	if mediaType == "" {
		mediaType = d.MediaType
	}
	if mediaType == "" && d.Manifests != nil {
		mediaType = v1.MediaTypeImageIndex
	}
	if mediaType == "" && d.Layers != nil {
		mediaType = v1.MediaTypeImageManifest
	}
	switch {
	case IsIndex(mediaType) && d.Manifests != nil, IsManifest(mediaType) && d.Layers != nil && d.Config != nil:
		return mediaType, nil
	case IsIndex(mediaType), IsManifest(mediaType):
		return "", fmt.Errorf("manifest is %q, but lacks its fields: %w", mediaType, ErrInvalid)
	case mediaType == "":
		return "", fmt.Errorf("manifest has neither manifests nor layers: %w", ErrInvalid)
	}
	return "", fmt.Errorf("media type %q is neither that of an index nor of a manifest: %w", cut(mediaType), ErrInvalid)
}

// DecodeIndex decodes and checks an index. Its entries have parsed digests.
func DecodeIndex(data []byte, mediaType string) (*v1.Index, error) {
	mediaType, err := Identify(data, mediaType)
	if err != nil {
		return nil, err
	}
	if !IsIndex(mediaType) {
		return nil, fmt.Errorf("%q is not an index: %w", mediaType, ErrInvalid)
	}
	var index v1.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("index: %w: %w", ErrInvalid, err)
	}
	if len(index.Manifests) > MaxIndexEntries {
		return nil, fmt.Errorf("index has %d entries, more than %d: %w", len(index.Manifests), MaxIndexEntries, ErrLimit)
	}
	for i, d := range index.Manifests {
		if err := checkDescriptor(d); err != nil {
			return nil, fmt.Errorf("index entry %d: %w", i, err)
		}
	}
	return &index, nil
}

// DecodeManifest decodes and checks the manifest of a container image. Its
// descriptors have parsed digests and known media types.
func DecodeManifest(data []byte, mediaType string) (*v1.Manifest, error) {
	mediaType, err := Identify(data, mediaType)
	if err != nil {
		return nil, err
	}
	return decodeManifest(data, mediaType)
}

// decodeManifest is DecodeManifest of what was identified already.
func decodeManifest(data []byte, mediaType string) (*v1.Manifest, error) {
	if !IsManifest(mediaType) {
		return nil, fmt.Errorf("%q is not a manifest: %w", mediaType, ErrInvalid)
	}
	var m v1.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrInvalid, err)
	}
	if err := checkManifest(&m); err != nil {
		return nil, err
	}
	return &m, nil
}

func checkManifest(m *v1.Manifest) error {
	if err := checkDescriptor(m.Config); err != nil {
		return fmt.Errorf("manifest: config: %w", err)
	}
	if !isConfig(m.Config.MediaType) {
		return fmt.Errorf("manifest: config of type %q: %w: %w", cut(m.Config.MediaType), ErrArtifact, ErrInvalid)
	}
	if m.Config.Size > MaxConfigSize {
		return fmt.Errorf("manifest: config of %d bytes, more than %d: %w", m.Config.Size, MaxConfigSize, ErrLimit)
	}
	if len(m.Layers) > MaxLayers {
		return fmt.Errorf("manifest has %d layers, more than %d: %w", len(m.Layers), MaxLayers, ErrLimit)
	}
	for i, d := range m.Layers {
		if err := checkDescriptor(d); err != nil {
			return fmt.Errorf("manifest: layer %d: %w", i+1, err)
		}
		if strings.HasSuffix(d.MediaType, "+encrypted") {
			return fmt.Errorf("manifest: layer %d is encrypted (%q), which containr cannot undo: use an image that is not, or decrypt it with skopeo first: %w", i+1, cut(d.MediaType), ErrInvalid)
		}
		if !isLayer(d.MediaType) {
			return fmt.Errorf("manifest: layer %d: media type %q is not one of a layer: %w: %w", i+1, cut(d.MediaType), ErrArtifact, ErrInvalid)
		}
	}
	return nil
}

// checkDescriptor checks what any descriptor must have.
func checkDescriptor(d v1.Descriptor) error {
	if d.Size < 0 {
		return fmt.Errorf("size %d is negative: %w", d.Size, ErrInvalid)
	}
	_, err := ParseDigest(d.Digest.String())
	return err
}

// DecodeConfig decodes and checks the configuration of an image with the given
// number of layers.
func DecodeConfig(data []byte, layers int) (*v1.Image, error) {
	if err := checkJSON(data, "image configuration", MaxConfigSize); err != nil {
		return nil, err
	}
	var c v1.Image
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("image configuration: %w: %w", ErrInvalid, err)
	}
	switch {
	case c.RootFS.Type != "" && c.RootFS.Type != "layers":
		return nil, fmt.Errorf("image configuration: rootfs of type %q, not layers: %w", cut(c.RootFS.Type), ErrInvalid)
	case len(c.RootFS.DiffIDs) != layers:
		return nil, fmt.Errorf("image configuration lists %d layers, manifest %d: %w", len(c.RootFS.DiffIDs), layers, ErrInvalid)
	case c.OS == "" || c.Architecture == "":
		return nil, fmt.Errorf("image configuration names no os or architecture: %w", ErrInvalid)
	}
	for i, d := range c.RootFS.DiffIDs {
		if _, err := ParseDigest(d.String()); err != nil {
			return nil, fmt.Errorf("image configuration: diff id %d: %w", i+1, err)
		}
	}
	return &c, nil
}

// checkJSON checks the bounds of a document before it is decoded: its size, and
// how deeply it nests, as decoding costs memory with both.
func checkJSON(data []byte, what string, size int) error {
	if len(data) > size {
		return fmt.Errorf("%s is larger than %d bytes: %w", what, size, ErrLimit)
	}
	depth, inString, escaped := 0, false, false
	for _, c := range data {
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxJSONDepth {
				return fmt.Errorf("%s nests deeper than %d levels: %w", what, MaxJSONDepth, ErrLimit)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return fmt.Errorf("%s is not a JSON object: %w", what, ErrInvalid)
	}
	return nil
}
