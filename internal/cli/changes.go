package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

func (p *Program) diffCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "diff [FLAGS] CONTAINER",
		Short:   "List what a container has changed of its image's files",
		GroupID: groupRun,
		Long: "List what a container has changed of its image's files: A for what was added, C for what was\n" +
			"changed, D for what was deleted. A directory in which something changed counts as changed.",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			changes, err := e.Diff(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var out []changeRow
			for _, c := range changes {
				out = append(out, changeRow{c.Kind.String(), c.Path})
			}
			if format == "" {
				format = "{{.Kind}} {{.Path}}"
			}
			return present.Rows(p.text(), present.List{Format: format, Columns: changeColumns}, out)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	return cmd
}

// changeRow is one line of `diff`.
type changeRow struct{ Kind, Path string }

var changeColumns = []present.Column{{Field: "Kind", Title: "CHANGE TYPE"}, {Field: "Path", Title: "PATH"}}

func (p *Program) exportCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "export [FLAGS] CONTAINER",
		Short:   "Write the files of a container as a tar archive",
		GroupID: groupRun,
		Long: "Write the root file system of a container as a tar archive, without what is mounted in it.\n" +
			"`containr import` makes an image of it.",
		Example:               "  containr export web >web.tar",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			return p.writeTo("export", output, func(w io.Writer) error {
				return e.Export(cmd.Context(), engine.ExportRequest{Container: args[0], Out: w})
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `PATH`")
	return cmd
}

func (p *Program) commitCommand() *cobra.Command {
	var req engine.CommitRequest
	var changes []string
	var pause bool
	cmd := &cobra.Command{
		Use:     "commit [FLAGS] CONTAINER [IMAGE[:TAG]]",
		Short:   "Make an image of a container and what it has changed",
		GroupID: groupRun,
		Long: "Make an image: the container's image, with what the container has changed as a layer more, to be run\n" +
			"as the container was. What is mounted in it is left out. A container that runs is paused meanwhile.",
		Example:               "  containr commit -m 'with curl' -c 'CMD [\"curl\"]' web example.com/web:curl",
		Args:                  rangeArgs(1, 2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Container = args[0]
			if len(args) == 2 {
				req.Name = args[1]
			}
			req.NoPause = req.NoPause || !pause
			req.Change = func(c *v1.ImageConfig) error {
				for _, change := range changes {
					if err := applyChange(c, change); err != nil {
						return usageErrorf("commit: --change %v", err)
					}
				}
				return nil
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			img, err := e.Commit(cmd.Context(), req)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.Out, img.ConfigDigest)
			return err
		},
	}
	cmd.Flags().StringVarP(&req.Author, "author", "a", "", "note the `AUTHOR`")
	cmd.Flags().StringVarP(&req.Message, "message", "m", "", "note `TEXT` in the image's history")
	cmd.Flags().StringArrayVarP(&changes, "change", "c", nil, "change how to run it by an `INSTRUCTION` of a Dockerfile, such as 'CMD [\"sh\"]'")
	cmd.Flags().BoolVar(&req.NoPause, "no-pause", false, "let the container run meanwhile: what it changes may be half in the image")
	cmd.Flags().BoolVarP(&pause, "pause", "p", true, "pause the container meanwhile; --pause=false is --no-pause")
	return cmd
}

func (p *Program) updateCommand() *cobra.Command {
	var req engine.UpdateRequest
	cmd := &cobra.Command{
		Use:     "update [FLAGS] CONTAINER...",
		Short:   "Change limits, published ports or the restart policy of containers",
		GroupID: groupRun,
		Long: "Change limits and published ports of containers: at once where they run, and for their next starts. What is not named stays.\n" +
			"-1 lifts a limit: of memory, with that of swap, of CPU time, and of processes.",
		Example: "  containr update -m 512m --cpus 1.5 web\n" +
			"  containr update -m -1 --cpus -1 web\n" +
			"  containr update --restart unless-stopped web db\n" +
			"  containr update --publish-add 8080:80 --publish-rm 8081:80 web",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
	}
	bindUpdate(cmd, &req)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if req.Resources == (container.Resources{}) && req.Restart == nil && len(req.Publish)+len(req.Unpublish) == 0 {
			e := &usageError{text: "update: nothing to change", hint: "`containr update --help` lists what can be"}
			if slices.ContainsFunc([]string{"memory", "memory-swap", "cpus", "cpu-quota", "pids-limit"}, cmd.Flags().Changed) {
				e.hint = "0 leaves a limit as it is; -1 lifts that of --memory (swap too), --memory-swap, --cpus, --cpu-quota and --pids-limit"
			}
			return e
		}
		return p.forEach(cmd.Context(), args, 1, func(e *engine.Engine, ctx context.Context, name string) error {
			req.Container = name
			_, err := e.Update(ctx, req)
			return err
		})
	}
	return cmd
}

// bindUpdate makes the flags of update. Their grammars are those of run.
func bindUpdate(cmd *cobra.Command, req *engine.UpdateRequest) {
	bindResources(binder{cmd.Flags(), "Limits"}, &req.Resources)
	for name, f := range map[string]struct {
		to    *int64
		parse func(string) (int64, error)
	}{"memory": {&req.Resources.Memory, container.ParseSize}, "cpus": {&req.Resources.NanoCPUs, container.ParseCPUs}} {
		flag := cmd.Flags().Lookup(name) // a container that is there may have a limit to be lifted
		flag.Value, flag.Usage = &flagValue{read: put(f.to, container.ParseLimit(f.parse))}, flag.Usage+"; -1 for no limit"
	}
	n := binder{cmd.Flags(), "Network"}
	n.value("publish-add", "", "lead a port of the host to it, at once: `[[IP:][PORT]:]PORT[/PROTOCOL]`, as -p of run", addAll(&req.Publish, container.ParsePorts))
	n.value("publish-rm", "", "lead it there no longer: `[[IP:][PORT]:]PORT[/PROTOCOL]`; all that lead to PORT if no port of the host is named", addAll(&req.Unpublish, container.ParsePorts))
	b := binder{cmd.Flags(), "Life"}
	b.value("restart", "", "start it again when it ends: `POLICY` no, always, on-failure[:MAX], on-unhealthy[:MAX], unless-stopped", func(s string) error {
		policy, err := container.ParseRestart(s)
		req.Restart = &policy
		return err
	})
}

func (p *Program) containerPruneCommand() *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [FLAGS]",
		Short: "Remove the containers that do not run",
		Long: "Remove the containers that do not run, with what they have changed.\n\n" +
			"Filters are until=TIME (made before), label=NAME[=VALUE] and label!=NAME[=VALUE].",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doomed, err := prunableContainers(filters)
			if err != nil {
				return err
			}
			if err := p.confirm(cmd.Context(), "prune", "all containers that do not run", force); err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			gone, freed, err := e.PruneContainers(cmd.Context(), doomed)
			return errors.Join(err, p.printPrunedContainers(gone, freed))
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "remove only what `KEY=VALUE` fits")
	return cmd
}

func (p *Program) printPrunedContainers(gone []container.Record, freed int64) error {
	var b strings.Builder
	if len(gone) > 0 {
		b.WriteString("Deleted Containers:\n")
	}
	for _, r := range gone {
		fmt.Fprintln(&b, r.ID)
	}
	if len(gone) > 0 {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "Total reclaimed space: %s\n", present.Size(freed))
	_, err := io.WriteString(p.Out, b.String())
	return err
}
