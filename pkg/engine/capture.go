package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/network/capture"
)

// ErrCaptureNeedsRoot means that an ordinary user wants the packets of a container.
var ErrCaptureNeedsRoot = errors.New("capture takes root: the socket that sees packets is opened in the container's network, by who has rights over its users")

// CaptureRequest asks for the packets of a container.
type CaptureRequest struct {
	Container string
	// The rest: see capture.Request.
	Interface       string
	Count, Snapshot int
	Open            func() (io.Writer, error)
	Ready           func()
}

// Capture writes down what a container sends and receives, until it or the context ends, or there are enough packets.
func (e *Engine) Capture(ctx context.Context, r CaptureRequest) (capture.Result, error) {
	facts, err := e.facts()
	if err != nil {
		return capture.Result{}, err
	}
	if !facts.Root() {
		return capture.Result{}, ErrCaptureNeedsRoot
	}
	record, _, err := e.running(ctx, r.Container)
	if err != nil {
		return capture.Result{}, err
	}
	st, err := e.State(record)
	if err != nil {
		return capture.Result{}, err
	}
	pidfd, err := unix.PidfdOpen(st.PID, 0)
	if err != nil {
		return capture.Result{}, fmt.Errorf("container %s, process %d: %w", record.Name, st.PID, err)
	}
	defer unix.Close(pidfd)
	if now, err := e.State(record); err != nil || now.PID != st.PID { // the descriptor is of that process if it still is the container's
		return capture.Result{}, fmt.Errorf("container %s: %w", record.Name, ErrNotRunning)
	}
	result, err := capture.Run(ctx, capture.Request{PID: st.PID, End: pidfd, Interface: r.Interface, Count: r.Count, Snapshot: r.Snapshot, Open: r.Open, Ready: r.Ready})
	if err != nil {
		err = fmt.Errorf("container %s: %w", record.Name, err)
	}
	return result, err
}
