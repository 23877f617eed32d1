package monitor

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// forwardPause is the time before a forwarder that has failed is started again.
const forwardPause = time.Second

// forward keeps a process running that passes on the log of a container, as long as that
// runs: see package logs/forward. The process ends by itself when the container has ended
// and all is sent, and, while the container runs, when its standard input ends, which is when we do.
func (m *Monitor) forward(alive context.Context, id string) {
	defer m.done()
	for {
		if err := m.forwardOnce(id); err != nil {
			slog.Error("pass on the log", "container", id, "error", err)
		}
		select {
		case <-alive.Done():
			return
		case <-time.After(forwardPause):
		}
	}
}

func (m *Monitor) forwardOnce(id string) error {
	cmd := exec.Command(m.o.Command[0], append(m.o.Command[1:len(m.o.Command):len(m.o.Command)], "container", "forward", id)...)
	cmd.Stderr, cmd.Dir = os.Stderr, "/"
	end, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer end.Close()
	return cmd.Run()
}

// ForwardLock is the file that is locked by who passes on a container's log, and
// ForwardPosition the one that says how far it has come.
func ForwardLock(run, id string) string { return filepath.Join(positionDir(run), id+".forwarding") }

// ForwardPosition: see ForwardLock. It lies beside the log, and outlives a boot with it.
func ForwardPosition(root, id string) string { return filepath.Join(LogDir(root, id), "forwarded") }
