package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/pkg/image"
)

// loadBuiltin puts the image that is part of this binary into the store, if name
// means it and the store has another image, or none, of that name. It reports
// whether name means the built-in image. The short name is reserved for it; an
// image of that name in a registry is reached by its full name.
func (e *Engine) loadBuiltin(ctx context.Context, images *image.Store, name string) (bool, error) {
	if name != "base" && name != baseimage.Name {
		return false, nil
	}
	want, err := baseimage.Digest()
	if errors.Is(err, baseimage.ErrMissing) {
		// A binary without it can still run what an image of that name holds.
		if _, err := images.Resolve(baseimage.Name, image.AnyPlatform); err == nil {
			return true, nil
		}
		return true, fmt.Errorf("image %s: %w", name, err)
	}
	if err != nil {
		return true, fmt.Errorf("built-in image: %w", err)
	}
	if have, err := targetDigest(images, baseimage.Name); err == nil && have == want {
		return true, nil
	}
	archive, err := baseimage.Archive()
	if err != nil {
		return true, fmt.Errorf("built-in image: %w", err)
	}
	_, err = images.Load(ctx, bytes.NewReader(archive), image.LoadOptions{Name: baseimage.Name})
	if err != nil {
		return true, fmt.Errorf("built-in image: %w", err)
	}
	return true, nil
}

func targetDigest(images *image.Store, name string) (digest.Digest, error) {
	img, err := images.Resolve(name, image.AnyPlatform)
	if err != nil {
		return "", err
	}
	return img.Target.Digest, nil
}
