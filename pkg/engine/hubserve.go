package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/plan/planjson"
	"github.com/containr/containr/pkg/resolver"
)

// hubPatience is how long the hub's process stays when nobody asks and no container is connected.
const hubPatience = 3 * time.Second

// hubLook is how often it looks whether the kernel has taken the last cable away.
const hubLook = 10 * time.Second

var errInUse = errors.New("containers are connected")

// errNotHub means that somebody has called what only containr calls.
var errNotHub = errors.New("it is started by containr, in a network namespace of the user's own, with a socket as standard input")

// HoldNetworks is the hub's process, see hub.go. run is the run directory, and monitor the program that answers for names. It
// returns when nobody has needed it for a while, or when ctx ends.
func HoldNetworks(ctx context.Context, run, monitor string, socket *os.File) error {
	l, err := net.FileListener(socket)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotHub, err)
	}
	socket.Close()
	s := &hubServer{run: run, monitor: monitor, listener: l}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	s.idle = time.AfterFunc(hubPatience, s.endIfIdle)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			slog.Warn("hub", "error", err)
			time.Sleep(10 * time.Millisecond) // no descriptor is left, for instance
			continue
		}
		s.count(1)
		go func() {
			defer c.Close()
			s.serve(c)
		}()
	}
}

type hubServer struct {
	run, monitor string
	listener     net.Listener

	mu    sync.Mutex
	users int // connections
	idle  *time.Timer
}

// count notes that somebody has come or gone.
func (s *hubServer) count(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users += by; s.users == 0 {
		s.idle.Reset(hubPatience)
	} else {
		s.idle.Stop()
	}
}

// endIfIdle ends the hub's process when nobody talks to it and no container has a cable. One that comes between is told by its
// connection, and starts another one.
func (s *hubServer) endIfIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users > 0 {
		return
	}
	links, err := net.Interfaces()
	if err != nil {
		slog.Warn("hub", "error", err)
	}
	for _, l := range links {
		if isCable(l.Name) && l.Flags&net.FlagUp != 0 { // one that is down is the kernel's to take away
			err = errInUse
		}
	}
	if err != nil { // the kernel may take a cable away, with its container, when nobody is there to tell
		s.idle.Reset(hubLook)
		return
	}
	s.listener.Close()
}

// serve answers one connection.
func (s *hubServer) serve(c net.Conn) {
	in, out := json.NewDecoder(c), json.NewEncoder(c)
	passing := false // who is, is not waited for
	defer func() {
		if !passing {
			s.count(-1)
		}
	}()
	for {
		var r hubRequest
		if err := in.Decode(&r); err != nil {
			return
		}
		if r.Passing != passing {
			passing = r.Passing
			s.count(map[bool]int{true: -1, false: 1}[passing])
		}
		answer := hubReply{PID: os.Getpid(), Carried: s.carried()}
		var err error
		if r.Rules != nil {
			answer.Rules, err = r.Rules.do()
		} else {
			answer.Result, err = s.do(r)
		}
		if err != nil {
			answer.Error = err.Error()
			errors.As(err, &answer.Errno)
		}
		if err := out.Encode(answer); err != nil {
			return
		}
	}
}

// carried reports whether somebody carries our packets: he holds a lock.
func (s *hubServer) carried() bool {
	lock, err := durable.TryAcquireExisting(filepath.Join(s.run, "usernet", hubCarrier), durable.Shared)
	if err == nil {
		lock.Release()
	}
	return errors.Is(err, durable.ErrLocked)
}

func (s *hubServer) do(r hubRequest) (result int, err error) {
	if r.Names {
		file, err := writeServers(s.run)
		if err != nil {
			return 0, err
		}
		client := resolver.Client{Run: s.run, Program: s.monitor, File: file, Carrier: filepath.Join(s.run, hubControl)}
		return 0, client.Look(context.Background(), r.Look)
	}
	if r.Plan == nil {
		return 0, nil
	}
	p, err := planjson.Decode(bytes.NewReader(r.Plan))
	if err != nil {
		return 0, err
	}
	kernel := new(apply.Kernel)
	for _, step := range p.Steps {
		if r.Undo {
			err = apply.Undo(step.Call)
		} else {
			result, err = kernel.Do(step.Call, r.Regs)
		}
		if err != nil {
			return 0, err
		}
	}
	return result, nil
}
