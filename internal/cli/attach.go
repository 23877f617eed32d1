package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

// attachOptions say how a container that runs is attached to.
type attachOptions struct {
	noInput, sigProxy bool
	// visit says that the container is not ours to end: if our terminal goes away, it is left, as with the detach keys.
	visit bool
	keys  []byte
	// to says which of its outputs are wanted.
	to attachTo
}

func (p *Program) attachCommand() *cobra.Command {
	o := attachOptions{visit: true}
	o.keys, _ = tty.ParseKeys(tty.DefaultDetachKeys)
	cmd := &cobra.Command{
		Use:     "attach [FLAGS] CONTAINER",
		Short:   "Connect with a container that runs",
		GroupID: groupRun,
		Long: "Connect with a container that runs: what it writes from now on comes here, and what is typed\n" +
			"goes to it if it was made with -i. Its terminal is left with the detach keys, and when the\n" +
			"terminal here is closed.\n" +
			"What runs in the foreground can be attached to from another terminal, if it has a log or a terminal;\n" +
			"its input, if that is no terminal, stays the one of the command that started it.\n" +
			"The exit status is the program's; that of who is ended by a signal, with --sig-proxy=false, is 128 and its number.",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.attach(cmd.Context(), args[0], o)
		},
	}
	b := binder{cmd.Flags(), "Flags"}
	b.bool(&o.noInput, "no-stdin", "", "do not pass standard input on")
	cmd.Flags().BoolVar(&o.sigProxy, "sig-proxy", true, "pass signals on to the program")
	b.note("sig-proxy")
	b.value("detach-keys", "", "the `KEYS` that leave a terminal (ctrl-p,ctrl-q)", put(&o.keys, tty.ParseKeys))
	return cmd
}

func (p *Program) attach(ctx context.Context, name string, o attachOptions) error {
	e, err := p.engine()
	if err != nil {
		return err
	}
	a, err := e.Attach(ctx, name)
	if err != nil {
		return err
	}
	return p.attached(ctx, a, o)
}

// attached connects our streams with a container's until it ends or is left.
func (p *Program) attached(ctx context.Context, a *engine.Attached, o attachOptions) error {
	defer a.Close()
	o.noInput = o.noInput || !a.Record.Config.Interactive
	var ended bool
	var err error
	if a.Terminal != nil {
		ended, err = p.attachedTerminal(ctx, a, o)
	} else {
		ended, err = p.attachedStreams(ctx, a, o)
	}
	if err != nil {
		return err
	}
	if !ended {
		p.tellLeft(a.Record.ID)
		return ctx.Err() // of a signal that was for us: the exit status tells of it
	}
	code, err := a.Wait(ctx)
	return p.exitOf(engine.Exit{ID: a.Record.ID, Code: code}, err)
}

// tellMissed says that output came faster than it could be printed.
func (p *Program) tellMissed(bytes int) {
	fmt.Fprintf(p.Err, "containr: %d bytes of output came too fast and are not shown: `containr logs` has them\n", bytes)
}

// attachedTerminal connects our terminal with a container's. What the container writes
// comes by a pipe.
func (p *Program) attachedTerminal(ctx context.Context, a *engine.Attached, o attachOptions) (ended bool, err error) {
	screen, w, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer screen.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var left atomic.Bool
	leave := func() { left.Store(true); cancel() }
	s := &tty.Session{Out: p.Out, Master: a.Terminal, Screen: screen, Keys: o.keys, Ready: p.stopInterrupts, Detach: leave}
	if !o.noInput && tty.IsTerminal(p.In) {
		s.In = p.In
	}
	if o.sigProxy {
		s.Signal = func(sig os.Signal) {
			if o.visit && sig == unix.SIGHUP {
				leave()
				return
			}
			a.Signal(int(sig.(syscall.Signal))) // it may have ended
		}
	}
	copied := make(chan error, 1)
	go func() {
		_, err := a.Copy(ctx, w, w, p.tellMissed)
		w.Close() // ends the session
		copied <- err
	}()
	err = s.Run(ctx)
	if left.Load() {
		a.Close()
		<-copied
		return false, err
	}
	return true, errors.Join(err, <-copied)
}

// attachedStreams copies what a container without a terminal writes, and passes our input
// and signals on.
func (p *Program) attachedStreams(ctx context.Context, a *engine.Attached, o attachOptions) (ended bool, err error) {
	if !o.noInput {
		go io.Copy(a.Input, p.In) // as long as there is something; the container's input stays open
	}
	if o.sigProxy {
		defer p.passSignals(a)()
	} else {
		defer context.AfterFunc(ctx, func() { a.Close() })()
	}
	stdout, stderr, done, err := o.to.outputs(p)
	if err != nil {
		return false, err
	}
	defer done()
	ended, err = a.Copy(ctx, stdout, stderr, p.tellMissed)
	if !o.sigProxy && ctx.Err() != nil {
		return false, nil
	}
	if errors.Is(err, unix.EPIPE) {
		return false, nil // who read our output has seen enough
	}
	return ended, err
}

// passSignals passes our signals on to a container's program until stop is called.
func (p *Program) passSignals(a *engine.Attached) (stop func()) {
	signals := make(chan os.Signal, 32)
	for _, n := range sys.Forwarded {
		if n != unix.SIGTSTP && n != unix.SIGCONT && n != unix.SIGWINCH {
			signal.Notify(signals, n)
		}
	}
	p.stopInterrupts()
	done := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-signals:
				a.Signal(int(sig.(syscall.Signal))) // it may have ended
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// runWatched runs a container that goes on without us if need be, because it has a log or
// a restart policy, and stays with it until it ends.
func (p *Program) runWatched(ctx context.Context, config container.Config, flags *runFlags) error {
	if config.TTY && config.Interactive && !tty.IsTerminal(p.In) {
		return &usageError{text: "run: -t with -i needs a terminal, and standard input is none", hint: "leave out -t, or -i"}
	}
	e, err := p.engine()
	if err != nil {
		return err
	}
	input, err := p.feed(config, config.Interactive)
	if err != nil {
		return err
	}
	flags.input = input.file
	var a *engine.Attached
	_, err = p.startDetached(ctx, config, flags, func(r container.Record) (err error) {
		a, err = e.Await(ctx, r)
		return err
	})
	err = errors.Join(err, input.given())
	if err == nil {
		err = a.Begin()
	}
	if err != nil {
		if a != nil {
			a.Close()
		}
		return err
	}
	return p.attached(ctx, a, attachOptions{noInput: input.file != nil, sigProxy: flags.sigProxy, keys: flags.detachKeys, to: flags.attach})
}

// fed is the standard input of a container in the background that reads ours.
type fed struct {
	// file is the container's; nil if it has a terminal, or does not read ours.
	file *os.File
	pipe bool
}

// feed gives a container without a terminal our standard input, so that it sees its end: the file itself, or, as what is typed is
// for the shell again when we have ended, a pipe.
func (p *Program) feed(c container.Config, interactive bool) (fed, error) {
	switch {
	case c.TTY || !interactive:
		return fed{}, nil
	case !tty.IsTerminal(p.In):
		return fed{file: p.In}, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fed{}, err
	}
	go func() {
		_, _ = io.Copy(w, p.In) // a program that has read enough is no error
		w.Close()
	}()
	return fed{r, true}, nil
}

// given is called when the container has the file.
func (f fed) given() error {
	if !f.pipe {
		return nil
	}
	return f.file.Close()
}

// hostAddresses are where a published port is reached on the host, as ADDRESS:PORT.
func hostAddresses(p container.Port) []string {
	addresses := []string{p.HostIP}
	if p.HostIP == "" {
		addresses = []string{"0.0.0.0", "::"}
	}
	for i, a := range addresses {
		addresses[i] = net.JoinHostPort(a, strconv.Itoa(int(p.HostPort)))
	}
	return addresses
}

// printPort prints where one port of a container is reached.
func (p *Program) printPort(name string, published []container.Port, wanted string) error {
	if !strings.Contains(wanted, "/") {
		wanted += "/tcp"
	}
	found := false
	for _, port := range published {
		if fmt.Sprintf("%d/%s", port.Port, port.Protocol) != wanted {
			continue
		}
		found = true
		for _, host := range hostAddresses(port) {
			fmt.Fprintln(p.Out, host)
		}
	}
	if !found {
		return fmt.Errorf("container %s: no public port %s is published", name, wanted)
	}
	return nil
}

func (p *Program) portCommand() *cobra.Command {
	return &cobra.Command{
		Use:                   "port CONTAINER [PORT[/PROTOCOL]]",
		Short:                 "List the ports of the host that lead to a container",
		GroupID:               groupRun,
		Args:                  rangeArgs(1, 2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			record, err := e.Get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			st, err := e.State(record)
			if err != nil {
				return err
			}
			published := record.Reached()
			if st.PID == 0 {
				published = nil
			}
			if len(args) > 1 {
				return p.printPort(record.Name, published, args[1])
			}
			for _, port := range published {
				for _, host := range hostAddresses(port) {
					fmt.Fprintf(p.Out, "%d/%s -> %s\n", port.Port, port.Protocol, host)
				}
			}
			return nil
		},
	}
}
