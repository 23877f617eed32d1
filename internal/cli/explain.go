package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/containr/containr/internal/config"
	"github.com/containr/containr/internal/errcode"
	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/planjson"
	"github.com/containr/containr/pkg/plan/shell"
)

// explainFlags are the flags of `explain` itself.
type explainFlags struct {
	zoom, as, diff string
	zoomed         bool // --zoom was given
}

func (p *Program) explainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:     "explain [FLAGS] run|pull ... | CTR-NNNN",
		Short:   "Print what a run or a pull would do, without doing it, or what an error means",
		GroupID: groupRun,
		Long: "Print what a run would do, call by call, each with its reason, without doing it.\n\n" +
			"What follows is the command line of `containr run`. The image is fetched if the run\n" +
			"would fetch it, since the plan depends on it; nothing else is made or left, but with --as shell\n" +
			"and --as elf. Those write a script and a program that make the container by themselves; the\n" +
			"files that they need are kept, as a container that has not run, which `containr rm` removes.\n" +
			"The script has no networks but `--network none` and `host`.\n\n" +
			"Of `pull` the requests are printed, as a script in which curl makes them. Manifests and\n" +
			"configuration are fetched, as they say what comes next; layers are not.\n\n" +
			"With the code of an error, CTR and four digits, it prints what that means and what to do.",
		Example: "  containr explain run --rm base true\n" +
			"  containr explain --zoom chapters run -m 64m base true\n" +
			"  containr explain --as spec run --read-only base true\n" +
			"  containr explain --diff 'run base true' 'run --privileged base true'\n" +
			"  containr explain pull debian:12\n" +
			"  containr explain CTR-4001",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.zoomed = cmd.Flags().Changed("zoom") && !slices.ContainsFunc(p.origins, func(v config.Value) bool { return v.Key == "zoom" })
			err := p.explain(cmd.Context(), f, args)
			var usage *usageError
			if err == nil || errors.As(err, &usage) || errors.Is(err, context.Canceled) {
				return err
			}
			return &statusError{engine.ExitStatus(err), err}
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&f.zoom, "zoom", "steps", "how close to look: `LEVEL` chapters, steps or words")
	cmd.Flags().StringVar(&f.as, "as", "plan", "what to print: `FORM` config, spec, plan, words, json, shell or elf")
	cmd.Flags().StringVar(&f.diff, "diff", "", "compare with another `COMMAND`, which is one word in quotes")
	return cmd
}

func (p *Program) explain(ctx context.Context, f explainFlags, args []string) error {
	form, err := formOf(f)
	switch {
	case err != nil:
		return err
	case len(args) == 1 && errcode.IsCode(args[0]):
		return p.explainCode(args[0])
	case len(args) > 0 && args[0] == "pull":
		return p.explainPull(ctx, f, args[1:])
	case f.zoomed && f.as != "plan" && f.as != f.zoom:
		return &usageError{text: fmt.Sprintf("explain: --zoom %s does not go with --as %s", f.zoom, f.as), hint: "--zoom says how close to look at --as plan, which is meant without --as"}
	case f.diff != "" && form.keep:
		return usageErrorf("explain: --diff does not go with --as %s", f.as)
	case f.diff != "":
		return p.explainDiff(ctx, f.diff, args, form)
	case form.binary && tty.IsTerminal(p.Out):
		return &usageError{text: "explain: --as " + f.as + " writes a program, and standard output is a terminal", hint: "add >FILE"}
	}
	return p.explainOne(ctx, p.Out, args, container.NewID(), form)
}

// explainCode prints what an error code means.
func (p *Program) explainCode(code string) error {
	entry, ok := errcode.Find(code)
	if ok {
		return entry.Write(p.Out)
	}
	e := &usageError{text: fmt.Sprintf("explain: there is no error %s", code), hint: "docs/cli/errors.md lists them all"}
	if near := errcode.Nearest(code); near != "" {
		e.hint = "did you mean " + near + "?"
	}
	return e
}

// form is one way to print an explanation.
type form struct {
	name  string
	write func(p *Program, w io.Writer, x *engine.Explanation) error
	// keep says that what is printed is of use only while the container's
	// files exist: they are kept, as those of a container that never ran.
	keep bool
	// binary says that it is nothing for a terminal.
	binary bool
}

// forms are the values of --as. --zoom chooses between the first three.
var forms = []form{
	{name: "chapters", write: func(_ *Program, w io.Writer, x *engine.Explanation) error { return x.Plan.Write(w, plan.Chapters) }},
	{name: "plan", write: func(_ *Program, w io.Writer, x *engine.Explanation) error { return x.Plan.Write(w, plan.Steps) }},
	{name: "words", write: func(_ *Program, w io.Writer, x *engine.Explanation) error { return x.WriteWords(w) }},
	{name: "config", write: func(_ *Program, w io.Writer, x *engine.Explanation) error { return printJSON(w, x.Config) }},
	{name: "spec", write: func(_ *Program, w io.Writer, x *engine.Explanation) error { return printJSON(w, x.Spec) }},
	{name: "json", write: func(_ *Program, w io.Writer, x *engine.Explanation) error { return planjson.Encode(w, x.Plan) }},
	{name: "shell", write: (*Program).writeShell, keep: true},
	{name: "elf", write: (*Program).writeELF, keep: true, binary: true},
}

// formOf finds the form that the flags ask for.
func formOf(f explainFlags) (form, error) {
	name := f.as
	if f.as == "plan" {
		switch f.zoom {
		case "chapters", "words":
			name = f.zoom
		case "steps":
		default:
			return form{}, usageErrorf("explain: --zoom %s: use chapters, steps or words", f.zoom)
		}
	}
	for _, x := range forms {
		if x.name == name {
			return x, nil
		}
	}
	return form{}, usageErrorf("explain: --as %s: use config, spec, plan, words, json, shell or elf", f.as)
}

// writeELF writes the plan as a program, and says on standard error what it leaves
// out and which container's files it uses.
func (p *Program) writeELF(w io.Writer, x *engine.Explanation) error {
	omitted, err := x.WriteELF(w)
	if err != nil {
		return err
	}
	said := make(map[string]bool)
	for _, s := range omitted {
		line := fmt.Sprintf("left out: %s: %s\n", s.Chapter, s.Why)
		if said[line] {
			continue
		}
		said[line] = true
		if _, err := io.WriteString(p.Err, line); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(p.Err, "its files are those of container %s: containr rm removes them\n", x.Name)
	return err
}

// writeShell writes the plan as a script that builds the same container by hand.
func (p *Program) writeShell(w io.Writer, x *engine.Explanation) error {
	script, err := shell.Script(x.Plan, shell.Options{Name: x.Name})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, script); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Err, "its files are those of container %s: containr rm removes them\n", x.Name)
	return err
}

func printJSON(w io.Writer, v any) error {
	return present.EncodeJSON(w, v, "  ")
}

// explainOne explains one command line of run.
func (p *Program) explainOne(ctx context.Context, w io.Writer, args []string, id string, form form) error {
	config, err := p.parseRun(args)
	if err != nil {
		return err
	}
	e, err := p.engine()
	if err != nil {
		return err
	}
	progress := p.newProgress(false)
	defer progress.close()
	req := engine.ExplainRequest{Config: config, ID: id, Keep: form.keep, Progress: progress.event}
	if config.TTY {
		req.ConsoleSize = p.consoleSize()
	}
	x, err := e.Explain(ctx, req)
	if err != nil {
		return err
	}
	if err := form.write(p, w, x); err != nil {
		if form.keep { // for what was not written
			_, removeErr := e.Remove(context.WithoutCancel(ctx), engine.RemoveRequest{Container: x.ID, Volumes: true})
			err = errors.Join(err, removeErr)
		}
		return err
	}
	return nil
}

// parseRun reads `run ...` as the command run would.
func (p *Program) parseRun(args []string) (container.Config, error) {
	if len(args) == 0 || args[0] != "run" {
		return container.Config{}, &usageError{text: "explain: what to explain begins with run or pull", hint: "containr explain run base true"}
	}
	_, config, err := p.readRun(args[1:])
	return config, err
}

// readRun reads what follows the word run on the command line, with the defaults that run has.
func (p *Program) readRun(args []string) (*runFlags, container.Config, error) {
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags := newRunFlags(set)
	// The text of the errors names the command, the hint its help.
	owner := &cobra.Command{Use: "containr"}
	cmd := &cobra.Command{Use: "run"}
	owner.AddCommand(cmd)
	cmd.Flags().AddFlagSet(set)
	if err := set.Parse(args); err != nil {
		return nil, container.Config{}, flagError(cmd, err)
	}
	values, err := p.readConfig()
	if err == nil {
		err = p.applyDefaults(values, "run", set, set)
	}
	if err != nil {
		return nil, container.Config{}, err
	}
	config, err := flags.finish(set.Args())
	return flags, config, err
}

// explainDiff prints the lines in which two explanations differ, with those in
// common around them. Both have the same id, so that only meaning differs. It is a new
// one, as others may explain at the same time, and printed as zeros, so that the same
// question has the same answer.
func (p *Program) explainDiff(ctx context.Context, first string, args []string, form form) error {
	second := args
	if len(args) == 1 {
		words, err := splitWords(args[0])
		if err != nil {
			return usageErrorf("explain: %s: %v", args[0], err)
		}
		second = words
	}
	words, err := splitWords(first)
	if err != nil {
		return usageErrorf("explain: --diff %s: %v", first, err)
	}
	for _, command := range [][]string{words, second} {
		if err := checkCompared(command); err != nil {
			return err
		}
	}
	id := container.NewID()
	zeros := strings.NewReplacer(id, strings.Repeat("0", len(id)), id[:12], strings.Repeat("0", 12))
	var texts [2]bytes.Buffer
	for i, command := range [][]string{words, second} {
		if len(command) > 0 && command[0] != "run" {
			command = append([]string{"run"}, command...)
		}
		if err := p.explainOne(ctx, &texts[i], command, id, form); err != nil {
			return err
		}
	}
	for _, line := range diffLines(lines(zeros.Replace(texts[0].String())), lines(zeros.Replace(texts[1].String()))) {
		if _, err := fmt.Fprintln(p.Out, line); err != nil {
			return err
		}
	}
	return nil
}

// checkCompared refuses what --diff cannot compare: all but command lines of run, with or without that word.
func checkCompared(command []string) error {
	switch {
	case len(command) == 0:
		return &usageError{text: "explain: --diff: a command is missing", hint: compareHint}
	case command[0] == "pull":
		return &usageError{text: "explain: --diff compares runs: a pull has no plan", hint: compareHint}
	case strings.HasPrefix(command[0], "run "):
		return &usageError{text: fmt.Sprintf("explain: --diff: %q is one word, with blanks in it", command[0]), hint: compareHint}
	}
	return nil
}

const compareHint = "containr explain --diff 'run base true' 'run --privileged base true', or without quotes around the second"

func lines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }
