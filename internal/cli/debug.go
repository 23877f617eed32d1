package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

// debugFlags are those of debug.
type debugFlags struct {
	request engine.DebugRequest
	// interactive and tty were said; else they are as the terminal suggests.
	interactiveSaid, ttySaid bool
}

func (p *Program) debugCommand() *cobra.Command {
	f := new(debugFlags)
	cmd := &cobra.Command{
		Use:     "debug [FLAGS] CONTAINER [COMMAND] [ARG...]",
		Short:   "Open a shell with tools beside a container",
		GroupID: groupRun,
		Long: "Open a shell with tools beside a container, also one that has no shell, or that has ended.\n\n" +
			"The tools are those of the built-in image, in a container of their own that goes away at the end. It shares\n" +
			"the processes, the network, the shared memory, the host name and the users of CONTAINER, and shows\n" +
			"its files at /target, which can be read only, unless --write is given. Nothing of CONTAINER changes.\n" +
			"One that does not run has only its files to show, and cannot be started meanwhile.\n\n" +
			"The exit status is that of COMMAND, as with run.",
		Example: "  containr debug web\n" +
			"  containr debug web ps\n" +
			"  containr debug web cat /target/etc/passwd\n" +
			"  containr debug --image docker.io/library/debian web bash",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.request.Container, f.request.Args = args[0], args[1:]
			f.interactiveSaid, f.ttySaid = cmd.Flags().Changed("interactive"), cmd.Flags().Changed("tty")
			return p.debug(cmd.Context(), f)
		},
	}
	set := cmd.Flags()
	set.SetInterspersed(false)
	b := binder{set, "Flags"}
	r := &f.request
	b.value("env", "e", "set a variable: `KEY=VALUE`, or KEY to pass on ours", add(&r.Env, func(s string) (string, error) { return container.ParseEnv(s, os.LookupEnv) }))
	b.string(&r.Image, "image", "", "take the tools from `IMAGE` (base)")
	b.bool(&r.Interactive, "interactive", "i", "keep standard input open, as without COMMAND")
	b.bool(&r.Privileged, "privileged", "", "give the program all capabilities, and the host's devices")
	b.bool(&r.TTY, "tty", "t", "give the program a terminal, as without COMMAND on a terminal")
	b.string(&r.User, "user", "u", "run as `USER[:GROUP]` of the tools' image (root)")
	b.string(&r.WorkDir, "workdir", "w", "start in the directory `DIR` (/target)")
	b.bool(&r.Write, "write", "", "let it change the container's files")
	return cmd
}

// debug runs the shell or the command with our terminal or streams.
func (p *Program) debug(ctx context.Context, f *debugFlags) error {
	r := f.request
	if len(r.Args) == 0 {
		if !f.interactiveSaid {
			r.Interactive = true
		}
		if !f.ttySaid {
			r.TTY = tty.IsTerminal(p.In) && tty.IsTerminal(p.Out)
		}
	}
	if r.TTY && r.Interactive && !tty.IsTerminal(p.In) {
		return &usageError{text: "debug: -t with -i needs a terminal, and standard input is none", hint: "leave out -t, or -i"}
	}
	e, err := p.engine()
	if err != nil {
		return err
	}
	if r.TTY {
		r.ConsoleSize = p.consoleSize()
		r.Attach = p.attachTerminal(r.Interactive, true, nil)
	} else {
		done, err := p.giveStreams(&r.Streams, streamOptions{interactive: r.Interactive})
		if err != nil {
			return err
		}
		defer done()
	}
	exit, err := e.Debug(ctx, r)
	return p.exitOf(exit, err)
}
