package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
)

// mountRow is a line of `image mount`, and what a template may name.
type mountRow struct{ ID, Repository, Path, State string }

func (p *Program) imageMountCommand() *cobra.Command {
	var req engine.InspectRequest
	var format string
	cmd := &cobra.Command{
		Use:   "mount [FLAGS] [IMAGE...]",
		Short: "Mount the trees of images on the host, read only",
		Long: "Mount the trees of images on the host, read only, and print where. Without IMAGE, list what is mounted.\n" +
			"It stays mounted until `containr image umount`, or until the machine is restarted, and its image in the store.",
		Args:                  rangeArgs(0, -1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return p.listMounts(e, format)
			}
			for _, name := range args {
				req.Name = name
				m, err := e.MountImage(cmd.Context(), req)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintln(p.Out, m.Dir); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&req.Platform, "platform", "", "the image for `OS/ARCH[/VARIANT]`")
	cmd.Flags().StringVar(&format, "format", "", "print the list as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	return cmd
}

func (p *Program) listMounts(e *engine.Engine, format string) error {
	mounted, err := e.MountedImages()
	if err != nil {
		return err
	}
	rows := []mountRow{}
	for _, m := range mounted {
		row := mountRow{ID: present.ID(m.ID.String(), false), Repository: "<none>", Path: m.Dir, State: "mounted"}
		if m.Name != "" {
			row.Repository = familiar([]string{m.Name})[0]
		}
		if !m.Mounted {
			row.State = "gone"
		}
		rows = append(rows, row)
	}
	return present.Rows(p.text(), present.List{Format: format, Columns: []present.Column{
		{Field: "ID", Title: "IMAGE ID"}, {Field: "Repository", Title: "REPOSITORY"}, {Field: "State", Title: "STATE"}, {Field: "Path", Title: "PATH"},
	}}, rows)
}

func (p *Program) imageUmountCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "umount [FLAGS] [IMAGE...]",
		Aliases: []string{"unmount"},
		Short:   "Take away the mounts of images",
		Long: "Take away the mounts of images, also those of which the mount itself is gone already.\n" +
			"A tree in which somebody's working directory or open file is stays.",
		Args:                  rangeArgs(0, -1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usageErrorf("image umount: name images, or all with --all")
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			var gone []engine.MountedImage
			if all {
				gone, err = e.UnmountImages(cmd.Context())
			}
			for _, name := range args {
				var m engine.MountedImage
				if m, err = e.UnmountImage(cmd.Context(), name); err != nil {
					break
				}
				gone = append(gone, m)
			}
			for _, m := range gone {
				fmt.Fprintln(p.Out, m.ID)
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "take away all mounts of images")
	return cmd
}
