package image

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/testimage"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	blobJSON  = `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"` + someDigest + `","size":5}`
	configRef = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + someDigest + `","size":5}`
)

func TestIdentify(t *testing.T) {
	manifest, index := v1.MediaTypeImageManifest, v1.MediaTypeImageIndex
	for _, c := range []struct {
		data, announced, want, text string
		err                         error
	}{
		{`{"schemaVersion":2,"config":{},"layers":[]}`, "", manifest, "", nil},
		{`{"schemaVersion":2,"config":{},"layers":[]}`, dockerManifestType, dockerManifestType, "", nil},
		{`{"schemaVersion":2,"manifests":[]}`, "application/json", index, "", nil},
		{`{"schemaVersion":2,"mediaType":"` + dockerIndexType + `","manifests":[]}`, "", dockerIndexType, "", nil},
		{`{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}`, manifest, "", "manifest has both manifests and layers or config: invalid image", ErrInvalid},
		{`{"schemaVersion":2,"manifests":[],"config":{}}`, index, "", "manifest has both manifests and layers or config: invalid image", ErrInvalid},
		{`{"schemaVersion":2,"manifests":[],"LAYERS":[]}`, index, "", "manifest has both manifests and layers or config: invalid image", ErrInvalid},
		{`{"schemaVersion":2,"mediaType":"` + index + `","manifests":[]}`, manifest, "", `manifest says it is "` + index + `" but was announced as "` + manifest + `": invalid image`, ErrInvalid},
		{`{"schemaVersion":2,"mediaType":"` + manifest + `","manifests":[]}`, "", "", `manifest is "` + manifest + `", but lacks its fields: invalid image`, ErrInvalid},
		{`{"schemaVersion":2}`, "", "", "manifest has neither manifests nor layers: invalid image", ErrInvalid},
		{`{"schemaVersion":1,"fsLayers":[]}`, "", "", "manifest of schema version 1, which was given up in 2015, is not supported: invalid image", ErrInvalid},
		{`{"layers":[],"config":{}}`, "", "", "manifest has schema version 0, not 2: invalid image", ErrInvalid},
		{`{"schemaVersion":2,"layers":[],"config":{}}`, "text/html", "", `media type "text/html" is neither that of an index nor of a manifest: invalid image`, ErrInvalid},
		{`[]`, "", "", "manifest is not a JSON object: invalid image", ErrInvalid},
		{`{"a":` + strings.Repeat("[", 40), "", "", "manifest nests deeper than 32 levels: limit exceeded", ErrLimit},
		{strings.Repeat(" ", MaxManifestSize+1), "", "", "manifest is larger than 4194304 bytes: limit exceeded", ErrLimit},
	} {
		got, err := Identify([]byte(c.data), c.announced)
		if c.err == nil && (err != nil || got != c.want) {
			t.Errorf("%.80s: got %q, %v; want %q", c.data, got, err, c.want)
		}
		if c.err != nil {
			expectError(t, err, c.err, c.text)
		}
	}
}

func TestDecodeManifestChecksDescriptors(t *testing.T) {
	document := func(config, layers string) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"config":%s,"layers":[%s]}`, config, layers)
	}
	for _, c := range []struct {
		config, layers, text string
		err                  error
	}{
		{configRef, strings.Replace(blobJSON, someDigest, "sha256:../../x", 1), `manifest: layer 1: digest "sha256:../../x" has 7 digits, not 64: invalid image`, ErrInvalid},
		{configRef, strings.Replace(blobJSON, ":5}", ":-5}", 1), `manifest: layer 1: size -5 is negative: invalid image`, ErrInvalid},
		{configRef, strings.Replace(blobJSON, "v1.tar", "v1.tar+encrypted", 1), `manifest: layer 1 is encrypted ("application/vnd.oci.image.layer.v1.tar+encrypted"), which containr cannot undo: use an image that is not, or decrypt it with skopeo first: invalid image`, ErrInvalid},
		{strings.Replace(configRef, "oci.image.config", "cncf.helm.config", 1), "", `manifest: config of type "application/vnd.cncf.helm.config.v1+json": not a container image but another kind of artifact: invalid image`, ErrInvalid},
		{strings.Replace(configRef, ":5}", ":9999999}", 1), "", `manifest: config of 9999999 bytes, more than 8388608: limit exceeded`, ErrLimit},
		{configRef, strings.Repeat(blobJSON+",", 500) + blobJSON, `manifest has 501 layers, more than 500: limit exceeded`, ErrLimit},
		{configRef, blobJSON, "", nil},
	} {
		_, err := DecodeManifest(document(c.config, c.layers), v1.MediaTypeImageManifest)
		if c.err == nil && err != nil {
			t.Error(err)
		}
		if c.err != nil {
			expectError(t, err, c.err, c.text)
		}
	}
}

func TestDecodeIndexBounds(t *testing.T) {
	many := `{"schemaVersion":2,"manifests":[` + strings.Repeat(blobJSON+",", 1024) + blobJSON + `]}`
	_, err := DecodeIndex([]byte(many), "")
	expectError(t, err, ErrLimit, "index has 1025 entries, more than 1024: limit exceeded")
	_, err = DecodeIndex([]byte(`{"schemaVersion":2,"manifests":[{"digest":"x"}]}`), "")
	expectError(t, err, ErrInvalid, `index entry 0: digest "x" has no algorithm: invalid image`)
}

func TestDecodeConfigChecks(t *testing.T) {
	for data, text := range map[string]string{
		`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["x"]}}`: `image configuration: diff id 1: digest "x" has no algorithm: invalid image`,
		`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`:    `image configuration lists 0 layers, manifest 1: invalid image`,
		`{"rootfs":{"type":"layers","diff_ids":["` + someDigest + `"]}}`:                    `image configuration names no os or architecture: invalid image`,
		`{"os":"linux","architecture":"amd64","rootfs":{"type":"blocks"}}`:                  `image configuration: rootfs of type "blocks", not layers: invalid image`,
	} {
		_, err := DecodeConfig([]byte(data), 1)
		expectError(t, err, ErrInvalid, text)
	}
}

// Whatever is accepted is of one kind only, and has parsed digests.
func FuzzDocuments(f *testing.F) {
	img := testimage.Build(testimage.Options{})
	f.Add(img.Manifest.Data, "")
	f.Add(testimage.Index(img).Data, v1.MediaTypeImageIndex)
	f.Add(img.Config.Data, "application/json")
	f.Add([]byte(`{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}`), "")
	f.Fuzz(func(t *testing.T, data []byte, mediaType string) {
		index, indexErr := DecodeIndex(data, mediaType)
		manifest, manifestErr := DecodeManifest(data, mediaType)
		if indexErr == nil && manifestErr == nil {
			t.Fatal("both an index and a manifest")
		}
		var all []v1.Descriptor
		if indexErr == nil {
			all = index.Manifests
		}
		if manifestErr == nil {
			all = append(manifest.Layers, manifest.Config)
		}
		for _, d := range all {
			if _, err := ParseDigest(d.Digest.String()); err != nil || d.Size < 0 {
				t.Fatalf("accepted descriptor %+v", d)
			}
		}
		if config, err := DecodeConfig(data, 1); err == nil && len(config.RootFS.DiffIDs) != 1 {
			t.Fatal("accepted a configuration with another number of layers")
		}
		children(data)
		if indexErr == nil && !json.Valid(data) {
			t.Fatal("accepted what is not JSON")
		}
	})
}
