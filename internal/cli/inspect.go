package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
)

func (p *Program) inspectCommand() *cobra.Command {
	var format string
	var size bool
	cmd := &cobra.Command{
		Use:                   "inspect [FLAGS] CONTAINER...",
		Short:                 "Print all that is known of containers",
		GroupID:               groupRun,
		Long:                  "Print all that is known of containers, as JSON in docker's form. `containr image inspect` is for images.",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			found := []*engine.Inspection{}
			var failures []error
			for _, name := range args {
				i, err := e.InspectContainer(cmd.Context(), engine.InspectContainerRequest{Container: name, Size: size})
				if err != nil {
					failures = append(failures, err)
					continue
				}
				found = append(found, i)
			}
			if err := present.Documents(p.text(), format, found); err != nil {
				return err
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print as json, or by a `TEMPLATE` (Go's)")
	cmd.Flags().BoolVarP(&size, "size", "s", false, "count what they have written")
	return cmd
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
