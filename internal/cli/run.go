package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/errcode"
	"github.com/containr/containr/internal/spelling"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/registry"
)

func (p *Program) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "run [FLAGS] IMAGE [COMMAND] [ARG...]",
		Short:   "Run a program in a new container",
		GroupID: groupRun,
		Long: "Run a program in a new container, in the foreground or, with -d, in the background.\n\n" +
			"Without COMMAND the image says what runs. With --rootfs there is no IMAGE.\n" +
			"The exit status is the program's; 128 and a signal's number if one ended it; 127 if\n" +
			"the program was not found, 126 if it could not be executed, 125 if containr failed.",
		Example: "  containr run --rm base echo hello\n" +
			"  containr run --rm -it base sh\n" +
			"  containr run --rm -m 64m --cpus 0.5 -v ./data:/data:ro docker.io/library/debian ls /data",
		DisableFlagsInUseLine: true,
	}
	flags := newRunFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		config, err := flags.finish(args)
		if err != nil {
			return err
		}
		if flags.detach {
			return p.runDetached(cmd.Context(), config, flags)
		}
		if flags.attach.onlyInput() {
			return p.runFed(cmd.Context(), config, flags)
		}
		if needsMonitor(config) || !config.TTY && !flags.sigProxy {
			return p.runWatched(cmd.Context(), config, flags)
		}
		code, err := p.run(cmd.Context(), config, flags)
		switch {
		case err != nil && errors.Is(err, context.Canceled):
			return err
		case err != nil:
			return &statusError{engine.ExitStatus(err), p.suggestImage(config, err)}
		case code != 0:
			return &statusError{code, nil}
		}
		return nil
	}
	return cmd
}

// needsMonitor reports whether a container that is to run in the foreground needs what only
// the monitor does.
func needsMonitor(c container.Config) bool {
	switch c.LogDriver {
	case "", logs.None:
	case logs.JSONFile, logs.Local:
		if c.AutoRemove && !c.TTY {
			return true // else the engine logs it, see engine.RunRequest
		}
	default:
		return true
	}
	return c.Restart.Wanted() || c.Health.Asked() || c.Health.Acts()
}

// suggestImage adds to the error of a pull the image that is here and has nearly the
// same name, which may have been meant.
func (p *Program) suggestImage(config container.Config, err error) error {
	if !errors.Is(err, registry.ErrUnreachable) && !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, registry.ErrUnauthorized) {
		return err
	}
	names := []string{strings.TrimSuffix(baseimage.Name, ":latest")}
	if e, err := p.engine(); err == nil {
		listed, _ := e.Images() // without a list there is one image to suggest
		for _, row := range rows(listed, false) {
			names = append(names, row.Repository, row.Repository+":"+row.Tag)
		}
	}
	near := spelling.Nearest(config.Image, names)
	if near == "" {
		return err
	}
	return &usageError{text: err.Error(), hint: "did you mean " + near + ", which is here?", err: err}
}

// run does one run with this process's terminal or streams.
func (p *Program) run(ctx context.Context, config container.Config, flags *runFlags) (int, error) {
	if config.TTY && config.Interactive && !tty.IsTerminal(p.In) {
		return 0, &usageError{text: "run: -t with -i needs a terminal, and standard input is none", hint: "leave out -t, or -i"}
	}
	e, err := p.engine()
	if err != nil {
		return 0, err
	}
	// A reader that goes away must not end us before the container is gone: with this,
	// a write to it fails and does nothing worse.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, unix.SIGPIPE)
	defer func() { go signal.Stop(broken) }() // it takes Go's runtime a while
	req := engine.RunRequest{Config: config, Created: writeID(flags.cidFile)}
	progress := p.newProgress(flags.quiet)
	defer progress.close()
	req.Progress = progress.event
	if config.TTY {
		req.ConsoleSize = p.consoleSize()
		req.Attach = p.attachTerminal(config.Interactive, flags.sigProxy, flags.detachKeys)
	} else {
		done, err := p.giveStreams(&req.Streams, streamOptions{interactive: config.Interactive, step: flags.step, to: flags.attach})
		if err != nil {
			return 0, err
		}
		defer done()
	}
	if p.global.debug {
		req.Traced = p.printTrace
	}
	if flags.step {
		console, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return 0, fmt.Errorf("--step needs a terminal to ask on: %w", err)
		}
		defer console.Close()
		req.Before = stepper(console)
	}
	exit, err := runOrRecord(ctx, e, req, flags.record)
	if err == nil && exit.OOMKilled {
		p.print(&usageError{text: "the program reached the container's memory limit and was killed", hint: "raise it with -m", code: errcode.OutOfMemory})
	}
	if err == nil && exit.Left {
		p.tellLeft(exit.ID)
	}
	return exit.Code, err
}

// runOrRecord runs a container; record, if there is one, is told what its filter could be.
func runOrRecord(ctx context.Context, e *engine.Engine, req engine.RunRequest, record func(*specs.LinuxSeccomp)) (engine.Exit, error) {
	if record == nil {
		return e.Run(ctx, req)
	}
	learned, exit, err := e.RecordSeccomp(ctx, req)
	if err == nil {
		record(learned)
	}
	return exit, err
}

// tellLeft says how to come back to a container that the user has left.
func (p *Program) tellLeft(id string) {
	fmt.Fprintf(p.Err, "containr: left; `containr attach %s` comes back\n", id[:12])
}

// consoleSize is the size of our terminal, nil if we have none.
func (p *Program) consoleSize() *specs.Box {
	for _, f := range []*os.File{p.Out, p.In} {
		if size, err := tty.WindowSize(f); err == nil && size.Rows > 0 {
			return &specs.Box{Width: uint(size.Columns), Height: uint(size.Rows)}
		}
	}
	return nil
}

// attachTerminal connects our terminal with the container's.
func (p *Program) attachTerminal(interactive, sigProxy bool, keys []byte) func(*engine.Running) (func() error, error) {
	return func(r *engine.Running) (func() error, error) {
		s := &tty.Session{Out: p.Out, Master: r.Console, Screen: r.Screen, Keys: keys, Detach: r.Leave}
		if sigProxy {
			s.Signal = func(sig os.Signal) { r.Signal(sig) } // it may have ended
		}
		if interactive {
			s.In = p.In
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		s.Ready = p.stopInterrupts // from here on signals are the container's
		go func() { done <- s.Run(ctx) }()
		return func() error {
			cancel()
			err := <-done
			if errors.Is(err, unix.EPIPE) {
				return nil // who read our output has seen enough
			}
			return err
		}, nil
	}
}

// streamOptions say how a program gets our streams.
type streamOptions struct {
	interactive bool
	// step: the user is asked before each step.
	step bool
	// to says which of our outputs it gets.
	to attachTo
}

// giveStreams gives our streams to a container without a terminal, and passes our
// signals on to it: from just before it starts, or, where each step is asked for, from
// when the program runs; until then Ctrl-C answers the question. done ends both.
func (p *Program) giveStreams(req *engine.Streams, o streamOptions) (done func(), err error) {
	stdout, stderr, closeNull, err := o.to.outputs(p)
	if err != nil {
		return nil, err
	}
	streams, err := tty.OpenStreams(o.interactive, p.In, stdout, stderr)
	if err != nil {
		closeNull()
		return nil, err
	}
	req.Stdio = [3]*os.File{streams.In, streams.Out, streams.Err}
	var signals sys.Forwarding
	starting := func() {
		signals.Start()
		p.stopInterrupts()
	}
	if !o.step {
		req.Starting = starting
	}
	done = func() {
		signals.Stop()
		streams.Close()
		closeNull()
	}
	req.Attach = func(r *engine.Running) (func() error, error) {
		if o.step {
			starting()
		}
		streams.Started()
		return func() error { done(); return nil }, r.Forward(&signals)
	}
	return done, nil
}
