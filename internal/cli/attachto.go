package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
)

// attachTo says which of our streams a container in the foreground is connected with, as
// --attach has it. The zero value stands for all of them, input only if it is interactive.
type attachTo struct{ in, out, err bool }

// some reports whether --attach was given.
func (a attachTo) some() bool { return a != attachTo{} }

// add reads one value of --attach.
func (a *attachTo) add(s string) error {
	switch strings.ToLower(s) {
	case "stdin":
		a.in = true
	case "stdout":
		a.out = true
	case "stderr":
		a.err = true
	default:
		return fmt.Errorf("%q: use stdin, stdout or stderr", s)
	}
	return nil
}

// onlyInput reports whether nothing of what the container writes is wanted here.
func (a attachTo) onlyInput() bool { return a.in && !a.out && !a.err }

// check refuses what contradicts --attach.
func (a attachTo) check(c container.Config, detach bool) error {
	switch {
	case a.some() && detach:
		return usageErrorf("run: --attach cannot be used with --detach: one stays with the container, the other does not")
	case a.onlyInput() && c.TTY:
		return usageErrorf("run: --attach stdin alone cannot be used with --tty: who types sees it on the terminal's output")
	}
	return nil
}

// outputs are the files for what the container writes: ours, or the null device, which done
// closes.
func (a attachTo) outputs(p *Program) (out, err *os.File, done func(), failure error) {
	out, err, done = p.Out, p.Err, func() {}
	if !a.some() || a.out && a.err {
		return out, err, done, nil
	}
	null, failure := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if failure != nil {
		return nil, nil, nil, failure
	}
	if !a.out {
		out = null
	}
	if !a.err {
		err = null
	}
	return out, err, func() { null.Close() }, nil
}

// runFed starts a container in the background that reads our standard input, and prints its
// id. It has the file itself, and we need not stay; but what is typed is for the shell again
// when we have ended, so that is passed on until its end.
func (p *Program) runFed(ctx context.Context, config container.Config, flags *runFlags) error {
	if !tty.IsTerminal(p.In) {
		flags.input = p.In
		return p.runDetached(ctx, config, flags)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	flags.input = r
	err = p.runDetached(ctx, config, flags)
	if closed := r.Close(); err != nil || closed != nil {
		return errors.Join(err, closed)
	}
	_, _ = io.Copy(w, p.In) // a program that has read enough is no error
	return nil
}
