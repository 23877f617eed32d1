package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/monitor"
)

// When the machine goes down, containers end without anybody who sees it, and what was in the run directory is about
// processes that are no more. In a later boot their numbers belong to others, and so may their start times. So nothing is
// taken from a run directory of another boot, and a state says in which boot a container ran.

// bootFile is the file of the run directory that names the boot that it is of.
const bootFile = "boot"

// forgetFormerBoot empties a run directory that is of another boot. Those in /run are empty by then.
func forgetFormerBoot(run string) error {
	path := filepath.Join(run, bootFile)
	text, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(text)) == sys.BootID() {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("run directory: %w", err)
	}
	if err := os.MkdirAll(run, 0o700); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	lock, err := durable.Acquire(context.Background(), filepath.Join(run, bootFile+".lock"), durable.Exclusive)
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	defer lock.Release()
	text, err = os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it is new, or of a containr that did not write this file
	case err != nil:
		return fmt.Errorf("run directory: %w", err)
	case strings.TrimSpace(string(text)) == sys.BootID():
		return nil
	default:
		if err := empty(run, bootFile+".lock"); err != nil {
			return fmt.Errorf("run directory of another boot: %w", err)
		}
	}
	return durable.WriteFile(path, []byte(sys.BootID()+"\n"), durable.Options{Volatile: true})
}

// empty removes all that is in a directory but one file.
func empty(dir, but string) error {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.Name() != but {
			err = errors.Join(err, safepath.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	return err
}

// formerBoot reports whether a container ran last before the machine was restarted.
func formerBoot(st container.State) bool { return st.Boot != "" && st.Boot != sys.BootID() }

// errFormerExit means that an exit status is not that of the last run: the file that says so was not on the disk yet
// when the machine went down.
var errFormerExit = errors.New("the exit status is that of a former run")

// whyNobodySaw says why the exit status of a container is not known.
func whyNobodySaw(st container.State) string {
	if formerBoot(st) {
		return "nobody saw its end: the machine was restarted"
	}
	return "nobody saw its end: containr and the container's keeper were killed"
}

// stayEnded writes down that a container that was to be started again is not: the machine was restarted.
func (e *Engine) stayEnded(ctx context.Context, r container.Record) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	return containers.Update(ctx, r.ID, func(st *container.State) error {
		if st.Status == container.Restarting && formerBoot(*st) {
			st.Status, st.RestartAt = container.Exited, time.Time{}
		}
		return nil
	})
}

// Boot does what is to be done after the machine was started: containers whose restart policy is always or unless-stopped, and
// that ran when it went down, are started again, and of the policy always also those that a user had stopped; what --rm
// would have removed is removed. It calls started with each that it starts. Called again in the same boot it finds nothing
// to do.
func (e *Engine) Boot(ctx context.Context, started func(container.Record)) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	if err := e.recover(ctx); err != nil {
		return err
	}
	if err := errors.Join(e.removeOrphans(), containers.SweepNames(ctx)); err != nil {
		return err
	}
	records, err := containers.List()
	failures := []error{err}
	// All are locked before the first is started, with which a monitor comes that would start the others too.
	var due []dueContainer
	for _, r := range slices.Backward(records) { // the oldest first
		attended, err := e.takeIfDue(r)
		failures = append(failures, err)
		if attended != nil {
			defer attended.Release()
			due = append(due, dueContainer{r, attended})
		}
	}
	for _, d := range due {
		r, err := containers.Get(d.record.ID) // with its specification
		if err == nil {
			err = e.startLocked(ctx, r, d.attended)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("container %s: %w", d.record.Name, err), d.attended.Release())
			continue
		}
		started(r)
	}
	return errors.Join(failures...)
}

// dueContainer is one that is to be started, and its lock.
type dueContainer struct {
	record   container.Record
	attended *durable.Lock
}

// takeIfDue takes the lock of a container that should run and has not run in this boot; nil if it is not one.
func (e *Engine) takeIfDue(r container.Record) (*durable.Lock, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	attended, err := containers.TakeOver(r.ID)
	if errors.Is(err, durable.ErrLocked) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, container.ErrNotFound) {
		return nil, nil // somebody else starts or removes it
	}
	if err != nil {
		return nil, err
	}
	st, err := containers.State(r.ID)
	byHand := st.Status == container.Exited && st.Stopped && r.Config.Restart.Policy == container.RestartAlways
	if err == nil && formerBoot(st) && (st.Status == container.Restarting || byHand) {
		return attended, nil
	}
	if errors.Is(err, container.ErrNotFound) {
		err = nil
	}
	return nil, errors.Join(err, attended.Release())
}

// removeOrphans removes the layers and logs of containers that are gone with the run directory.
func (e *Engine) removeOrphans() error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	orphans, err := e.orphanLayers()
	for _, dir := range orphans {
		err = errors.Join(err, safepath.RemoveAll(dir))
	}
	if err := errors.Join(err, e.removeOrphanVolumes()); err != nil {
		return err
	}
	logs, err := os.ReadDir(filepath.Join(e.root, "logs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range logs {
		if _, dirErr := containers.Dir(entry.Name()); errors.Is(dirErr, container.ErrNotFound) {
			err = errors.Join(err, monitor.RemoveLog(e.root, e.run, entry.Name()))
		}
	}
	return err
}
