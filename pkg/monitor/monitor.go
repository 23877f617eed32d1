// Package monitor looks after containers that run detached: it copies what they write to
// their logs and to those who are attached, and sees to it that their end is dealt with.
//
// # Theory of operation
//
// There is one monitor for each state root. The first command that needs it starts it,
// and it ends when there is nothing to look after. It may be killed at any moment, and
// nothing is lost by it: the containers' keepers hold their streams (package streams),
// the logs know how far they have come (package logs), and everything else is in the
// files of the containers. The next command starts it again.
//
// It *adopts* a container: takes the lock that says that the container is attended to,
// borrows the streams from its keeper, and copies. When the container has ended, what is
// left in its streams goes to the log; then the keeper, which waits for that, is ended,
// the lock released, and `containr container cleanup` executed, which does what there is
// to do at the end of a container: undo its plan, write down how it ended, remove it or
// have it started again. So the monitor needs to know nothing of images and networks, and
// stays small. If the container is to be started again later, the monitor stays until then
// and has it cleaned up once more.
//
// It also runs the health checks of the containers that it has adopted. What they find is in
// the container's state, so that the next monitor goes on from there.
//
// Others talk to it over the socket monitor.sock in the run directory. A request is a line, which begins with the version
// that the client speaks:
//
//	1 adopt ID     look after this container
//	1 announce ID  the same, when the connection has been closed: by who starts it, or by his
//	               death
//	1 attach ID    the same, and what it writes follows, in frames, see Kind
//	1 await ID     what it will write once it is started follows
//
// So is the answer, with the version of the monitor: "1 ok"; "1 busy", if another process attends to the container,
// which after "adopt" or "announce" is looked after when that one lets go of it; "1 error" and a text; or "1 leaves".
//
// # Upgrades
//
// A newer containr must not find an older monitor that does not do what it is asked for. So a monitor that hears from a client
// of a newer version, or whose program has been replaced, leaves instead of answering: it stops between two chunks of output,
// lets go of all locks, and ends. The client waits for that, starts the monitor that it came with, and asks again; that
// one finds everything where the other has left it, as it would if the other had been killed. A newer monitor serves
// older clients.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/runtime"
)

// Options say what a monitor looks after.
type Options struct {
	// Root and Run are the directories of the state.
	Root, Run string
	// Command is containr with the flags that make it use these directories.
	Command []string
	// Ready, if set, is told "ready" and closed when requests are answered.
	Ready *os.File
}

// Names of the monitor's files in the run directory.
const (
	socketName = "monitor.sock"
	lockName   = "monitor.lock"
	logName    = "monitor.log"
)

// patience is how long the monitor stays when there is nothing to look after.
const patience = 2 * time.Second

// LogDir is the directory of a container's log.
func LogDir(root, id string) string { return filepath.Join(root, "logs", id) }

// positionDir has a file for each log that is being written.
func positionDir(run string) string { return filepath.Join(run, "logs") }

// RemoveLog removes the log of a container.
func RemoveLog(root, run, id string) error {
	return errors.Join(os.RemoveAll(LogDir(root, id)), os.RemoveAll(filepath.Join(positionDir(run), id)), os.RemoveAll(ForwardLock(run, id)),
		os.RemoveAll(filepath.Join(positionDir(run), foregroundSocket(id))))
}

// Monitor is a monitor that runs.
type Monitor struct {
	o          Options
	containers *container.Store
	runtime    *runtime.Runtime

	mu sync.Mutex
	// adopted are the containers that are looked after, and hubs pass on what they write.
	adopted map[string]bool
	hubs    map[string]*hub
	// busy counts what keeps the monitor from ending: adopted containers, cleanups,
	// restarts that are due, requests.
	busy   int
	idle   *time.Timer
	listen net.Listener

	// adopting is held while a container's lock is tried and its streams are opened: two who ask for the same one would
	// find each other's lock. wanted, which changes with it held, are those that are waited for, see adoptLater.
	adopting sync.Mutex
	wanted   map[string]bool

	// restarts says when containers are to be started again.
	restarts map[string]restart

	// stays ends, by stop, when the monitor leaves. Before it ends, those who look after containers have to stop, and then
	// those who talk to clients. All change with mu held.
	stays        context.Context
	stop         context.CancelFunc
	looks, talks sync.WaitGroup
	// dropped says that clients are not served any more.
	dropped bool
}

// Run looks after the containers of a state root until there are none. If there is a
// monitor already it returns at once.
func Run(o Options) error {
	// A command that looks whether there is a monitor holds the lock for a moment.
	short, cancel := context.WithTimeout(background, 100*time.Millisecond)
	defer cancel()
	lock, err := durable.Acquire(short, filepath.Join(o.Run, lockName), durable.Exclusive)
	if short.Err() != nil && err != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Release()
	facts, err := host.Probe()
	if err != nil {
		return err
	}
	m := &Monitor{o: o, adopted: map[string]bool{}, hubs: map[string]*hub{}, restarts: map[string]restart{},
		wanted: map[string]bool{}, busy: 1,
		runtime: &runtime.Runtime{Root: filepath.Join(o.Run, "runtime"), Facts: facts}}
	m.stays, m.stop = context.WithCancel(background)
	defer m.stop()
	if m.containers, err = container.OpenStore(o.Root, o.Run); err != nil {
		return err
	}
	if err := os.MkdirAll(positionDir(o.Run), 0o700); err != nil {
		return err
	}
	if m.listen, err = durable.Listen(o.Run, socketName); err != nil {
		return err
	}
	m.idle = time.AfterFunc(time.Hour, m.endIfIdle)
	m.scan()
	if o.Ready != nil {
		_, err := o.Ready.WriteString("ready")
		if err := errors.Join(err, o.Ready.Close()); err != nil && !errors.Is(err, unix.EPIPE) { // who started us may be gone
			return err
		}
	}
	m.done()
	err = m.serve()
	m.leave()
	m.looks.Wait()
	m.dropClients()
	m.talks.Wait()
	return err
}

// keep says that there is something to stay for, done that it is no more.
func (m *Monitor) keep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy++
}

func (m *Monitor) done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy--; m.busy == 0 {
		m.idle.Reset(patience)
	}
}

// endIfIdle ends the monitor if there is nothing to look after. Who has connected and is
// not answered starts another one.
func (m *Monitor) endIfIdle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy == 0 {
		m.listen.Close()
	}
}

// scan finds what there is to do: containers that nobody attends to, and restarts.
func (m *Monitor) scan() {
	records, err := m.containers.List()
	if err != nil {
		slog.Error("list the containers", "error", err)
	}
	for _, r := range records {
		st, err := m.containers.State(r.ID)
		switch {
		case errors.Is(err, container.ErrNotFound): // it was removed meanwhile
			continue
		case err != nil:
			slog.Error("read the state", "container", r.ID, "error", err)
			continue
		case st.Status == container.Restarting:
			m.await(r.ID, st.RestartAt)
			continue
		case st.Status == container.Exited:
			continue
		}
		m.reportAdopt(r.ID, m.adopt(r.ID))
	}
}

// restart is the next start of a container.
type restart struct {
	// at is when it is due, as the container's state says.
	at time.Time
	// pending says that there is a timer for it, or that it is under way.
	pending bool
}

// retryAfter is when a start is tried again that was due and did not come about: another process attends to the container,
// and may be killed over it.
const retryAfter = time.Second

// await has a container cleaned up, which starts it again, at a time. For the same time that is done once, however many
// ask for it.
func (m *Monitor) await(id string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.restarts[id]
	if last.pending && last.at.Equal(at) {
		return
	}
	due := time.Until(at)
	if last.at.Equal(at) {
		due = max(due, retryAfter)
	}
	m.restarts[id] = restart{at, true}
	m.busy++
	time.AfterFunc(due, func() {
		defer m.done()
		if m.isNext(id, at) {
			m.report(m.command("container", "cleanup", id))
			m.tried(id, at)
			m.resume(id)
		}
	})
}

// isNext reports whether the next start of a container is the one that was due at a time.
func (m *Monitor) isNext(id string, at time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.restarts[id].at.Equal(at)
}

// tried takes note that the start that was due at a time has been tried.
func (m *Monitor) tried(id string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.restarts[id].at.Equal(at) {
		m.restarts[id] = restart{at, false}
	}
}

// cleanup has containr do what is to be done at the end of a container, and looks whether
// it is to be started again.
func (m *Monitor) cleanup(id string) {
	m.report(m.command("container", "cleanup", id))
	m.resume(id)
}

// command executes a command of containr's for a container.
func (m *Monitor) command(args ...string) error {
	cmd := exec.Command(m.o.Command[0], append(m.o.Command[1:len(m.o.Command):len(m.o.Command)], args...)...)
	cmd.Stderr, cmd.Dir = os.Stderr, "/"
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("containr %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// stayFor is command for which the monitor stays.
func (m *Monitor) stayFor(args ...string) error {
	m.keep()
	defer m.done()
	return m.command(args...)
}

// report tells of a command's error, which nobody waits for.
func (m *Monitor) report(err error) {
	if err != nil {
		slog.Error("command", "error", err)
	}
}

// resume remembers a container that waits for its next start.
func (m *Monitor) resume(id string) {
	st, err := m.containers.State(id)
	if err == nil && st.Status == container.Restarting {
		m.await(id, st.RestartAt)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.restarts[id].pending {
		delete(m.restarts, id)
	}
}

// adopt begins to look after a container. It is no error if that is done already, or if
// there is nothing to look after because the container has no keeper any more. The error
// wraps durable.ErrLocked if somebody else attends to it.
func (m *Monitor) adopt(id string) error {
	m.adopting.Lock()
	defer m.adopting.Unlock()
	_, err := m.tryAdopt(id)
	return err
}

// adoptWhenLeft is adopt for who has attended to a container himself, and lets go of it. Then who holds its lock may only
// look: as long as it runs nobody attends to it for good but those who ask here. So the error, which is the same, is no refusal:
// when the lock is free the container is looked after.
func (m *Monitor) adoptWhenLeft(id string) error {
	m.adopting.Lock()
	defer m.adopting.Unlock()
	_, err := m.tryAdopt(id)
	if errors.Is(err, durable.ErrLocked) && !m.wanted[id] {
		m.wanted[id] = true
		m.keep()
		go m.adoptLater(id)
	}
	return err
}

// adoptLater waits until nobody attends to a container, and adopts it. If there is nothing to look after any more, it is
// cleaned up: who should have done that may have found the lock held here.
func (m *Monitor) adoptLater(id string) {
	defer m.done()
	lock, err := m.containers.Await(m.stays, id)
	m.adopting.Lock()
	delete(m.wanted, id) // while the lock is held: who asks from now on is waited for again
	adopted := false
	if err == nil {
		adopted, err = m.take(id, lock)
	}
	m.adopting.Unlock()
	m.reportAdopt(id, err)
	if err == nil && !adopted {
		m.cleanup(id)
	}
}

// tryAdopt takes the lock of a container that is not adopted yet, if it is free, and the container with it. What is called
// adopting is held.
func (m *Monitor) tryAdopt(id string) (adopted bool, err error) {
	if m.looksAfter(id) {
		return true, nil
	}
	lock, err := m.containers.TakeOver(id)
	if err != nil {
		return false, err
	}
	return m.take(id, lock)
}

// take begins to look after a container whose lock it is given; if it does not, the lock is free again.
func (m *Monitor) take(id string, lock *durable.Lock) (adopted bool, err error) {
	record, c, err := m.open(id)
	if err != nil || c == nil {
		return false, errors.Join(err, lock.Release())
	}
	c.lock = lock
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leaving() {
		c.close()
		return false, errors.Join(lock.Release(), errLeaving)
	}
	m.adopted[id] = true
	m.busy++
	m.looks.Go(func() { c.look(record) })
	return true, nil
}

// reportAdopt tells of an error of adopting that nobody else is told of, unless it says only that somebody else looks after
// the container, or that it is gone.
func (m *Monitor) reportAdopt(id string, err error) {
	for _, usual := range []error{nil, durable.ErrLocked, container.ErrNotFound, fs.ErrNotExist, errLeaving, context.Canceled} {
		if errors.Is(err, usual) {
			return
		}
	}
	slog.Error("adopt", "container", id, "error", err)
}

// errLeaving means that the monitor takes nothing on any more.
var errLeaving = errors.New("the monitor ends, as a newer one is to take its place")

// open prepares to look after a container, whose lock is held; nil if nothing of it is
// there to be looked after.
func (m *Monitor) open(id string) (container.Record, *adopted, error) {
	record, err := m.containers.Get(id)
	if err != nil {
		return record, nil, err
	}
	keeper, err := m.runtime.Keeper(id)
	if errors.Is(err, runtime.ErrNotFound) || errors.Is(err, runtime.ErrNoKeeper) {
		return record, nil, nil
	}
	if err != nil {
		return record, nil, err
	}
	c := &adopted{copier: copier{id: id, hub: m.hub(id, nil)}, m: m, keeper: keeper}
	if err := c.open(record); err != nil {
		c.close()
		return record, nil, err
	}
	record.Spec = nil // it is large, and stays with the container
	return record, c, nil
}

// release ends the looking after a container that has ended. Its lock is let go of last: whoever starts it from then on finds
// that it is not adopted. What is to be done then is done by another process, for which nobody waits who leaves.
func (m *Monitor) release(id string, lock *durable.Lock) {
	m.mu.Lock()
	delete(m.adopted, id)
	if h := m.hubs[id]; h != nil && h.empty() {
		delete(m.hubs, id)
	}
	m.mu.Unlock()
	lock.Release()
	go func() {
		defer m.done()
		m.cleanup(id)
	}()
}

// serve answers requests until the monitor ends.
func (m *Monitor) serve() error {
	for {
		conn, err := m.listen.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		m.keep()
		go func() {
			defer m.done()
			m.answer(conn)
		}()
	}
}

// background is the context of what is not called off.
var background = context.Background()
