//go:build !linux || !(amd64 || arm64)

package child

import (
	"os"
	"time"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Process is a started program; on this architecture there is none.
type Process struct {
	PID   int
	Pidfd *os.File
}

// Interpreter returns nothing on this architecture.
func Interpreter() []byte { return nil }

// Start fails with ErrUnsupported.
func Start(*Program, *linux.Clone, map[plan.Reg]int) (*Process, error) { return nil, ErrUnsupported }

// WithUsers fails with ErrUnsupported.
func WithUsers(func(int) error) error { return ErrUnsupported }

// Next fails with ErrUnsupported.
func (*Process) Next() (Event, error) { return Event{}, ErrUnsupported }

// Continue fails with ErrUnsupported.
func (*Process) Continue() error { return ErrUnsupported }

// Close does nothing.
func (*Process) Close() {}

// Record is what a traced step did.
type Record struct {
	Made       bool
	Result     int64
	Begin, End time.Duration
}

// Trace returns nothing.
func (*Process) Trace() []Record { return nil }
