package resolver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
)

// Names of the resolver's files in the run directory.
const (
	socketName = "resolver.sock"
	lockName   = "resolver.lock"
	startName  = "resolver.start"
	logName    = "resolver.log"
)

// patience is how long the resolver stays when no container has names.
const patience = 2 * time.Second

// Options say what a resolver serves.
type Options struct {
	// Run is the run directory of the state root.
	Run string
	// File names the servers for what is no container's name; empty is the host's /etc/resolv.conf.
	File string
	// Carrier, if not empty, is the socket of who carries the packets of an ordinary user's networks, on the host: only he knows which
	// addresses are the host's.
	Carrier string
	// Ready, if set, is told "ready" and closed when requests are answered.
	Ready *os.File
}

// server is a resolver that runs.
type server struct {
	run     string
	forward *upstream
	ctx     context.Context
	listen  net.Listener
	notify  *os.File
	// open answers at an address.
	open func(at netip.Addr) (*endpoint, error)

	view atomic.Pointer[view]
	turn atomic.Uint32

	// mu guards what follows, and that events are read in order.
	mu      sync.Mutex
	entries map[string]*live
	// sockets are where names are asked for, and failed why they cannot be.
	sockets map[netip.Addr]*endpoint
	failed  map[netip.Addr]error
	idle    *time.Timer

	logMu  sync.Mutex
	lastAt time.Time
	silent int // complaints since then that the log does not have
}

// live is an entry whose container runs, as its pidfd says.
type live struct {
	Entry
	process *os.File
}

// Run answers for the containers of a state root until there are none. If there is a resolver
// already it returns at once.
func Run(o Options) error {
	lock, err := durable.TryAcquire(filepath.Join(o.Run, lockName), durable.Exclusive)
	if errors.Is(err, durable.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Release()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if o.Carrier != "" {
		elsewhere = elsewhereFor(o.Carrier)
	}
	s := newServer(ctx, o.Run, cmp.Or(o.File, "/etc/resolv.conf"))
	if err := s.watch(); err != nil {
		return err
	}
	defer s.close()
	if s.listen, err = durable.Listen(o.Run, socketName); err != nil {
		return err
	}
	go s.followChanges()
	if o.Ready != nil {
		_, err := o.Ready.WriteString("ready")
		if err := errors.Join(err, o.Ready.Close()); err != nil && !errors.Is(err, unix.EPIPE) { // who started us may be gone
			return err
		}
	}
	return s.serveControl()
}

// newServer is a resolver that knows no entries. file is the host's resolv.conf.
func newServer(ctx context.Context, run, file string) *server {
	s := &server{run: run, forward: newUpstream(file), ctx: ctx,
		entries: map[string]*live{}, sockets: map[netip.Addr]*endpoint{}, failed: map[netip.Addr]error{}}
	s.idle = time.AfterFunc(time.Hour, s.endIfIdle)
	s.open = s.openSockets
	s.view.Store(newView(nil))
	return s
}

// watch reads all entries, and is told of changes from then on.
func (s *server) watch() error {
	if err := os.MkdirAll(dirOf(s.run), 0o700); err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	s.notify = os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dirOf(s.run), unix.IN_MOVED_TO|unix.IN_DELETE); err != nil {
		return fmt.Errorf("inotify_add_watch %s: %w", dirOf(s.run), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scan()
}

// scan loads all entries. s.mu is held.
func (s *server) scan() error {
	files, err := os.ReadDir(dirOf(s.run))
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, f := range files {
		if isID(f.Name()) {
			there[f.Name()] = true
			s.load(f.Name())
		}
	}
	for id := range s.entries {
		if !there[id] {
			s.forget(id)
		}
	}
	s.apply()
	return nil
}

// sync takes in what has changed by now.
func (s *server) sync() {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := map[string]bool{}
	for buf := make([]byte, 4096); ; {
		n := s.readEvents(buf)
		if n <= 0 {
			break
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			e := event(b)
			if e.mask&unix.IN_Q_OVERFLOW != 0 {
				if err := s.scan(); err != nil {
					slog.Error("read the names", "error", err)
				}
			}
			if isID(e.name) {
				changed[e.name] = true
			}
			b = b[e.size:]
		}
	}
	for id := range changed {
		s.load(id)
	}
	if len(changed) > 0 {
		s.apply()
	}
}

// readEvents reads without waiting.
func (s *server) readEvents(buf []byte) (n int) {
	conn, err := s.notify.SyscallConn()
	if err != nil {
		return 0
	}
	conn.Control(func(fd uintptr) {
		for {
			if n, err = unix.Read(int(fd), buf); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
	return n
}

// load takes an entry in as its file says; s.mu is held. One whose process has ended is none.
func (s *server) load(id string) {
	e, err := read(s.run, id)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			slog.Error("read names", "container", id, "error", err)
		}
		s.forget(id)
		return
	}
	if old := s.entries[id]; old != nil && old.PID == e.PID && old.Start == e.Start {
		s.entries[id] = &live{e, old.process}
		return
	}
	s.forget(id)
	fd, err := unix.PidfdOpen(e.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		if !errors.Is(err, unix.ESRCH) {
			slog.Error("look at the process", "container", id, "pid", e.PID, "error", err)
		}
		return
	}
	process := os.NewFile(uintptr(fd), "process of "+id)
	if start, err := startOf(e.PID); err != nil || start != e.Start { // the number is another's by now
		process.Close()
		return
	}
	s.entries[id] = &live{e, process}
	go s.awaitEnd(id, process)
}

// forget drops an entry; s.mu is held.
func (s *server) forget(id string) {
	if e := s.entries[id]; e != nil {
		e.process.Close()
		delete(s.entries, id)
	}
}

// awaitEnd drops an entry when its process has ended.
func (s *server) awaitEnd(id string, process *os.File) {
	if err := sys.AwaitReadable(process); err != nil {
		return // it was forgotten before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[id]; e != nil && e.process == process {
		s.forget(id)
		s.apply()
	}
}

// apply makes what is served what the entries say; s.mu is held.
func (s *server) apply() {
	entries := make(map[string]*Entry, len(s.entries))
	for id, e := range s.entries {
		entries[id] = &e.Entry
	}
	v := newView(entries)
	s.view.Store(v)
	for at, socket := range s.sockets {
		if _, wanted := v.asked[at]; !wanted {
			socket.close()
			delete(s.sockets, at)
		}
	}
	clear(s.failed)
	for at := range v.asked {
		if s.sockets[at] != nil {
			continue
		}
		socket, err := s.open(at)
		if err != nil {
			slog.Error("answer names", "address", at, "error", err)
			s.failed[at] = err
			continue
		}
		s.sockets[at] = socket
	}
	if len(s.entries) == 0 {
		s.idle.Reset(patience)
	}
}

// followChanges takes changes in when nobody asks.
func (s *server) followChanges() {
	for sys.AwaitReadable(s.notify) == nil {
		s.sync()
	}
}

// endIfIdle ends the resolver if no container has names. Who writes some from now on finds no one who listens, and starts
// another one.
func (s *server) endIfIdle() {
	s.sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.entries) == 0 && s.listen != nil {
		s.listen.Close()
	}
}

// close lets go of everything.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle.Stop()
	s.notify.Close()
	for _, socket := range s.sockets {
		socket.close()
	}
	for id := range s.entries {
		s.forget(id)
	}
}

// answer answers what came from one address to another, out of what is known here. If others have to be asked, wait does
// that with the same message, and waits for them.
func (s *server) answer(message []byte, from, at netip.Addr, network string) (now []byte, wait func(message []byte) []byte) {
	q, code, drop := parse(message)
	switch {
	case drop:
		return nil, nil
	case q.Name.Length == 0: // it was not understood
		return failure(q.Header, code), nil
	}
	if network == "tcp" {
		q.size = tcpSize
	}
	if code != dnsmessage.RCodeSuccess {
		return reply(q, found{code: code}, q.size), nil
	}
	s.sync()
	v := s.view.Load()
	a, ok := v.who(from, at)
	if !ok {
		return reply(q, found{code: dnsmessage.RCodeRefused}, q.size), nil
	}
	if f := v.look(a, q, int(s.turn.Add(1)>>1)); f.local { // A and AAAA are asked for in pairs
		return reply(q, f, min(q.size, limitOf(network))), nil
	}
	if !q.RecursionDesired {
		return reply(q, found{code: dnsmessage.RCodeRefused}, q.size), nil
	}
	return nil, func(message []byte) []byte { return s.askOthers(v, a, q, from, network, message) }
}

// limitOf is how long our own answers may be.
func limitOf(network string) int {
	if network == "tcp" {
		return tcpSize
	}
	return ownSize
}

// askOthers passes a question on. What they answer is passed back as it is, as long as the asker takes it.
func (s *server) askOthers(v *view, a asker, q question, from netip.Addr, network string, message []byte) []byte {
	if err := s.forward.enter(from); err != nil {
		s.complain(q, from, err)
		return reply(q, found{code: dnsmessage.RCodeServerFailure}, q.size)
	}
	defer s.forward.leave(from)
	servers, err := a.servers, error(nil)
	if len(servers) == 0 {
		servers, err = s.forward.hostServers()
	}
	servers = a.reachable(v.others(servers))
	if len(servers) == 0 && !a.open { // in an internal network there are no other names
		return reply(q, found{code: dnsmessage.RCodeNameError}, q.size)
	}
	var got []byte
	if err == nil {
		got, err = s.forward.ask(s.ctx, network, servers, message)
	}
	tooLong := len(got) > q.size // it is not sent, and opens nothing: the question comes again through TCP
	if err == nil && !tooLong {
		err = s.view.Load().openTo(a.entry, q, got)
	}
	if err != nil {
		s.complain(q, from, err)
		return reply(q, found{code: dnsmessage.RCodeServerFailure}, q.size)
	}
	if tooLong {
		if got, err = q.build(found{}, true); err != nil {
			return nil
		}
	}
	return got
}

// others leaves out the addresses where we answer ourselves.
func (v *view) others(servers []netip.Addr) []netip.Addr {
	var list []netip.Addr
	for _, a := range servers {
		if _, own := v.asked[a]; !own {
			list = append(list, a)
		}
	}
	return list
}

// complaintInterval is how often the log has a complaint. Any, not the same one again: each has a port of its own in it, and a
// container that asks for nothing but names nobody answers must not fill the memory that the run directory is in.
const complaintInterval = 10 * time.Second

// complain writes down why a question could not be answered.
func (s *server) complain(q question, from netip.Addr, err error) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	if !s.lastAt.IsZero() && time.Since(s.lastAt) < complaintInterval {
		s.silent++
		return
	}
	slog.Warn("a name could not be asked for: the answer is SERVFAIL", "name", q.Name.String(), "container", from, "error", err, "others", s.silent)
	s.lastAt, s.silent = time.Now(), 0
}
