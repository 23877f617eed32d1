package engine

import (
	"context"
	"errors"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/volume"
)

// PruneRequest asks for all that nobody needs to be removed.
type PruneRequest struct {
	// Containers says which of those that do not run may go.
	Containers func(container.Record, container.State) bool
	// Networks, if it is not nil, says which networks may go, of those that no container is in.
	Networks func(networks.Network) bool
	// Images says which images may go, of those that no container was made of.
	Images func(image.Listed) bool
	// Volumes says which volumes may go, of those that no container has. nil is none.
	Volumes func(volume.Volume) bool
}

// Pruned says what went.
type Pruned struct {
	Containers []container.Record
	Networks   []networks.Network
	Images     *image.Removed
	Volumes    []volume.Volume
	// Freed is how many bytes less the state root takes on disk.
	Freed int64
}

// Prune removes containers that do not run, then networks and images that no container was made of, and all that is then needed by
// nothing; also the parts of blobs that pulls were cut off in, however young they are.
func (e *Engine) Prune(ctx context.Context, r PruneRequest) (*Pruned, error) {
	before, err := measure(e.root)
	if err != nil {
		return nil, err
	}
	if err := e.recover(ctx); err != nil {
		return nil, err
	}
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	// Who wants all the room there is does not want to go on with a pull.
	if err := images.DropPartials(ctx); err != nil {
		return nil, err
	}
	p := &Pruned{}
	if p.Containers, err = e.pruneContainers(ctx, r.Containers); err != nil {
		return p, err
	}
	if r.Networks != nil {
		if p.Networks, err = e.PruneNetworks(ctx, r.Networks); err != nil {
			return p, err
		}
	}
	if r.Volumes != nil {
		if p.Volumes, _, err = e.PruneVolumes(ctx, r.Volumes); err != nil {
			return p, err
		}
	}
	if p.Images, err = e.PruneImages(ctx, PruneImagesRequest{Doomed: r.Images}); err != nil {
		return p, err
	}
	after, err := measure(e.root)
	if err != nil {
		return p, err
	}
	p.Freed = max(before.total()-after.total(), 0)
	return p, nil
}

func (e *Engine) pruneContainers(ctx context.Context, doomed func(container.Record, container.State) bool) ([]container.Record, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	if err != nil {
		return nil, err
	}
	var ids []string
	var going []container.Record
	for _, r := range records {
		st, err := containers.State(r.ID)
		if errors.Is(err, container.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if (st.Status == container.Exited || st.Status == container.Created) && doomed(r, st) {
			ids, going = append(ids, r.ID), append(going, r)
		}
	}
	var gone []container.Record
	var failures []error
	e.Each(ctx, ids, Together, func(ctx context.Context, i int) error {
		_, err := e.Remove(ctx, RemoveRequest{Container: ids[i]})
		return err
	}, func(i int, err error) {
		switch {
		case errors.Is(err, container.ErrNotFound), errors.Is(err, ErrRunning): // somebody was faster
		case err != nil:
			failures = append(failures, err)
		default:
			gone = append(gone, going[i])
		}
	})
	return gone, errors.Join(failures...)
}

// total is what all of the state root takes.
func (m *measured) total() (sum int64) {
	for _, bytes := range m.parts {
		sum += bytes
	}
	return sum
}
