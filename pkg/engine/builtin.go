package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/pkg/image"
)

// isBuiltin reports whether a name means the image that is part of this binary. The
// short name is reserved for it; an image of that name in a registry is reached by
// its full name.
func isBuiltin(name string) bool { return name == "base" || name == baseimage.Name }

// imagesNaming opens the store for a verb that looks images up by name. The built-in image is put into it if one of the
// names means it: it is part of this binary, and so always there.
func (e *Engine) imagesNaming(ctx context.Context, names ...string) (*image.Store, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(names, isBuiltin) {
		if _, err := findBuiltin(ctx, images, image.AnyPlatform); err != nil {
			return nil, err
		}
	}
	return images, nil
}

// findBuiltin returns the built-in image from the store, where it is put first if
// the store has another one, or none, of that name.
func findBuiltin(ctx context.Context, images *image.Store, platform image.Platform) (*image.Image, error) {
	want, err := baseimage.Digest()
	have, resolveErr := images.Resolve(baseimage.Name, platform)
	if errors.Is(err, baseimage.ErrMissing) && resolveErr == nil {
		return have, nil // a binary without it can still run what was loaded by another
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", baseimage.Name, err)
	}
	if resolveErr == nil && have.Target.Digest == want {
		return have, nil
	}
	archive, err := baseimage.Archive()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", baseimage.Name, err)
	}
	if _, err = images.Load(ctx, bytes.NewReader(archive), image.LoadOptions{Name: baseimage.Name}); err != nil {
		return nil, fmt.Errorf("image %s: %w", baseimage.Name, err)
	}
	return images.Resolve(baseimage.Name, platform)
}
