package tty

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Streams are what a container without a terminal gets as its standard input,
// output and error: our own wherever they can be handed over (see the package
// comment), else the ends of pipes that we copy.
type Streams struct {
	// In, Out and Err are for the container. They must not be used by
	// anybody else.
	In, Out, Err *os.File

	copies  sync.WaitGroup
	input   *stoppable
	outputs []*stoppable
	ours    []*os.File // the container's ends, to be closed by us
}

// OpenStreams prepares the streams. Without interactive the container's input is
// empty.
func OpenStreams(interactive bool, in, out, err *os.File) (*Streams, error) {
	s := &Streams{In: in, Out: out, Err: err}
	var failure error
	switch {
	case !interactive:
		s.In, failure = os.Open(os.DevNull)
		s.ours = append(s.ours, s.In)
	case IsTerminal(in):
		failure = s.pipeInput(in)
	}
	for _, stream := range []**os.File{&s.Out, &s.Err} {
		if failure == nil && IsTerminal(*stream) {
			failure = s.pipeOutput(stream)
		}
	}
	if failure != nil {
		s.Close()
		return nil, fmt.Errorf("standard streams: %w", failure)
	}
	return s, nil
}

func (s *Streams) pipeInput(terminal *os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.In = r
	s.ours = append(s.ours, r)
	if s.input, err = newStoppable(terminal, false); err != nil {
		return errors.Join(err, w.Close())
	}
	s.copies.Go(func() {
		defer s.input.close()
		defer w.Close() // the container's end of file
		io.Copy(w, s.input)
	})
	return nil
}

func (s *Streams) pipeOutput(stream **os.File) error {
	terminal := *stream
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	*stream = w
	s.ours = append(s.ours, w)
	reader, err := newStoppable(r, true)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	s.outputs = append(s.outputs, reader)
	s.copies.Go(func() {
		defer r.Close()
		defer reader.close()
		if _, err := io.Copy(terminal, reader); err != nil {
			io.Copy(io.Discard, reader)
		}
	})
	return nil
}

// Started is to be called when the container has its own copies of the streams:
// ours are closed, so that ends of files are seen.
func (s *Streams) Started() {
	for _, f := range s.ours {
		f.Close()
	}
	s.ours = nil
}

// Close is to be called when the container has ended. What it wrote is copied to
// the end; what was typed and not read is left for the shell.
func (s *Streams) Close() {
	s.Started()
	if s.input != nil {
		s.input.stop()
	}
	for _, r := range s.outputs {
		r.stop() // a process that outlived the container may hold the other end
	}
	s.copies.Wait()
}
