package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/snapshot"
)

// provideImage finds an image that is to be seen in a container.
func (e *Engine) provideImage(ctx context.Context, p *prepared, m *container.Mount, o prepareOptions) error {
	img, err := e.findImage(ctx, container.Config{Image: m.Source, Platform: p.config.Platform, Pull: p.config.Pull}, o.progress)
	if err != nil {
		return err
	}
	m.Chain = string(chainOf(img))
	p.contents[m.Target], err = e.imageContent(ctx, p.home, *m, img)
	return err
}

// imageContent says what is mounted so that a container of a home sees an image, which is unpacked if need be.
func (e *Engine) imageContent(ctx context.Context, h *home, m container.Mount, img *image.Image) (container.Content, error) {
	none := container.Content{}
	images, err := e.images()
	if err != nil {
		return none, err
	}
	var mount specs.Mount
	if h.mapped {
		mount, err = e.mappedImage(ctx, h, images, img)
	} else {
		mount, err = e.shownImage(ctx, h, images, img)
		if err == nil && h.idmapped && mount.Type == snapshot.ErofsType { // only layers of an overlay are mapped, and binds
			mount, err = e.mappedImage(ctx, h, images, img)
		}
	}
	if err != nil {
		return none, err
	}
	if m.Subpath != "" && mount.Type != "bind" {
		return none, errors.New("image-subpath: only of an image that has one layer, which is a directory (not --snapshotter erofs)")
	}
	if h.idmapped && !slices.Contains(mount.Options, "idmap") {
		mount.Options = append(mount.Options, "idmap")
	}
	options := slices.DeleteFunc(mount.Options, func(o string) bool { return o == "ro" }) // the mount is
	return container.Content{Type: mount.Type, Source: mount.Source, Options: append(options, "rprivate")}, nil
}

// shownImage is the mount of an image's tree.
func (e *Engine) shownImage(ctx context.Context, h *home, images *image.Store, img *image.Image) (specs.Mount, error) {
	snapshots, err := h.presented(e)
	if err != nil {
		return specs.Mount{}, err
	}
	chain := chainOf(img)
	if !snapshots.Has(chain) {
		if _, err := e.unpackStored(ctx, snapshots, images, img); err != nil {
			return specs.Mount{}, err
		}
	}
	mounts, err := e.present(ctx, snapshots, chain, "", "")
	if err != nil {
		return specs.Mount{}, err
	}
	return specMount(mounts[0]), nil
}

// mappedImage is the mount of an image's tree for a container whose users are others on the host: that of all containers,
// with its owners mapped by the kernel.
func (e *Engine) mappedImage(ctx context.Context, h *home, images *image.Store, img *image.Image) (specs.Mount, error) {
	facts, err := e.facts()
	if err != nil {
		return specs.Mount{}, err
	}
	on, err := e.storage(e.root)
	if err != nil {
		return specs.Mount{}, err
	}
	if problem, mend := facts.NoIDMap(on.FileSystem); problem != "" {
		return specs.Mount{}, fmt.Errorf("show image %s to a container with --uidmap: %s: %s", img.Name, problem, mend)
	}
	snapshots, err := e.snapshots()
	if err != nil {
		return specs.Mount{}, err
	}
	chain, err := e.unpackStored(ctx, snapshots, images, img)
	if err != nil {
		return specs.Mount{}, err
	}
	m, err := snapshots.MappedView(ctx, chain, h.uids, h.gids)
	mount := specMount(m)
	if m.UIDMap != nil { // the maps are the container's own
		mount.Options = append(mount.Options, "idmap")
	}
	return mount, err
}

// ensureImages unpacks once more what is gone of the images that a container sees, as ensureLayers does with its own layers, and
// tells the specification, if the record has it, where they are now. Without the image a container has to do with what is there.
func (e *Engine) ensureImages(ctx context.Context, record container.Record) error {
	for _, m := range record.Config.Mounts {
		if m.Type != container.MountImage || m.Chain == "" {
			continue
		}
		if err := e.ensureImage(ctx, record, m); err != nil {
			return fmt.Errorf("container %s: the image on %s: %w", record.Name, m.Target, err)
		}
	}
	return nil
}

func (e *Engine) ensureImage(ctx context.Context, record container.Record, m container.Mount) error {
	var mount *specs.Mount
	if record.Spec != nil {
		if i := slices.IndexFunc(record.Spec.Mounts, func(s specs.Mount) bool { return s.Destination == m.Target }); i >= 0 {
			mount = &record.Spec.Mounts[i]
		}
	}
	there, err := e.hasImageVolume(m)
	if err != nil || there && (mount == nil || !staleMount(*mount)) {
		return err
	}
	img, err := e.imageOfChain(m.Chain)
	if img == nil || err != nil {
		return err
	}
	h, err := e.homeOf(record.Config)
	if err != nil {
		return err
	}
	content, err := e.imageContent(ctx, h, m, img)
	if err == nil && mount != nil {
		*mount = container.ContentMount(m, content)
	}
	return err
}

// hasImageVolume reports whether the layers of an image that a container sees are unpacked.
func (e *Engine) hasImageVolume(m container.Mount) (bool, error) {
	snapshots, err := e.snapshots() // also if the container's own are elsewhere: the kernel maps the owners
	return err == nil && snapshots.Has(snapshot.ChainID(m.Chain)), err
}

// staleMount reports whether what is mounted for an image is not there, or no longer what it was: a layer that has been unpacked
// again may be a file where it was a directory, or the reverse. The layers of overlays are looked after by renewImages.
func staleMount(m specs.Mount) bool {
	if m.Type != "bind" && m.Type != snapshot.ErofsType {
		return false
	}
	_, err := os.Lstat(m.Source)
	_, isImage := snapshot.ImageAt(m.Source)
	return err != nil || isImage
}

// imageOfChain finds the image that a container sees; nil if it is not in the store any more. Its name may mean another one by now.
func (e *Engine) imageOfChain(chain string) (*image.Image, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	listed, err := images.List()
	if err != nil {
		return nil, err
	}
	for _, l := range listed {
		for _, img := range l.Images {
			if string(chainOf(img)) == chain {
				return img, nil
			}
		}
	}
	return nil, nil
}
