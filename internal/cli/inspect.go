package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/image"
)

// Kinds of things that inspect looks for.
const (
	inspectContainer = "container"
	inspectImage     = "image"
)

func (p *Program) inspectCommand() *cobra.Command {
	cmd, kind := p.newInspectCommand("")
	cmd.Flags().StringVar(kind, "type", "", "look for `KIND` alone: container or image")
	return cmd
}

// inspectContainerCommand is the one below container.
func (p *Program) inspectContainerCommand() *cobra.Command {
	cmd, _ := p.newInspectCommand(inspectContainer)
	cmd.Use, cmd.Short = "inspect [FLAGS] CONTAINER...", "Print all that is known of containers"
	cmd.Long = "Print all that is known of containers, as JSON in docker's form."
	return cmd
}

// newInspectCommand makes the command that looks for things of a kind, which may be changed until it runs.
func (p *Program) newInspectCommand(kind string) (*cobra.Command, *string) {
	var format string
	var size bool
	cmd := &cobra.Command{
		Use:     "inspect [FLAGS] NAME...",
		Short:   "Print all that is known of containers, or of images",
		GroupID: groupRun,
		Long: "Print all that is known of containers, as JSON in docker's form. What is the name of no container may be that\n" +
			"of an image; --type says which of the two is meant.",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind != "" && kind != inspectContainer && kind != inspectImage {
				return &usageError{text: "inspect: --type " + kind + ": use container or image", hint: p.otherInspect(kind)}
			}
			if size && kind == inspectImage {
				return usageErrorf("inspect: --size counts what a container has written: it does not go with --type image")
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			var found []any
			var failures []error
			for _, name := range args {
				thing, err := p.inspectOne(cmd.Context(), e, name, kind, size)
				if err != nil {
					failures = append(failures, err)
					continue
				}
				found = append(found, thing)
			}
			if err := present.Documents(p.text(), format, found); err != nil {
				return err
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print as json, or by a `TEMPLATE` (Go's)")
	cmd.Flags().BoolVarP(&size, "size", "s", false, "count what they have written")
	return cmd, &kind
}

// inspectOne looks for a container, and then for an image, unless kind says which.
func (p *Program) inspectOne(ctx context.Context, e *engine.Engine, name, kind string, size bool) (any, error) {
	var absent error
	if kind != inspectImage {
		i, err := e.InspectContainer(ctx, engine.InspectContainerRequest{Container: name, Size: size})
		if err == nil || kind == inspectContainer || !errors.Is(err, container.ErrNotFound) {
			return i, err
		}
		absent = err
	}
	img, err := e.InspectImage(ctx, engine.InspectRequest{Name: name})
	if err == nil {
		names, err := e.NamesOfImage(img)
		return inspect(img, names), err
	}
	if absent == nil || !errors.Is(err, image.ErrNotFound) && !errors.Is(err, image.ErrReference) {
		return nil, err
	}
	return nil, &nothingError{name, elsewhere(ctx, e, name), absent}
}

// nothingError says that neither a container nor an image has a name.
type nothingError struct {
	name string
	hint string // who has it, if somebody does
	err  error  // that no container has
}

func (e *nothingError) Error() string { return e.name + ": no such container or image" }
func (e *nothingError) Unwrap() error { return e.err }

// otherInspects are the kinds that have an inspect of their own. Docker's --type knows them too.
var otherInspects = []string{"volume", "network", "secret", "config"}

// otherInspect says by which command things of a kind are inspected, or "".
func (p *Program) otherInspect(kind string) string {
	if slices.Contains(otherInspects, kind) {
		return "`containr " + kind + " inspect NAME` does that"
	}
	return insteadOf[kind]
}

// elsewhere says by which command something else of this name is inspected, or "".
func elsewhere(ctx context.Context, e *engine.Engine, name string) string {
	kind := ""
	if _, err := e.Volume(ctx, name); err == nil {
		kind = "volume"
	} else if _, _, err := e.Network(ctx, name); err == nil {
		kind = "network"
	}
	if kind == "" {
		return ""
	}
	return fmt.Sprintf("there is a %s of that name: `containr %s inspect %s`", kind, kind, name)
}

func (p *Program) topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "top CONTAINER [PS OPTIONS]",
		Short:   "List the processes of a container",
		GroupID: groupRun,
		Long: "List the processes of a container, with their numbers on the host. With PS OPTIONS the host's ps is\n" +
			"asked, and must be there; its output has to have a column PID.",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			table, err := e.Top(cmd.Context(), engine.TopRequest{Container: args[0], Options: args[1:]})
			if err != nil {
				return err
			}
			return p.printTable(table)
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// printTable prints the rows of ps with their columns in line.
func (p *Program) printTable(rows [][]string) error {
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			cell = present.CleanLine(cell) // a process calls itself what it likes
			row[i] = cell
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(cell))
		}
	}
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			if i == len(row)-1 {
				line += cell
				break
			}
			line += fmt.Sprintf("%-*s   ", width[i], cell)
		}
		if _, err := fmt.Fprintln(p.Out, line); err != nil {
			return err
		}
	}
	return nil
}
