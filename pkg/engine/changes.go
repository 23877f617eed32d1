package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/snapshot"
)

// ErrNoImage means that a container was made of a directory (--rootfs), and so has no layers.
var ErrNoImage = errors.New("the container was made of a directory, not of an image")

// layers are what a container's tree is made of.
type layers struct {
	record    container.Record
	snapshots *snapshot.Store
	chain     snapshot.ChainID
	upper     string
	// close ends the reach of upper.
	close func() error
}

// layersOf finds the layers of a container. The caller closes them.
func (e *Engine) layersOf(ctx context.Context, ref string) (*layers, error) {
	record, err := e.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if record.Chain == "" {
		return nil, fmt.Errorf("container %s: %w", record.Name, ErrNoImage)
	}
	home, err := e.homeOf(record.Config)
	if err != nil {
		return nil, err
	}
	snapshots, err := home.snapshots(e)
	if err != nil {
		return nil, err
	}
	upper, closeUpper, err := openUpper(home, record)
	if err != nil {
		return nil, err
	}
	return &layers{record, snapshots.With(snapshot.Driver(record.Snapshotter)), snapshot.ChainID(record.Chain), upper, closeUpper}, nil
}

// Diff lists what a container has changed of its image's tree. Files and directories that were made for
// something to be mounted on are left out.
func (e *Engine) Diff(ctx context.Context, ref string) ([]snapshot.Change, error) {
	l, err := e.layersOf(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer l.close()
	all, err := l.snapshots.Changes(ctx, l.chain, l.upper, l.isMountPoint)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", l.record.Name, err)
	}
	return slices.DeleteFunc(all, func(c snapshot.Change) bool { return c.Path == "/" }), nil
}

// isMountPoint reports whether something is mounted on a path in the container: what is there was
// made for that, by containr.
func (l *layers) isMountPoint(path string) bool {
	if l.record.Spec == nil {
		return false
	}
	return slices.ContainsFunc(l.record.Spec.Mounts, func(m specs.Mount) bool { return filepath.Clean(m.Destination) == path })
}

// ExportRequest asks for the tree of a container as a tar archive.
type ExportRequest struct {
	Container string
	Out       io.Writer
}

// Export writes the tree of a container, without what is mounted in it.
func (e *Engine) Export(ctx context.Context, r ExportRequest) error {
	l, err := e.layersOf(ctx, r.Container)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.snapshots.Export(ctx, r.Out, l.chain, l.upper, snapshot.ArchiveOptions{}); err != nil {
		return fmt.Errorf("container %s: %w", l.record.Name, err)
	}
	e.tell(events.Export, l.record)
	return nil
}

// CommitRequest asks for an image to be made of a container: its image with its changes as a layer more.
type CommitRequest struct {
	Container string
	// Name is the new image's; it may be empty.
	Name            string
	Author, Message string
	// NoPause leaves the container running meanwhile: files that it changes may be half
	// changed in the image.
	NoPause bool
	// Change, if set, changes how to run the image.
	Change func(*v1.ImageConfig) error
}

// Commit makes an image of a container.
func (e *Engine) Commit(ctx context.Context, r CommitRequest) (*image.Image, error) {
	l, err := e.layersOf(ctx, r.Container)
	if err != nil {
		return nil, err
	}
	defer l.close()
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	base, err := images.Resolve(l.record.ConfigDigest, image.AnyPlatform)
	if err != nil {
		return nil, fmt.Errorf("container %s: its image: %w", l.record.Name, err)
	}
	config := commitConfig(base.Config.Config, l.record.Config)
	if r.Change != nil {
		if err := r.Change(&config); err != nil {
			return nil, err
		}
	}
	resume, err := e.hold(l.record, r.NoPause)
	if err != nil {
		return nil, err
	}
	img, err := images.Commit(ctx, image.CommitRequest{
		Base: base, Name: r.Name, Config: config, Author: r.Author, Comment: r.Message,
		CreatedBy: strings.Join(l.record.Command, " "),
		Layer: func(w io.Writer) error {
			return l.snapshots.Diff(ctx, w, l.chain, l.upper, snapshot.ArchiveOptions{MountPoint: l.isMountPoint})
		},
	})
	if err := errors.Join(err, resume()); err != nil {
		return nil, fmt.Errorf("container %s: %w", l.record.Name, err)
	}
	warnOfSpace(images)
	e.tell(events.Commit, l.record, "imageID", img.ConfigDigest.String(), "imageRef", img.Name)
	return img, nil
}

// ErrCannotHold means that what a container writes was to be copied while it is paused, and that it cannot be paused.
var ErrCannotHold = errors.New("it runs, and cannot be paused meanwhile")

// hold pauses a container that runs, unless no is set. resume lets it go on.
func (e *Engine) hold(record container.Record, no bool) (resume func() error, err error) {
	nothing := func() error { return nil }
	st, err := e.State(record)
	if err != nil || no || st.Status != container.Running {
		return nothing, err
	}
	rt, err := e.runtime()
	if err != nil {
		return nothing, err
	}
	switch err := rt.Pause(record.ID); {
	case errors.Is(err, runtime.ErrNotRunning), errors.Is(err, runtime.ErrNotFound):
		return nothing, nil
	case errors.Is(err, runtime.ErrNoGroup):
		return nothing, fmt.Errorf("container %s: %w: %w", record.Name, ErrCannotHold, runtime.ErrNoGroup)
	case err != nil:
		return nothing, fmt.Errorf("container %s: pause: %w", record.Name, err)
	}
	return func() error {
		err := rt.Resume(record.ID)
		if errors.Is(err, runtime.ErrNotRunning) || errors.Is(err, runtime.ErrNotFound) {
			return nil // somebody has killed it
		}
		return err
	}, nil
}

// commitConfig is how to run an image that is made of a container: as its image, with what
// the user asked for.
func commitConfig(c v1.ImageConfig, asked container.Config) v1.ImageConfig {
	if asked.Entrypoint != nil {
		c.Entrypoint, c.Cmd = asked.Entrypoint, nil
	}
	if len(asked.Args) > 0 {
		c.Cmd = asked.Args
	}
	c.Env = mergeEnv(c.Env, asked.Env)
	if asked.WorkDir != "" {
		c.WorkingDir = asked.WorkDir
	}
	if asked.User != "" {
		c.User = asked.User
	}
	if asked.StopSignal != "" {
		c.StopSignal = asked.StopSignal
	}
	labels := maps.Clone(c.Labels)
	if labels == nil && len(asked.Labels) > 0 {
		labels = map[string]string{}
	}
	maps.Copy(labels, asked.Labels)
	c.Labels = labels
	return c
}

// mergeEnv adds variables to those of an image: KEY=VALUE takes the place of the image's, KEY alone takes it away.
func mergeEnv(env, asked []string) []string {
	out := slices.Clone(env)
	for _, pair := range asked {
		key, _, given := strings.Cut(pair, "=")
		out = slices.DeleteFunc(out, func(old string) bool { return strings.HasPrefix(old, key+"=") })
		if given {
			out = append(out, pair)
		}
	}
	return out
}
