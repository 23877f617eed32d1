package monitor

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/logs"
)

// Kind says what a frame is.
type Kind byte

// The kinds of frames. A frame is its kind, the length of its data in four bytes, the
// least significant first, and the data.
const (
	// StdoutFrame and StderrFrame carry what the container wrote.
	StdoutFrame Kind = 1
	StderrFrame Kind = 2
	// MissedFrame says how many bytes, in four, were not sent because nobody took them.
	MissedFrame Kind = 3
	// EndFrame is the last one: the container has ended, and its exit status is the data,
	// four bytes.
	EndFrame Kind = 4
)

func frame(s logs.Stream) Kind {
	if s == logs.Stderr {
		return StderrFrame
	}
	return StdoutFrame
}

// hub passes on what a container writes to all who are attached.
type hub struct {
	mu      sync.Mutex
	clients map[*client]bool
	// closed says that there will be no more output here: whoever comes now is too late.
	closed bool
}

func newHub() *hub { return &hub{clients: map[*client]bool{}} }

// add adds a client; it is false if the container has ended, or is looked after by somebody else now.
func (h *hub) add(c *client) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.clients[c] = true
	}
	return !h.closed
}

// client is somebody who is attached. What he does not take in time he misses, and is told
// how much it was: a container waits for nobody.
type client struct {
	frames chan []byte
	missed uint32
}

// waiting is how many frames of output may wait for a client.
const waiting = 256

// newClient returns one whose frames have room for two more, which are last and never
// missed: how much he missed, and the end.
func newClient() *client { return &client{frames: make(chan []byte, waiting+2)} }

// hub returns the container's, with a further client if c is not nil.
func (m *Monitor) hub(id string, c *client) *hub {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.hubs[id]
	if h == nil {
		h = newHub()
		m.hubs[id] = h
	}
	switch {
	case c == nil:
	case m.dropped:
		close(c.frames)
	default:
		h.mu.Lock()
		h.clients[c] = true
		h.mu.Unlock()
	}
	return h
}

// close has add refuse whoever comes from now on.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

func (h *hub) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.clients) == 0
}

func encode(kind Kind, data []byte) []byte {
	f := make([]byte, 5, 5+len(data))
	f[0] = byte(kind)
	binary.LittleEndian.PutUint32(f[1:], uint32(len(data)))
	return append(f, data...)
}

func number(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// send passes data on.
func (h *hub) send(kind Kind, data []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) == 0 {
		return
	}
	f := encode(kind, data)
	for c := range h.clients {
		c.put(f, len(data))
	}
}

// put passes a frame of output on, if the client keeps up. The hub's lock is held, so the
// client alone changes the number of frames meanwhile, and it only becomes smaller.
func (c *client) put(f []byte, size int) {
	if c.missed > 0 && len(c.frames) < waiting {
		c.tellMissed()
	}
	if len(c.frames) >= waiting {
		c.missed += uint32(min(uint64(size), math.MaxUint32-uint64(c.missed)))
		return
	}
	c.frames <- f
}

// tellMissed tells what the client missed, for which there is room.
func (c *client) tellMissed() {
	c.frames <- encode(MissedFrame, number(c.missed))
	c.missed = 0
}

// end tells everybody that the container has ended.
func (h *hub) end(code int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		if c.missed > 0 {
			c.tellMissed()
		}
		c.frames <- encode(EndFrame, number(uint32(code)))
		close(c.frames)
		delete(h.clients, c)
	}
}

// drop lets go of all clients: the monitor leaves, and they will find the next one.
func (h *hub) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		if c.missed > 0 {
			c.tellMissed()
		}
		close(c.frames)
		delete(h.clients, c)
	}
}

func (h *hub) leave(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.clients[c] {
		delete(h.clients, c)
		close(c.frames)
	}
}

func (m *Monitor) looksAfter(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.adopted[id]
}

// answer does what a request asks for.
func (m *Monitor) answer(conn net.Conn) {
	defer conn.Close()
	line, err := bufio.NewReader(io.LimitReader(conn, 1024)).ReadString('\n')
	if err != nil {
		return
	}
	asked, request := parseVersion(strings.TrimSuffix(line, "\n"))
	if m.leaving() || outlived(asked) {
		say(conn, answerLeaves)
		m.leave()
		return
	}
	verb, id, _ := strings.Cut(request, " ")
	switch verb {
	case "adopt":
		err := m.adoptWhenLeft(id)
		m.resume(id)
		reply(conn, err)
	case "announce":
		reply(conn, nil)
		m.awaitEndOf(conn)
		m.reportAdopt(id, m.adoptWhenLeft(id))
		m.resume(id)
	case "attach":
		m.attach(conn, id, true)
	case "await":
		m.attach(conn, id, false)
	default:
		reply(conn, errors.New("unknown request"))
	}
}

// awaitEndOf waits until a client has gone, or the monitor leaves.
func (m *Monitor) awaitEndOf(conn net.Conn) {
	defer context.AfterFunc(m.stays, func() { conn.SetReadDeadline(time.Now()) })()
	_, _ = conn.Read(make([]byte, 1))
}

func reply(conn net.Conn, err error) {
	text := "ok"
	switch {
	case errors.Is(err, errLeaving):
		text = answerLeaves
	case errors.Is(err, durable.ErrLocked):
		text = "busy"
	case err != nil:
		text = "error " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	say(conn, text)
}

func say(conn net.Conn, text string) {
	_, _ = io.WriteString(conn, protocol+" "+text+"\n") // who has gone need not be told
}

// errNotAdopted is the answer for a container that has ended.
var errNotAdopted = errors.New("the container does not run")

// lastWords is how long a client may take for what waits for him when the monitor leaves.
const lastWords = time.Second

// talk says that a client is served, until talks.Done; it is false if the monitor leaves.
func (m *Monitor) talk() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leaving() {
		return false
	}
	m.talks.Add(1)
	return true
}

// dropClients lets go of all who are attached.
func (m *Monitor) dropClients() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropped = true
	for _, h := range m.hubs {
		h.drop()
	}
}

// attach sends what a container writes until it ends or the client goes.
func (m *Monitor) attach(conn net.Conn, id string, runs bool) {
	if !m.talk() {
		say(conn, answerLeaves)
		return
	}
	defer m.talks.Done()
	defer context.AfterFunc(m.stays, func() { conn.SetWriteDeadline(time.Now().Add(lastWords)) })()
	c := newClient()
	h := m.hub(id, c)
	defer h.leave(c)
	if runs {
		err := m.adopt(id)
		if err == nil && !m.looksAfter(id) {
			err = errNotAdopted
		}
		if err != nil {
			reply(conn, err)
			return
		}
	}
	h.serve(conn, c)
}

// serve tells a client of the hub that it is one, and sends it what is for it until the container
// ends or the client goes.
func (h *hub) serve(conn net.Conn, c *client) {
	reply(conn, nil)
	go func() {
		_, _ = conn.Read(make([]byte, 1)) // the client's end
		h.leave(c)
	}()
	for f := range c.frames {
		if _, err := conn.Write(f); err != nil {
			return
		}
	}
}
