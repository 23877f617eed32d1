package monitor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/timerslack"
)

// DrainWord is the argument with which the monitor's program reads a terminal to its end, and
// does nothing else: its standard input is the terminal's master end.
const DrainWord = "drain"

// Drain has a process hold a terminal whose user has left it. If the last who has the master
// end closed it, the programs on the terminal would be hung up, and if nobody read it, they
// would come to a stop. The process ends when they have closed it. The terminal may be closed
// then.
func (c *Client) Drain(terminal *os.File) error {
	if c.Program == "" {
		return ErrNoProgram
	}
	if err := keepOthersOut(); err != nil {
		return err
	}
	cmd := exec.Command(c.Program, DrainWord)
	cmd.Stdin, cmd.Dir = terminal, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := timerslack.Do(cmd.Start); err != nil {
		return fmt.Errorf("hold the terminal: %w", err)
	}
	return cmd.Process.Release()
}

// keepOthersOut has what a careless parent left open to us, whose end somebody may wait for,
// not be passed on to what we start.
func keepOthersOut() error {
	if err := sys.CloseOnExec(); err != nil {
		return fmt.Errorf("monitor: close_range: %w", err)
	}
	return nil
}

// ReadToEnd is what the monitor's program does after DrainWord.
func ReadToEnd(terminal *os.File) error {
	_, err := io.Copy(io.Discard, terminal)
	if errors.Is(err, unix.EIO) { // the other side is closed, see pty(7)
		return nil
	}
	return err
}
