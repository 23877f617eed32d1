package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
)

// UpdateRequest asks for limits of a container, or its restart policy, to change.
type UpdateRequest struct {
	Container string
	// Resources are the limits that change; what is zero stays.
	Resources container.Resources
	// Restart is the new policy; nil leaves the old one.
	Restart *container.Restart
	// Publish are ports to be published besides, and Unpublish those that are to be no longer.
	Publish, Unpublish []container.Port
}

// Update changes limits of a container: at once if it runs, and for its next starts.
func (e *Engine) Update(ctx context.Context, r UpdateRequest) (container.Record, error) {
	if len(r.Publish)+len(r.Unpublish) > 0 {
		lock, err := e.lockNetworks(ctx, r.Container)
		if err != nil {
			return container.Record{}, err
		}
		defer lock.Release()
	}
	record, err := e.Get(ctx, r.Container)
	if err != nil {
		return record, err
	}
	if r.Restart != nil && r.Restart.Wanted() && record.Config.AutoRemove {
		return record, fmt.Errorf("container %s: it was made with --rm: its end removes it, and no policy can start it again", record.Name)
	}
	if r.Restart != nil {
		changed := record
		changed.Config.Restart = *r.Restart
		if err := changed.CheckRestart(); err != nil {
			return record, fmt.Errorf("container %s: %w", record.Name, err)
		}
	}
	machine, err := e.machine()
	if err != nil {
		return record, err
	}
	merged, err := container.MergeResources(record.Config.Resources, r.Resources, machine)
	if err != nil {
		return record, fmt.Errorf("container %s: %w", record.Name, err)
	}
	if err := e.updateLive(record, r.Resources); err != nil {
		return record, err
	}
	containers, err := e.containers()
	if err != nil {
		return record, err
	}
	record, err = containers.Change(ctx, record.ID, func(rec *container.Record) error {
		rec.Config.Resources = merged
		if r.Restart != nil {
			rec.Config.Restart = *r.Restart
		}
		container.SetResources(rec.Spec, merged)
		return nil
	})
	if err == nil && len(r.Publish)+len(r.Unpublish) > 0 {
		record, err = e.changePorts(ctx, record, r)
	}
	if err == nil {
		e.tell(events.Update, record)
	}
	return record, err
}

// updateLive changes the limits of a container that runs.
func (e *Engine) updateLive(record container.Record, change container.Resources) error {
	if change == (container.Resources{}) {
		return nil
	}
	st, err := e.State(record)
	if err != nil || st.PID == 0 {
		return err
	}
	rt, err := e.runtime()
	if err != nil {
		return err
	}
	err = rt.Update(record.ID, container.ResourceChange(change))
	if err != nil && !errors.Is(err, container.ErrNotFound) {
		return fmt.Errorf("container %s: %w", record.Name, err)
	}
	return err
}

// PruneContainers removes the containers that do not run and that doomed says may go, and returns
// them with how many bytes less the state root takes on disk. One that is started meanwhile stays.
func (e *Engine) PruneContainers(ctx context.Context, doomed func(container.Record, container.State) bool) ([]container.Record, int64, error) {
	before, err := measure(e.root)
	if err != nil {
		return nil, 0, err
	}
	if err := e.recover(ctx); err != nil {
		return nil, 0, err
	}
	gone, err := e.pruneContainers(ctx, doomed)
	if err != nil {
		return gone, 0, err
	}
	after, err := measure(e.root)
	if err != nil {
		return gone, 0, err
	}
	freed := max(before.total()-after.total(), 0)
	e.write(events.Event{Type: events.Container, Action: events.Prune, Attributes: events.Attributes("reclaimed", strconv.FormatInt(freed, 10))})
	return gone, freed, nil
}
