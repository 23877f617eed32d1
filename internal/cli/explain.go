package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/planjson"
)

// explainFlags are the flags of `explain` itself.
type explainFlags struct {
	zoom, as, diff string
}

func (p *Program) explainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:     "explain [FLAGS] run ...",
		Short:   "Print what a run would do, without doing it",
		GroupID: groupRun,
		Long: "Print what a run would do, call by call, each with its reason, without doing it.\n\n" +
			"What follows is the command line of `containr run`. The image is fetched if the run\n" +
			"would fetch it, since the plan depends on it; nothing else is made or left.",
		Example: "  containr explain run --rm base true\n" +
			"  containr explain --zoom chapters run -m 64m base true\n" +
			"  containr explain --as spec run --read-only base true\n" +
			"  containr explain --diff 'run base true' 'run --privileged base true'",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := p.explain(cmd.Context(), f, args)
			var usage *usageError
			if err == nil || errors.As(err, &usage) || errors.Is(err, context.Canceled) {
				return err
			}
			return &statusError{engine.ExitStatus(err), err}
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&f.zoom, "zoom", "steps", "how close to look: `LEVEL` chapters or steps")
	cmd.Flags().StringVar(&f.as, "as", "plan", "what to print: `FORM` config, spec, plan or json")
	cmd.Flags().StringVar(&f.diff, "diff", "", "compare with another `COMMAND`, which is one word in quotes")
	return cmd
}

func (p *Program) explain(ctx context.Context, f explainFlags, args []string) error {
	print, err := printer(f)
	if err != nil {
		return err
	}
	if f.diff != "" {
		return p.explainDiff(ctx, f.diff, args, print)
	}
	return p.explainOne(ctx, p.Out, args, container.NewID(), print)
}

// printer chooses what to print of an explanation.
func printer(f explainFlags) (func(io.Writer, *engine.Explanation) error, error) {
	zooms := map[string]plan.Zoom{"chapters": plan.Chapters, "steps": plan.Steps}
	zoom, ok := zooms[f.zoom]
	if !ok {
		return nil, usageErrorf("explain: --zoom %s: use chapters or steps", f.zoom)
	}
	switch f.as {
	case "config":
		return func(w io.Writer, x *engine.Explanation) error { return printJSON(w, x.Config) }, nil
	case "spec":
		return func(w io.Writer, x *engine.Explanation) error { return printJSON(w, x.Spec) }, nil
	case "plan":
		return func(w io.Writer, x *engine.Explanation) error { return x.Plan.Write(w, zoom) }, nil
	case "json":
		return func(w io.Writer, x *engine.Explanation) error { return planjson.Encode(w, x.Plan) }, nil
	}
	return nil, usageErrorf("explain: --as %s: use config, spec, plan or json", f.as)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printJSONLine prints v as JSON in one line.
func printJSONLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// explainOne explains one command line of run.
func (p *Program) explainOne(ctx context.Context, w io.Writer, args []string, id string, print func(io.Writer, *engine.Explanation) error) error {
	config, err := parseRun(args)
	if err != nil {
		return err
	}
	e, err := p.engine()
	if err != nil {
		return err
	}
	progress := p.newProgress(false)
	defer progress.close()
	req := engine.ExplainRequest{Config: config, ID: id, Progress: progress.event}
	if config.TTY {
		req.ConsoleSize = p.consoleSize()
	}
	x, err := e.Explain(ctx, req)
	if err != nil {
		return err
	}
	return print(w, x)
}

// parseRun reads `run ...` as the command run would.
func parseRun(args []string) (container.Config, error) {
	if len(args) == 0 || args[0] != "run" {
		return container.Config{}, &usageError{text: "explain: what to explain begins with run", hint: "containr explain run base true"}
	}
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags := newRunFlags(set)
	// The text of the errors names the command, the hint its help.
	owner := &cobra.Command{Use: "containr"}
	cmd := &cobra.Command{Use: "run"}
	owner.AddCommand(cmd)
	cmd.Flags().AddFlagSet(set)
	if err := set.Parse(args[1:]); err != nil {
		return container.Config{}, flagError(cmd, err)
	}
	return flags.finish(set.Args())
}

// explainDiff prints the lines in which two explanations differ, with those in
// common around them. Both have the same id, so that only meaning differs.
func (p *Program) explainDiff(ctx context.Context, first string, args []string, print func(io.Writer, *engine.Explanation) error) error {
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
	id := strings.Repeat("0", 64)
	var texts [2]bytes.Buffer
	for i, command := range [][]string{words, second} {
		if len(command) > 0 && command[0] != "run" {
			command = append([]string{"run"}, command...)
		}
		if err := p.explainOne(ctx, &texts[i], command, id, print); err != nil {
			return err
		}
	}
	for _, line := range diffLines(lines(texts[0].String()), lines(texts[1].String())) {
		if _, err := fmt.Fprintln(p.Out, line); err != nil {
			return err
		}
	}
	return nil
}

func lines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }
