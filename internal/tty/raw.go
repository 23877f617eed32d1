package tty

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	return f != nil && term.IsTerminal(int(f.Fd()))
}

// rawMode is a terminal in raw mode and the way back. The zero value is no terminal.
type rawMode struct {
	mu     sync.Mutex
	fd     int
	before *term.State // nil before take and after restore
	raw    bool
}

// take puts the terminal in raw mode: what is typed is read at once and as it is,
// nothing is echoed, no key makes a signal (termios(3), cfmakeraw).
func (r *rawMode) take(f *os.File) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	fd := int(f.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return fmt.Errorf("terminal %s: raw mode: %w", f.Name(), err)
	}
	r.fd, r.before, r.raw = fd, before, true
	return nil
}

// restore brings back the mode before take. It may be called any number of times
// and from any goroutine.
func (r *rawMode) restore() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.leave()
	r.before = nil
	return err
}

// leave sets the former mode. The caller holds mu.
func (r *rawMode) leave() error {
	if !r.raw || r.before == nil {
		return nil
	}
	r.raw = false
	return term.Restore(r.fd, r.before)
}

// suspend gives the terminal back while we are stopped.
func (r *rawMode) suspend() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leave()
}

// resume takes the terminal again. The mode that it finds, which a shell may have
// changed meanwhile, is the one to go back to.
func (r *rawMode) resume() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before == nil {
		return nil
	}
	before, err := term.MakeRaw(r.fd)
	if err != nil {
		return err
	}
	if !r.raw {
		r.before, r.raw = before, true
	}
	return nil
}

// Size is the size of a terminal in characters.
type Size struct{ Rows, Columns uint16 }

// WindowSize asks the terminal for its size.
func WindowSize(f *os.File) (Size, error) {
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return Size{}, fmt.Errorf("terminal %s: size: %w", f.Name(), err)
	}
	return Size{Rows: ws.Row, Columns: ws.Col}, nil
}

// copySize gives the container's terminal the size of the user's. The kernel
// sends SIGWINCH to the container's foreground processes if it changed. master is
// a descriptor because os.File.Fd would make it blocking again.
func copySize(from *os.File, master int) error {
	ws, err := unix.IoctlGetWinsize(int(from.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return err
	}
	return unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, ws)
}
