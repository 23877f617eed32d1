package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/snapshot"
	"github.com/containr/containr/pkg/volume"
)

// A layer of a container's own that may take no more than a size is an image, as the content of a volume with a size is: a file
// with a file system, in the directory of the layer. The container's plan mounts it on an empty directory beside it, in the
// container's mount namespace and before the overlay, which has its upper directory there. So the host never has it mounted, and
// the kernel takes mount and loop device away with the container. Who looks at the layer without the container mounts it where
// nobody sees it, as a descriptor.

// ErrLayerSize means that a container's own layer cannot be given a size here.
var ErrLayerSize = errors.New("no layer with a size can be made here")

// Parts of the directory of a layer: where the upper and work directories are, in the directory itself or in the image.
const (
	upperDir   = "upper"
	workDir    = "work"
	layerImage = "image"
	spaceDir   = "space"
)

// layerImageOf is the image of a container's layer, "" if it has none.
func layerImageOf(home *home, c container.Config, id string) volume.Image {
	if c.StorageSize == 0 {
		return ""
	}
	return volume.Image(filepath.Join(home.layer(id), layerImage))
}

// checkLayerSize refuses a size where it cannot be held.
func checkLayerSize(p *prepared, driver snapshot.Driver, layer string) error {
	refuse := func(why string) error { return fmt.Errorf("--storage-opt size: %s: %w", why, ErrLayerSize) }
	switch {
	case p.home.mapped || p.home.idmapped:
		return refuse("a container with users of its own cannot mount the file system that would bound it")
	case os.Geteuid() != 0:
		return refuse("the layer would be a file system in a file, and the kernel lets only root mount it")
	case driver != snapshot.Overlay && driver != snapshot.Erofs:
		return refuse(fmt.Sprintf("it takes the snapshotter overlay or erofs, this is %s", driver))
	case p.chain == "":
		return refuse("the image has no layer to lie on")
	case strings.Contains(layer, ":"):
		return refuse(layer + " has a colon in it, which ends a path here")
	}
	if err := volume.CheckImages(); err != nil {
		return refuse(err.Error())
	}
	return nil
}

// prepareLimited is Prepare of a snapshot whose changes go to a layer with a size.
func prepareLimited(ctx context.Context, p *prepared, snapshots *snapshot.Store, layer string) ([]snapshot.Mount, error) {
	if err := checkLayerSize(p, snapshots.Driver(), layer); err != nil {
		return nil, err
	}
	space := filepath.Join(layer, spaceDir)
	if err := p.home.makeDir(space); err != nil {
		return nil, err
	}
	image := layerImageOf(p.home, p.config, p.place.ID)
	var mounts []snapshot.Mount
	err := image.Make(ctx, p.config.StorageSize, func(dir string) (err error) {
		mounts, err = snapshots.Prepare(ctx, p.chain, filepath.Join(dir, upperDir), filepath.Join(dir, workDir))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("--storage-opt size: %w", err)
	}
	for i := range mounts {
		m := &mounts[i]
		m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "upperdir=") || strings.HasPrefix(o, "workdir=") })
		m.Options = append(m.Options, "upperdir="+filepath.Join(space, upperDir), "workdir="+filepath.Join(space, workDir), rootfs.SpaceOption+string(image)+":"+space)
	}
	return mounts, nil
}

// attachLayer names the loop device of a layer with a size in a copy of the specification, and returns it open; nil if there is none.
func attachLayer(ctx context.Context, spec *specs.Spec) (*specs.Spec, *os.File, error) {
	for i, m := range spec.Mounts {
		for j, o := range m.Options {
			place, ok := strings.CutPrefix(o, rootfs.SpaceOption)
			if !ok {
				continue
			}
			image, dir, _ := strings.Cut(place, ":")
			device, err := volume.Image(image).Attach(ctx)
			if err != nil {
				return nil, nil, fmt.Errorf("the container's layer: %w", err)
			}
			own := *spec
			own.Mounts = slices.Clone(spec.Mounts)
			own.Mounts[i].Options = slices.Clone(m.Options)
			own.Mounts[i].Options[j] = rootfs.SpaceOption + device.Name() + ":" + dir
			return &own, device, nil
		}
	}
	return spec, nil, nil
}

// openUpper makes what a container has changed reachable: the directory, until close is called.
func openUpper(home *home, r container.Record) (dir string, close func() error, err error) {
	image := layerImageOf(home, r.Config, r.ID)
	if image == "" {
		return filepath.Join(home.layer(r.ID), upperDir), func() error { return nil }, nil
	}
	dir, close, err = image.Open(true)
	if err != nil {
		return "", nil, fmt.Errorf("container %s: its layer: %w", r.Name, err)
	}
	return filepath.Join(dir, upperDir), close, nil
}
