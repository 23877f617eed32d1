package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/snapshot"
)

// SourceDateVariable is the environment variable that bounds the times in what is made, so that the same input makes the
// same image (https://reproducible-builds.org/specs/source-date-epoch/): seconds since 1970.
const SourceDateVariable = "SOURCE_DATE_EPOCH"

// sourceDate reads the variable; it is zero if that is not set.
func sourceDate() (time.Time, error) {
	value := os.Getenv(SourceDateVariable)
	if value == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("environment variable %s is %q, not a number of seconds since 1970", SourceDateVariable, value)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// Names of what is in a directory that an image was unpacked to. With config.json it is a bundle for OCI runtimes.
const (
	bundleRootfs = "rootfs"
	bundleConfig = "config.json"
	bundleRecord = "containr.json"
)

// bundle says of which image a directory was made.
type bundle struct {
	Name     string
	Manifest digest.Digest
	Platform string
	Chain    snapshot.ChainID
}

// ErrBundle says that a directory is not one that an image was unpacked to.
var ErrBundle = errors.New("not a directory that an image was unpacked to")

// UnpackRequest asks for an image to be unpacked to a directory.
type UnpackRequest struct {
	InspectRequest
	// Dir must not exist, or be empty.
	Dir string
}

// UnpackImage makes a directory of an image: rootfs, config.json for an OCI runtime, and a record for RepackImage.
func (e *Engine) UnpackImage(ctx context.Context, r UnpackRequest) error {
	img, err := e.InspectImage(ctx, r.InspectRequest)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(r.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("unpack to %s: directory is not empty: %w", r.Dir, fs.ErrExist)
	}
	snapshots, chain, err := e.unpackNamed(ctx, r.InspectRequest)
	if err != nil {
		return err
	}
	spec, err := e.bundleSpec(ctx, img)
	if err != nil {
		return err
	}
	made := entries == nil
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return err
	}
	record := bundle{Name: img.Name, Manifest: img.ManifestDigest, Platform: img.Platform().String(), Chain: chain}
	err = snapshots.Copy(ctx, chain, filepath.Join(r.Dir, bundleRootfs))
	err = errors.Join(err, writeDocument(filepath.Join(r.Dir, bundleConfig), spec), writeDocument(filepath.Join(r.Dir, bundleRecord), record))
	if err != nil && made {
		err = errors.Join(err, safepath.RemoveAll(r.Dir))
	}
	return err
}

func writeDocument(path string, document any) error {
	data, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'), durable.Options{Mode: 0o600})
}

// bundleSpec is the configuration of a container of the image, as run would make it, without what needs a container's own
// directory: the files that run generates, and the layers in the place of which rootfs is there.
func (e *Engine) bundleSpec(ctx context.Context, img *image.Image) (*specs.Spec, error) {
	config := container.Config{Image: img.ManifestDigest.String(), Platform: img.Platform().String(), Pull: container.PullNever}
	if len(img.Config.Config.Cmd)+len(img.Config.Config.Entrypoint) == 0 {
		config.Args = []string{"sh"}
	}
	x, err := e.Explain(ctx, ExplainRequest{Config: config})
	if err != nil {
		return nil, err
	}
	spec := *x.Spec
	spec.Root = &specs.Root{Path: bundleRootfs}
	spec.Mounts = nil
	for _, m := range x.Spec.Mounts {
		if m.Destination == "/" || strings.HasPrefix(m.Source, e.root+"/") || strings.HasPrefix(m.Source, e.run+"/") {
			continue
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	return &spec, nil
}

// RepackRequest asks for an image to be made of a directory that an image was unpacked to.
type RepackRequest struct {
	// Dir is the directory; Name the new image's.
	Dir, Name string
	// Comment goes to the image's history.
	Comment string
}

// RepackImage makes an image of what became of a directory: the layers of the image that it was, which must be in the
// store still, and one more with what was changed in rootfs.
func (e *Engine) RepackImage(ctx context.Context, r RepackRequest) (*image.Image, error) {
	date, err := sourceDate()
	if err != nil {
		return nil, err
	}
	record, err := readBundle(r.Dir)
	if err != nil {
		return nil, err
	}
	base, err := e.InspectImage(ctx, InspectRequest{Name: record.Manifest.String(), Platform: record.Platform})
	if err != nil {
		return nil, fmt.Errorf("repack %s, which was made of image %s: %w", r.Dir, record.Name, err)
	}
	if _, _, err := e.unpackNamed(ctx, InspectRequest{Name: record.Manifest.String(), Platform: record.Platform}); err != nil {
		return nil, err
	}
	snapshots, err := e.snapshots()
	if err != nil {
		return nil, err
	}
	native := snapshots.With(snapshot.Native) // rootfs is a whole tree
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	img, err := images.Derive(ctx, image.DeriveRequest{
		Name: r.Name, Base: base, CreatedBy: "containr image repack", Comment: r.Comment, Created: date,
		Layer: func(w io.Writer) error {
			return native.Diff(ctx, w, record.Chain, filepath.Join(r.Dir, bundleRootfs), snapshot.ArchiveOptions{Latest: date})
		},
	})
	if err == nil {
		warnOfSpace(images)
	}
	return img, err
}

func readBundle(dir string) (bundle, error) {
	var record bundle
	data, err := os.ReadFile(filepath.Join(dir, bundleRecord))
	if errors.Is(err, fs.ErrNotExist) {
		return record, fmt.Errorf("%s: %w: there is no %s in it", dir, ErrBundle, bundleRecord)
	}
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err != nil {
		return record, fmt.Errorf("%s: %w", filepath.Join(dir, bundleRecord), err)
	}
	return record, nil
}

// ConfigureRequest asks for an image that differs from another one in how it is run.
type ConfigureRequest struct {
	InspectRequest
	// Target is the new image's name; if it is empty, the name moves to the new image.
	Target string
	// Change changes the configuration.
	Change func(*v1.ImageConfig) error
	// Comment goes to the image's history.
	Comment string
}

// ConfigureImage makes an image with the same layers and other configuration.
func (e *Engine) ConfigureImage(ctx context.Context, r ConfigureRequest) (*image.Image, error) {
	date, err := sourceDate()
	if err != nil {
		return nil, err
	}
	img, err := e.InspectImage(ctx, r.InspectRequest)
	if err != nil {
		return nil, err
	}
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	config := img.Config.Config
	config.Env, config.Labels = slices.Clone(config.Env), maps.Clone(config.Labels)
	config.Volumes, config.ExposedPorts = maps.Clone(config.Volumes), maps.Clone(config.ExposedPorts)
	if err := r.Change(&config); err != nil {
		return nil, err
	}
	if r.Target == "" {
		r.Target = img.Name
	}
	return images.Derive(ctx, image.DeriveRequest{
		Name: r.Target, Base: img, CreatedBy: "containr image config", Comment: r.Comment, Created: date,
		Change: func(c *v1.Image) { c.Config = config },
	})
}
