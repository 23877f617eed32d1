package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/volume"
)

func (p *Program) systemCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "system COMMAND",
		Short:   "Look after what containr keeps on disk",
		GroupID: groupSystem,
		Args:    cobra.ArbitraryArgs,
		RunE:    groupOfCommands,
	}
	cmd.AddCommand(p.systemDFCommand(), p.systemPruneCommand(), p.systemCheckCommand(), p.systemBootCommand(), p.systemSyncCommand(), p.systemAmongIDsCommand(), within("info", p.infoCommand()))
	return cmd
}

func (p *Program) systemBootCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "boot",
		Short: "Start the containers that should run after the machine was started",
		Long: "Start the containers whose restart policy is `always` or `unless-stopped` and that ran when the machine went down.\n" +
			"With `always` those that were stopped by hand are started too, with `on-failure` none is, as docker has it. The\n" +
			"others are noted as ended, and of those with --rm everything is removed. The names of those that were started\n" +
			"are printed.\n\n" +
			"The unit containr-boot.service, which `make install` installs, does this once for each boot:\n\n" +
			"    systemctl enable containr-boot.service\n\n" +
			"In the same boot it does nothing a second time.",
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			return e.Boot(cmd.Context(), func(r container.Record) { fmt.Fprintln(p.Out, r.Name) })
		},
	}
}

func (p *Program) systemSyncCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sync",
		Short: "Flush unpacked layers to the disk, so that they outlive a boot",
		Long: "Flush the file system that has the unpacked layers. To make a layer does not wait for the disk; one that was not flushed\n" +
			"might be damaged by a failure of power, so it is not trusted after the next boot, and unpacked again when it is needed.\n" +
			"It is printed how many layers had not been flushed.\n\n" +
			"The unit containr-boot.service does this when the machine goes down.",
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			n, err := e.Flush(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(p.Out, n)
			return nil
		},
	}
}

// partRow is a line of `system df`, and what a template may name: docker's names.
type partRow struct {
	Type, TotalCount, Active, Size, Reclaimable string
}

var partColumns = []present.Column{
	{Field: "Type", Title: "TYPE"}, {Field: "TotalCount", Title: "TOTAL"}, {Field: "Active", Title: "ACTIVE"},
	{Field: "Size", Title: "SIZE"}, {Field: "Reclaimable", Title: "RECLAIMABLE"},
}

func (p *Program) systemDFCommand() *cobra.Command {
	var format string
	var verbose, exact bool
	cmd := &cobra.Command{
		Use:   "df [FLAGS]",
		Short: "Print what is on disk, and what would be freed",
		Long: "Print what the state root takes on disk. The parts add up to what du says of it. RECLAIMABLE is what is\n" +
			"left of a part if the images of containers and the containers that run are all that stays. Unpacked layers are\n" +
			"made again from their image when a container needs them.",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error {
			if verbose && format != "" {
				return usageErrorf("system df: --verbose has a form of its own: leave out --format")
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			u, err := e.DiskUsage()
			if err != nil {
				return err
			}
			defer p.tellClosed(u.Closed)
			size := present.Size
			if exact {
				size = func(n int64) string { return fmt.Sprint(n) }
			}
			if verbose {
				return p.printUsage(u, size)
			}
			return present.Rows(p.text(), present.List{Format: format, Columns: partColumns}, partRows(u, size))
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "print each image and container too")
	cmd.Flags().BoolVar(&exact, "bytes", false, "print sizes in bytes")
	return cmd
}

// tellClosed says that there is more on the disk than was counted.
func (p *Program) tellClosed(dirs []string) {
	if len(dirs) == 0 {
		return
	}
	text := dirs[0]
	if len(dirs) > 1 {
		text += fmt.Sprintf(" and %d more", len(dirs)-1)
	}
	fmt.Fprintf(p.Err, "containr: not counted: what is in %s, which belongs to other users of your containers\n", text)
}

func partRows(u *engine.DiskUsage, size func(int64) string) []partRow {
	var rows []partRow
	total := engine.UsedPart{Type: "Total"}
	for _, part := range u.Parts {
		rows = append(rows, partRow{part.Type, fmt.Sprint(part.Total), fmt.Sprint(part.Active), size(part.Bytes), size(part.Reclaimable)})
		total.Bytes += part.Bytes
		total.Reclaimable += part.Reclaimable
	}
	return append(rows, partRow{total.Type, "", "", size(total.Bytes), size(total.Reclaimable)})
}

// usedImageRow and usedContainerRow are lines of `system df -v`.
type (
	usedImageRow     struct{ Repository, ID, Size, Shared, Unique, Containers string }
	usedContainerRow struct{ ID, Name, Image, Status, Size string }
)

func (p *Program) printUsage(u *engine.DiskUsage, size func(int64) string) error {
	var images []usedImageRow
	for _, i := range u.Images {
		name := "<none>"
		if i.Name != "" {
			name = familiar([]string{i.Name})[0]
		}
		images = append(images, usedImageRow{name, present.ID(i.ID.String(), false), size(i.Bytes), size(i.Shared), size(i.Bytes - i.Shared), fmt.Sprint(i.Containers)})
	}
	var containers []usedContainerRow
	for _, c := range u.Containers {
		containers = append(containers, usedContainerRow{present.ID(c.ID, false), c.Name, c.Image, string(c.Status), size(c.Bytes)})
	}
	if err := present.Rows(p.text(), present.List{Columns: partColumns}, partRows(u, size)); err != nil {
		return err
	}
	fmt.Fprintln(p.Out)
	err := present.Rows(p.text(), present.List{Columns: []present.Column{
		{Field: "Repository", Title: "IMAGE"}, {Field: "ID", Title: "IMAGE ID"}, {Field: "Size", Title: "SIZE"},
		{Field: "Shared", Title: "SHARED SIZE"}, {Field: "Unique", Title: "UNIQUE SIZE"}, {Field: "Containers", Title: "CONTAINERS"},
	}}, images)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.Out)
	err = present.Rows(p.text(), present.List{Columns: []present.Column{
		{Field: "ID", Title: "CONTAINER ID"}, {Field: "Name", Title: "NAME"}, {Field: "Image", Title: "IMAGE"},
		{Field: "Status", Title: "STATUS"}, {Field: "Size", Title: "SIZE"},
	}}, containers)
	if err != nil || len(u.Volumes) == 0 {
		return err
	}
	var volumes []volumeRow
	for _, v := range u.Volumes {
		row := rowOfVolume(v)
		row.Size = size(v.Bytes)
		volumes = append(volumes, row)
	}
	fmt.Fprintln(p.Out)
	return present.Rows(p.text(), present.List{Columns: []present.Column{
		{Field: "Name", Title: "VOLUME NAME"}, {Field: "Links", Title: "LINKS"}, {Field: "Size", Title: "SIZE"},
	}}, volumes)
}

// prunableVolumes says which volumes go: those without a name that the filters fit.
func prunableVolumes(filters []string) (func(volume.Volume) bool, error) {
	f, err := present.ParseFilters(filters, "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	until, err := f.Until("until", time.Now())
	return func(v volume.Volume) bool {
		return v.Anonymous && f.Labels("label", v.Labels) && f.NoLabels("label!", v.Labels) && (until.IsZero() || v.Created.Before(until))
	}, err
}

func (p *Program) systemPruneCommand() *cobra.Command {
	var all, force, volumes bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [FLAGS]",
		Short: "Remove all that nobody needs",
		Long: "Remove containers that do not run, networks that no container is in, images without a name of which no container\n" +
			"was made, unpacked layers without an image, what crashes have left, and the parts of layers that pulls were cut\n" +
			"off in. The network " + networks.Default + " stays.\n\n" +
			"Filters are until=TIME (made before), label=NAME[=VALUE] and label!=NAME[=VALUE].",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			req := engine.PruneRequest{}
			if req.Containers, err = prunableContainers(filters); err != nil {
				return err
			}
			if req.Networks, err = prunableNetworks(filters); err != nil {
				return err
			}
			if req.Images, _, err = prunable(cmd.Context(), e, filters, all); err != nil {
				return err
			}
			if volumes {
				if req.Volumes, err = prunableVolumes(filters); err != nil {
					return err
				}
			}
			what := "all containers that do not run, all networks that no container is in, and all images without a name"
			if all {
				what = "all containers that do not run, all networks that no container is in, and all images of which no container was made"
			}
			if volumes {
				what = "all volumes without a name that no container has, " + what
			}
			if err := p.confirm(cmd.Context(), "prune", what, force); err != nil {
				return err
			}
			pruned, err := e.Prune(cmd.Context(), req)
			if err != nil {
				return err
			}
			for _, c := range pruned.Containers {
				fmt.Fprintln(p.Out, "Deleted container:", c.ID)
			}
			for _, n := range pruned.Networks {
				fmt.Fprintln(p.Out, "Deleted network:", n.Name)
			}
			for _, v := range pruned.Volumes {
				fmt.Fprintln(p.Out, "Deleted volume:", v.Name)
			}
			if err := p.printRemoved(pruned.Images); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.Out, "Total reclaimed space: %s\n", present.Size(pruned.Freed))
			return err
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove images with a name too, if no container was made of them")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().BoolVar(&volumes, "volumes", false, "remove volumes without a name too, if no container has them")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "remove only what `KEY=VALUE` fits")
	return cmd
}

// prunableContainers makes a predicate of the filters of prune.
func prunableContainers(filters []string) (func(container.Record, container.State) bool, error) {
	f, err := present.ParseFilters(filters, "until", "label", "label!")
	if err != nil {
		return nil, err
	}
	until, err := f.Until("until", time.Now())
	return func(r container.Record, _ container.State) bool {
		return f.Labels("label", r.Config.Labels) && f.NoLabels("label!", r.Config.Labels) && (until.IsZero() || r.Created.Before(until))
	}, err
}

func (p *Program) systemCheckCommand() *cobra.Command {
	var req engine.CheckRequest
	var format string
	cmd := &cobra.Command{
		Use:   "check [FLAGS]",
		Short: "Check all that is on disk, and repair it",
		Long: "Read every blob and compare it with its digest, follow names to images, images and containers to their\n" +
			"layers, and look for what crashes have left. The status is 1 if there is a problem that was not repaired.\n" +
			"Of unpacked layers: whether they are complete and what they build on is there. The content of files in layers that\n" +
			"are directories is not compared with anything; of a layer that is one file (--snapshotter erofs) the superblock, the\n" +
			"size, directories, metadata and what small files and the ends of others hold are, but not the whole blocks of files.\n" +
			"Who doubts these removes the image and pulls or loads it again: what is unpacked comes from blobs that are compared.\n" +
			"Other commands go on meanwhile. If all is well it is said on a terminal what was looked at, and elsewhere nothing.",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			problems, err := e.Check(cmd.Context(), req)
			if err != nil {
				return err
			}
			if len(problems) == 0 && format == "" && tty.IsTerminal(p.Out) {
				return p.tellChecked(cmd.Context(), e)
			}
			return p.printProblems(problems, format)
		},
	}
	cmd.Flags().BoolVar(&req.Repair, "repair", false, "remove what is damaged or left over")
	cmd.Flags().StringVar(&format, "format", "", "print each problem as json or `TEMPLATE` (Go's)")
	return cmd
}

// tellChecked says that no problem was found, and in how much. It is for people: scripts read that nothing is printed.
func (p *Program) tellChecked(ctx context.Context, e *engine.Engine) error {
	images, err := e.Images()
	containers, containersErr := e.ContainerNames()
	volumes, volumesErr := e.Volumes(ctx, false)
	if err := errors.Join(err, containersErr, volumesErr); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Out, "No problem was found: images %d, containers %d, volumes %d, and the blobs and layers that they have.\n", len(images), len(containers), len(volumes))
	return err
}

// printProblems prints what a check has found, and fails for what is still so.
func (p *Program) printProblems(problems []engine.Problem, format string) error {
	left := 0
	for _, x := range problems {
		if !x.Repaired {
			left++
		}
		if format != "" {
			continue
		}
		fmt.Fprintf(p.Out, "%s: %s\n", present.CleanLine(x.Where), present.CleanLine(x.Text))
		switch {
		case x.Repaired:
			fmt.Fprintf(p.Out, "  done: %s\n", x.Remedy)
		case x.Remedy != "":
			fmt.Fprintf(p.Out, "  --repair would: %s\n", x.Remedy)
		}
	}
	if format != "" {
		if err := present.Rows(p.text(), present.List{Format: format}, problems); err != nil {
			return err
		}
	}
	if left > 0 {
		return &statusError{status: statusFailed, err: fmt.Errorf("%d of %d problems are left", left, len(problems))}
	}
	return nil
}
