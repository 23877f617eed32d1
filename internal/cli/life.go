package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

// forEach calls do for each of the containers that are named, width of them at a time, prints
// the names of those for which it worked, in their order, and returns all errors.
func (p *Program) forEach(ctx context.Context, names []string, width int, do func(e *engine.Engine, ctx context.Context, name string) error) error {
	e, err := p.engine()
	if err != nil {
		return err
	}
	var failures []error
	e.Each(ctx, names, width, func(ctx context.Context, i int) error { return do(e, ctx, names[i]) }, func(i int, err error) {
		if err == nil {
			_, err = fmt.Fprintln(p.Out, names[i])
		}
		failures = append(failures, err)
	})
	return errors.Join(failures...)
}

func (p *Program) createCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "create [FLAGS] IMAGE [COMMAND] [ARG...]",
		Short:                 "Make a container, to be started later",
		GroupID:               groupRun,
		Long:                  "Make a container without running its program, and print its id. `containr start` runs it.",
		DisableFlagsInUseLine: true,
	}
	flags := newContainerFlags(cmd.Flags(), "create")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		config, err := flags.finish(args)
		if err != nil {
			return err
		}
		e, err := p.engine()
		if err != nil {
			return err
		}
		progress := p.newProgress(flags.quiet)
		defer progress.close()
		record, err := e.Create(cmd.Context(), engine.CreateRequest{Config: config, ConsoleSize: p.consoleSize(), Progress: progress.event})
		if err != nil {
			return &statusError{engine.ExitStatus(err), p.suggestImage(config, err)}
		}
		if write := writeID(flags.cidFile); write != nil {
			if err := write(record); err != nil {
				_, undo := e.Remove(cmd.Context(), engine.RemoveRequest{Container: record.ID})
				return &statusError{statusUsage, errors.Join(err, undo)}
			}
		}
		_, err = fmt.Fprintln(p.Out, record.ID)
		return err
	}
	return cmd
}

// writeID returns what writes a container's id to the file of --cidfile; nil if there is
// none. A file that is there may be another container's.
func writeID(path string) func(container.Record) error {
	if path == "" {
		return nil
	}
	return func(r container.Record) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return fmt.Errorf("--cidfile: %w", err)
		}
		_, err = f.WriteString(r.ID)
		return errors.Join(err, f.Close())
	}
}

// runDetached starts a container in the background.
func (p *Program) runDetached(ctx context.Context, config container.Config, flags *runFlags) error {
	id, err := p.startDetached(ctx, config, flags, nil)
	if err == nil {
		_, err = fmt.Fprintln(p.Out, id)
	}
	return err
}

// startDetached makes and starts a container; before, if set, is called between the two.
func (p *Program) startDetached(ctx context.Context, config container.Config, flags *runFlags, before func(container.Record) error) (string, error) {
	if flags.step {
		return "", &usageError{text: "run: --step asks on a terminal: it cannot be used in the background"}
	}
	e, err := p.engine()
	if err != nil {
		return "", err
	}
	progress := p.newProgress(flags.quiet)
	defer progress.close()
	req := engine.RunRequest{Config: config, Detach: true, Progress: progress.event}
	req.Stdio[0] = flags.input
	req.ConsoleSize = p.consoleSize()
	if p.global.debug {
		req.Traced = p.printTrace
	}
	write := writeID(flags.cidFile)
	req.Created = func(r container.Record) error {
		for _, do := range []func(container.Record) error{write, before} {
			if do != nil {
				if err := do(r); err != nil {
					return err
				}
			}
		}
		return nil
	}
	exit, err := e.Run(ctx, req)
	if err != nil && !errors.Is(err, context.Canceled) {
		return "", &statusError{engine.ExitStatus(err), p.suggestImage(config, err)}
	}
	return exit.ID, err
}

func (p *Program) startCommand() *cobra.Command {
	var attach, interactive bool
	keys, _ := tty.ParseKeys(tty.DefaultDetachKeys)
	cmd := &cobra.Command{
		Use:                   "start [FLAGS] CONTAINER...",
		Short:                 "Start containers that do not run",
		GroupID:               groupRun,
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !attach && !interactive {
				// One after another: who names a server before its client wants it to be there first.
				return p.forEach(cmd.Context(), args, 1, func(e *engine.Engine, ctx context.Context, name string) error {
					_, err := e.Start(ctx, engine.StartRequest{Container: name})
					return err
				})
			}
			if len(args) > 1 {
				return usageErrorf("start: --attach and --interactive are for one container")
			}
			return p.startAttached(cmd.Context(), args[0], interactive, keys)
		},
	}
	b := binder{cmd.Flags(), "Flags"}
	b.bool(&attach, "attach", "a", "stay in the foreground, with its output here, and pass signals on")
	b.bool(&interactive, "interactive", "i", "the same, with its standard input too")
	b.value("detach-keys", "", "the `KEYS` that leave a terminal (ctrl-p,ctrl-q)", put(&keys, tty.ParseKeys))
	return cmd
}

// startAttached runs a container that was made before in the foreground.
func (p *Program) startAttached(ctx context.Context, name string, interactive bool, keys []byte) error {
	e, err := p.engine()
	if err != nil {
		return err
	}
	record, err := e.Get(ctx, name)
	if err != nil {
		return err
	}
	st, err := e.State(record)
	if err != nil {
		return err
	}
	if st.PID != 0 {
		return p.attach(ctx, name, attachOptions{noInput: !interactive, sigProxy: true, keys: keys})
	}
	interactive = interactive && record.Config.Interactive
	if needsMonitor(record.Config) {
		return p.startWatched(ctx, e, record, interactive, keys)
	}
	req := engine.StartRequest{Container: record.ID, Foreground: true}
	if record.Config.TTY {
		req.ConsoleSize = p.consoleSize()
		req.Attach = p.attachTerminal(interactive, true, keys)
	} else {
		done, err := p.giveStreams(&req.Streams, streamOptions{interactive: interactive})
		if err != nil {
			return err
		}
		defer done()
	}
	exit, err := e.Start(ctx, req)
	return p.exitOf(exit, err)
}

// startWatched is startAttached for a container that goes on without us if need be.
func (p *Program) startWatched(ctx context.Context, e *engine.Engine, record container.Record, interactive bool, keys []byte) error {
	a, err := e.Await(ctx, record)
	if err != nil {
		return err
	}
	req := engine.StartRequest{Container: record.ID}
	req.ConsoleSize = p.consoleSize()
	input, err := p.feed(record.Config, interactive)
	if err == nil {
		req.Stdio[0] = input.file
		_, err = e.Start(ctx, req)
		err = errors.Join(err, input.given())
	}
	if err == nil {
		err = a.Begin()
	}
	if err != nil {
		a.Close()
		if ctx.Err() != nil {
			return err
		}
		return &statusError{engine.ExitStatus(err), err}
	}
	return p.attached(ctx, a, attachOptions{noInput: !interactive || input.file != nil, sigProxy: true, keys: keys})
}

// exitOf is the error that stands for how a program in the foreground ended.
func (p *Program) exitOf(exit engine.Exit, err error) error {
	switch {
	case err != nil && errors.Is(err, context.Canceled):
		return err
	case err != nil:
		return &statusError{engine.ExitStatus(err), err}
	case exit.Left:
		p.tellLeft(exit.ID)
	case exit.Code != 0:
		return &statusError{exit.Code, nil}
	}
	return nil
}

// stopFlags are those of stop and restart.
type stopFlags struct {
	signal  int
	timeout *time.Duration
}

func (f *stopFlags) bind(cmd *cobra.Command) {
	b := binder{cmd.Flags(), "Flags"}
	b.value("time", "t", "kill it after `SECONDS`, if it has not ended by then; -1 for never (10)", func(s string) error {
		n, err := number(s)
		d := time.Duration(n) * time.Second
		f.timeout = &d
		return err
	})
	b.alias("timeout", "time")
	b.value("signal", "s", "the `SIGNAL` that asks the program to end", put(&f.signal, container.ParseSignal))
}

func (p *Program) stopCommand() *cobra.Command {
	f := new(stopFlags)
	cmd := p.eachCommand("stop [FLAGS]", "Ask containers to end, and kill those that do not", engine.Together, func(e *engine.Engine, ctx context.Context, name string) error {
		_, err := e.Stop(ctx, engine.StopRequest{Container: name, Signal: f.signal, Timeout: f.timeout})
		return err
	})
	f.bind(cmd)
	return cmd
}

func (p *Program) restartCommand() *cobra.Command {
	f := new(stopFlags)
	cmd := p.eachCommand("restart [FLAGS]", "Stop containers and start them again", 1, func(e *engine.Engine, ctx context.Context, name string) error {
		_, err := e.Restart(ctx, engine.StopRequest{Container: name, Signal: f.signal, Timeout: f.timeout})
		return err
	})
	f.bind(cmd)
	return cmd
}

func (p *Program) killCommand() *cobra.Command {
	var signal int
	cmd := p.eachCommand("kill [FLAGS]", "Send a signal to the programs of containers", engine.Together, func(e *engine.Engine, ctx context.Context, name string) error {
		_, err := e.Kill(ctx, engine.KillRequest{Container: name, Signal: signal})
		return err
	})
	binder{cmd.Flags(), "Flags"}.value("signal", "s", "send `SIGNAL`, a name or a number (KILL)", put(&signal, container.ParseSignal))
	return cmd
}

// eachCommand is a command that does one thing to each of the containers it is given, width of them at a time.
func (p *Program) eachCommand(use, short string, width int, do func(*engine.Engine, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:                   use + " CONTAINER...",
		Short:                 short,
		GroupID:               groupRun,
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.forEach(cmd.Context(), args, width, do)
		},
	}
}

func (p *Program) pauseCommand() *cobra.Command {
	return p.eachCommand("pause", "Stop all processes of containers where they are", engine.Together, func(e *engine.Engine, ctx context.Context, name string) error {
		_, err := e.Pause(ctx, name)
		return err
	})
}

func (p *Program) unpauseCommand() *cobra.Command {
	return p.eachCommand("unpause", "Let the processes of paused containers go on", engine.Together, func(e *engine.Engine, ctx context.Context, name string) error {
		_, err := e.Unpause(ctx, name)
		return err
	})
}

func (p *Program) waitCommand() *cobra.Command {
	return &cobra.Command{
		Use:                   "wait CONTAINER...",
		Short:                 "Wait until containers have ended, and print their exit statuses",
		GroupID:               groupRun,
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			var failures []error
			for _, name := range args {
				code, err := e.Wait(cmd.Context(), name)
				if err == nil {
					_, err = fmt.Fprintln(p.Out, strconv.Itoa(code))
				}
				failures = append(failures, err)
			}
			return errors.Join(failures...)
		},
	}
}

func (p *Program) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use:                   "rename CONTAINER NAME",
		Short:                 "Give a container another name",
		GroupID:               groupRun,
		Args:                  exactArgs(2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			return e.Rename(cmd.Context(), args[0], args[1])
		},
	}
}

func (p *Program) removeCommand() *cobra.Command {
	var force, volumes, unchanged bool
	cmd := &cobra.Command{
		Use:     "rm [FLAGS] CONTAINER...",
		Short:   "Remove containers",
		GroupID: groupRun,
		Long: "Remove containers, with all that they have changed of their image's files. With --check-changes one that has\n" +
			"changed any stays, and is not killed either; the error names what would be lost.",
		Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			var failures []error
			records := make([]container.Record, len(args))
			e.Each(cmd.Context(), args, engine.Together, func(ctx context.Context, i int) (err error) {
				records[i], err = e.Remove(ctx, engine.RemoveRequest{Container: args[i], Force: force, Volumes: volumes, Unchanged: unchanged})
				return err
			}, func(i int, err error) {
				if force && errors.Is(err, container.ErrNotFound) {
					p.print(err) // it is not there, which is what was wanted
					return
				}
				if err == nil {
					_, err = fmt.Fprintln(p.Out, records[i].Name)
				}
				failures = append(failures, err)
			})
			return errors.Join(failures...)
		},
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill it if it runs; one that is not there is no failure")
	cmd.Flags().BoolVar(&unchanged, "check-changes", false, "refuse to remove one that has changed files of its image or made some")
	cmd.Flags().BoolVarP(&volumes, "volumes", "v", false, "remove its volumes without a name too, unless others have them")
	return cmd
}

// cleanupCommand is what the monitor executes at the end of a container.
func (p *Program) cleanupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup CONTAINER...",
		Short: "Finish what is to be done for containers that have ended",
		Long: "Finish what is to be done for containers that have ended: undo what was done for them, note how\n" +
			"they ended, remove them if they were made with --rm, start them again if their restart policy\n" +
			"wants that by now. This is done by itself; the command is there to be called by other programs.\n" +
			"One that is gone, by its whole ID, is no error: nothing is left to be done.",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			var failures []error
			for _, name := range args {
				failures = append(failures, e.Cleanup(cmd.Context(), name))
			}
			return errors.Join(failures...)
		},
	}
}

// forwardCommand is what the monitor executes while a container runs whose log is passed on.
func (p *Program) forwardCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forward CONTAINER",
		Short: "Pass on what a container writes to its log driver's server",
		Long: "Pass on what a container writes, with the log drivers syslog, journald, gelf and fluentd, until it has ended and\n" +
			"all is sent, or until standard input ends. This is done by itself; the command is there to be called by the monitor.",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			return e.Forward(cmd.Context(), args[0], p.In)
		},
	}
}

// probeCommand is what makes health checks by http, tcp and grpc.
func (p *Program) probeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "probe CONTAINER",
		Short: "Make a container's health check by http, tcp or grpc once",
		Long: "Ask a container that runs, from within its network, what its health check by http, tcp or grpc asks, and print what it answers.\n" +
			"The exit status is 1 if it is not well. This is done by itself; the command is there to be called by the monitor, and to try a check.",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			answer, err := e.Probe(cmd.Context(), args[0])
			if err == nil {
				_, err = fmt.Fprintln(p.Out, answer)
			}
			return err
		},
	}
}

// containerCommand has all commands for containers once more, as docker has.
func (p *Program) containerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "container COMMAND",
		Short:   "All that is done with containers",
		GroupID: groupRun,
		Args:    cobra.ArbitraryArgs,
		RunE:    groupOfCommands,
	}
	for _, c := range []struct {
		name string
		cmd  *cobra.Command
	}{
		{"attach", p.attachCommand()}, {"create", p.createCommand()}, {"exec", p.execCommand()}, {"inspect", p.inspectContainerCommand()},
		{"kill", p.killCommand()}, {"logs", p.logsCommand()}, {"ls", p.psCommand()}, {"pause", p.pauseCommand()},
		{"port", p.portCommand()}, {"rename", p.renameCommand()}, {"restart", p.restartCommand()}, {"rm", p.removeCommand()},
		{"run", p.runCommand()}, {"start", p.startCommand()}, {"stop", p.stopCommand()}, {"top", p.topCommand()},
		{"unpause", p.unpauseCommand()}, {"wait", p.waitCommand()},
		{"stats", p.statsCommand()}, {"cp", p.copyFilesCommand()}, {"diff", p.diffCommand()}, {"export", p.exportCommand()}, {"commit", p.commitCommand()}, {"debug", p.debugCommand()}, {"update", p.updateCommand()},
		{"why", p.whyCommand()}, {"events", p.eventsCommand()},
	} {
		cmd.AddCommand(within(c.name, c.cmd))
		if c.name == "ls" {
			c.cmd.Aliases = []string{"ps", "list"}
		}
	}
	cmd.AddCommand(p.containerPruneCommand())
	cmd.AddCommand(p.cleanupCommand())
	cmd.AddCommand(p.forwardCommand())
	cmd.AddCommand(p.probeCommand())
	return cmd
}
