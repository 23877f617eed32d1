// Package streams makes the standard streams of containers that nobody's terminal is
// needed for, and finds them again.
//
// # Theory of operation
//
// A container that runs detached reads from and writes to pipes, or a terminal, whose
// other ends must outlive every process of containr: if the last reader of a pipe dies,
// the container's next line kills it, and what was written before is lost. So the ends
// are put into a message to a socket, and the container's keeper holds the socket (see
// runtime.Keeper). Whoever copies the output borrows them from there, and may be killed.
//
// Between reading a pipe and writing the log there must be no moment at which the data
// is only in the memory of a process. A read cannot be taken back, but a splice(2) from
// one pipe to another moves data at once, inside the kernel. So each output has a second
// pipe, the tray, which the keeper holds too: data goes from the pipe to the empty tray,
// is looked at there (tee(2)) and logged, and then the tray is emptied. A reader that
// finds something in the tray knows that its predecessor died over it. Whether it is in
// the log already, the log says; see package logs.
//
// With pipes the message carries, in this order: our end of standard input, those of
// output and error, and the two trays, reading end first. A terminal's message comes
// from the container itself: it is the one with the terminal's master end, that every
// runtime sends. Its tray is the keeper's own standard output (writing) and error
// (reading).
package streams

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/runtime"
)

// Given are the container's ends, as the runtime takes them.
type Given struct {
	Stdio   [3]*os.File
	Console *os.File // nil without a terminal
	Held    *runtime.Held

	ours []*os.File
	// lent says that Stdio[0] is the caller's.
	lent bool
	// send is where the message was sent to, if HangUp is to send another one.
	send *os.File
}

// Started closes what the container and its keeper have by now, but for what HangUp needs.
func (g *Given) Started() {
	if g.lent {
		g.Stdio[0] = nil
	}
	closeAll(append(g.ours, g.Stdio[0], g.Stdio[1], g.Stdio[2], g.Console))
	g.ours, g.Stdio, g.Console = nil, [3]*os.File{}, nil
}

// Close closes what the container and its keeper have by now.
func (g *Given) Close() {
	g.Started()
	if g.Held != nil {
		closeAll([]*os.File{g.Held.Socket, g.Held.Ear, g.Held.Bell})
	}
	closeAll([]*os.File{g.send})
}

// New makes the streams of a container with a terminal or without. Without, and unless
// it is interactive, its standard input is empty.
func New(terminal, interactive bool) (g *Given, err error) {
	g = new(Given)
	defer func() {
		if err != nil {
			g.Close()
			g, err = nil, fmt.Errorf("streams of the container: %w", err)
		}
	}()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return g, err
	}
	send := os.NewFile(uintptr(fds[0]), "streams")
	g.Held = &runtime.Held{Socket: os.NewFile(uintptr(fds[1]), "streams")}
	if g.Held.Ear, g.Held.Bell, err = pipe(); err != nil {
		send.Close()
		return g, err
	}
	if !terminal {
		g.send = send
		return g, g.pipes(interactive)
	}
	g.Console = send
	if g.Stdio[0], err = os.Open(os.DevNull); err != nil {
		return g, err
	}
	g.Stdio[2], g.Stdio[1], err = pipe()
	return g, err
}

// Outputs makes the streams of a container without a terminal that has the caller's standard
// input. HangUp can be called.
func Outputs(input *os.File) (*Given, error) {
	g, err := New(false, false)
	if err != nil {
		return nil, err
	}
	closeAll(g.Stdio[:1])
	g.Stdio[0], g.lent = input, true
	return g, nil
}

func (g *Given) pipes(interactive bool) error {
	var message []int
	add := func(f *os.File) {
		g.ours = append(g.ours, f)
		message = append(message, int(f.Fd()))
	}
	input, err := g.input(interactive)
	if err != nil {
		return err
	}
	add(input)
	for i := 1; i <= 2; i++ {
		var ours *os.File
		if ours, g.Stdio[i], err = pipe(); err != nil {
			return err
		}
		add(ours)
	}
	for range 2 {
		r, w, err := pipe()
		if err != nil {
			return err
		}
		add(r)
		add(w)
	}
	return g.hand(message)
}

// hand puts a message into the queue of the keeper's socket.
func (g *Given) hand(message []int) error {
	if err := unix.Sendmsg(int(g.send.Fd()), []byte("streams"), unix.UnixRights(message...), nil, 0); err != nil {
		return fmt.Errorf("hand them to the keeper: %w", err)
	}
	return nil
}

// HangUp takes the reading end of an output away from the keeper: when the caller has closed
// his, the container's next write fails, as on any pipe whose reader has gone. In its place
// the keeper holds one that is at its end. Started was called, and not Close.
func (g *Given) HangUp(s logs.Stream) error {
	files, err := runtime.LookInto(g.Held.Socket)
	if err != nil {
		return err
	}
	defer closeAll(files)
	ended, w, err := pipe()
	if err != nil {
		return err
	}
	w.Close()
	defer ended.Close()
	message := make([]int, len(files))
	for i, f := range files {
		message[i] = int(f.Fd())
	}
	message[s] = int(ended.Fd()) // as Find has it: 1 is output, 2 is error
	if err := g.hand(message); err != nil {
		return err
	}
	// The old message, which is the first: what is received without room for descriptors closes them.
	_, _, err = unix.Recvfrom(int(g.Held.Socket.Fd()), make([]byte, 64), unix.MSG_DONTWAIT)
	return os.NewSyscallError("recvfrom", err)
}

// input makes standard input and returns our end.
func (g *Given) input(interactive bool) (ours *os.File, err error) {
	if interactive {
		g.Stdio[0], ours, err = pipe()
		return ours, err
	}
	if g.Stdio[0], err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
}

// pipe is os.Pipe with ends that block: the container shares them.
func pipe() (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe"), nil
}

// Ends are our ends of a container's streams.
type Ends struct {
	// Terminal is the terminal's master end; nil without a terminal, and then the others
	// are set.
	Terminal *os.File
	// Input is where standard input is written to; the null device if it is empty.
	Input *os.File
	// Outputs has one element with a terminal, and two without.
	Outputs []Output
}

// Output is one of the streams that a container writes.
type Output struct {
	Stream logs.Stream
	// From is where the data comes from, a pipe or a terminal.
	From *os.File
	// TrayOut and TrayIn are the reading and the writing end of the tray.
	TrayOut, TrayIn *os.File
}

// Find borrows the ends from a container's keeper. The caller closes them. The error
// wraps runtime.ErrNoKeeper if the keeper ends meanwhile, or holds nothing.
func Find(k *runtime.Keeper, terminal bool) (*Ends, error) {
	files, err := k.Look()
	if err != nil {
		return nil, err
	}
	e := new(Ends)
	if !terminal {
		if len(files) != 7 {
			closeAll(files)
			return nil, fmt.Errorf("keeper %d holds %d descriptors, want 7", k.PID, len(files))
		}
		e.Input = files[0]
		e.Outputs = []Output{{logs.Stdout, files[1], files[3], files[4]}, {logs.Stderr, files[2], files[5], files[6]}}
		return e, nil
	}
	if len(files) != 1 {
		closeAll(files)
		return nil, fmt.Errorf("keeper %d holds %d descriptors, want 1", k.PID, len(files))
	}
	e.Terminal = files[0]
	in, errIn := k.Borrow(1)
	out, errOut := k.Borrow(2)
	e.Outputs = []Output{{logs.Stdout, files[0], out, in}}
	if err := errors.Join(errIn, errOut); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// Close closes our copies.
func (e *Ends) Close() {
	files := []*os.File{e.Input}
	for _, o := range e.Outputs {
		files = append(files, o.From, o.TrayIn, o.TrayOut)
	}
	closeAll(files)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
