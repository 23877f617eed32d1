package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

// execFlags are those of exec.
type execFlags struct {
	request     engine.ExecRequest
	interactive bool
	fileEnv     []string
	env         []string
	keys        []byte
}

func (p *Program) execCommand() *cobra.Command {
	f := new(execFlags)
	f.keys, _ = tty.ParseKeys(tty.DefaultDetachKeys)
	cmd := &cobra.Command{
		Use:     "exec [FLAGS] CONTAINER COMMAND [ARG...]",
		Short:   "Run a further program in a container",
		GroupID: groupRun,
		Long: "Run a further program in a container that runs.\n\n" +
			"The exit status is the program's; 128 and a signal's number if one ended it; 127 if\n" +
			"the program was not found, 126 if it could not be executed; 1, as docker has it, if containr could\n" +
			"start none, because the container does not run or there is no such user: a line that begins with\n" +
			"`containr: ` then tells it from a 1 of the program's; and 125 if the command line was not understood.",
		Example:               "  containr exec -it web sh\n  containr exec -u app -e MODE=test web ./check",
		Args:                  minArgs(2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.request.Container, f.request.Args = args[0], args[1:]
			f.request.Env = append(f.fileEnv, f.env...)
			return p.exec(cmd.Context(), f)
		},
	}
	set := cmd.Flags()
	set.SetInterspersed(false)
	b := binder{set, "Flags"}
	b.bool(&f.request.Detach, "detach", "d", "run it in the background, its output going nowhere")
	b.value("detach-keys", "", "the `KEYS` that leave a terminal (ctrl-p,ctrl-q)", put(&f.keys, tty.ParseKeys))
	b.value("env", "e", "set a variable: `KEY=VALUE`, or KEY to pass on ours", add(&f.env, func(s string) (string, error) { return container.ParseEnv(s, os.LookupEnv) }))
	b.value("env-file", "", "read variables from `FILE`", f.readEnv)
	b.bool(&f.interactive, "interactive", "i", "keep standard input open")
	b.bool(&f.request.Privileged, "privileged", "", "give the program all capabilities")
	b.bool(&f.request.TTY, "tty", "t", "give the program a terminal")
	b.string(&f.request.User, "user", "u", "run as `USER[:GROUP]`, names or numbers")
	b.string(&f.request.WorkDir, "workdir", "w", "start in the directory `DIR`")
	return cmd
}

func (f *execFlags) readEnv(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	env, err := container.ParseEnvFile(name, file, os.LookupEnv)
	f.fileEnv = append(f.fileEnv, env...)
	return err
}

func (p *Program) exec(ctx context.Context, f *execFlags) error {
	r := f.request
	if r.TTY && f.interactive && !r.Detach && !tty.IsTerminal(p.In) {
		return &usageError{text: "exec: -t with -i needs a terminal, and standard input is none", hint: "leave out -t, or -i"}
	}
	e, err := p.engine()
	if err != nil {
		return err
	}
	switch {
	case r.TTY:
		r.ConsoleSize = p.consoleSize()
		r.Attach = p.attachTerminal(f.interactive, true, f.keys)
	case !r.Detach:
		done, err := p.giveStreams(&r.Streams, streamOptions{interactive: f.interactive})
		if err != nil {
			return err
		}
		defer done()
	}
	exit, err := e.Exec(ctx, r)
	if err == nil && exit.Left {
		if r.Detach { // who asked for it knows
			return nil
		}
		fmt.Fprintf(p.Err, "containr: left; the program goes on in container %s, and nothing comes back to it\n", r.Container)
		return nil
	}
	if err != nil && engine.ExitStatus(err) == statusUsage {
		return err // docker exits with 1 where no program was started
	}
	return p.exitOf(exit, err)
}
