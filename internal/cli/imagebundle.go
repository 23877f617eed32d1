package cli

import (
	"fmt"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/containr/containr/pkg/engine"
)

func (p *Program) imagePackCommand() *cobra.Command {
	var req engine.ImportRequest
	var changes []string
	cmd := &cobra.Command{
		Use:   "pack [FLAGS] DIR NAME",
		Short: "Make an image of a directory",
		Long: "Make an image of one layer of a directory that holds a root file system. If SOURCE_DATE_EPOCH is set in the\n" +
			"environment, no time in the image is later, and the same directory makes the same image.",
		Args:                  exactArgs(2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, c := range changes {
				if err := applyChange(&req.Config, c); err != nil {
					return usageErrorf("pack: --change: %v", err)
				}
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Path, req.Name = args[0], args[1]
			img, err := e.Import(cmd.Context(), req)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.Out, img.ConfigDigest)
			return err
		},
	}
	cmd.Flags().StringArrayVarP(&changes, "change", "c", nil, "set how to run it by an `INSTRUCTION` of a Dockerfile")
	cmd.Flags().StringVarP(&req.Comment, "message", "m", "", "note `TEXT` in the image's history")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "its programs are for `OS/ARCH[/VARIANT]`")
	return cmd
}

func (p *Program) imageUnpackCommand() *cobra.Command {
	var req engine.UnpackRequest
	cmd := &cobra.Command{
		Use:   "unpack [FLAGS] IMAGE DIR",
		Short: "Unpack an image to a directory, as a bundle for OCI runtimes",
		Long: "Unpack an image to a directory: rootfs, and config.json with which containr-runtime and others run it. What is\n" +
			"changed in rootfs becomes a layer with `containr image repack`.",
		Args:                  exactArgs(2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Name, req.Dir = args[0], args[1]
			return e.UnpackImage(cmd.Context(), req)
		},
	}
	cmd.Flags().StringVar(&req.Platform, "platform", "", "the image for `OS/ARCH[/VARIANT]`")
	return cmd
}

func (p *Program) imageRepackCommand() *cobra.Command {
	var req engine.RepackRequest
	cmd := &cobra.Command{
		Use:   "repack [FLAGS] DIR NAME",
		Short: "Make an image of what became of an unpacked one",
		Long: "Make an image of a directory that `containr image unpack` made: its layers, and one more with what was\n" +
			"changed in rootfs since.",
		Args:                  exactArgs(2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Dir, req.Name = args[0], args[1]
			img, err := e.RepackImage(cmd.Context(), req)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.Out, img.ConfigDigest)
			return err
		},
	}
	cmd.Flags().StringVarP(&req.Comment, "message", "m", "", "note `TEXT` in the image's history")
	return cmd
}

func (p *Program) imageConfigCommand() *cobra.Command {
	var req engine.ConfigureRequest
	var changes []string
	cmd := &cobra.Command{
		Use:   "config [FLAGS] IMAGE [NAME]",
		Short: "Change how an image is run",
		Long: "Make an image with the same layers that is run in another way. Without NAME the new image takes the name\n" +
			"of the old one.",
		Args:                  rangeArgs(1, 2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(changes) == 0 {
				return &usageError{text: "config: there is nothing to change", hint: "say what with --change, such as 'ENV A=1'"}
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Name = args[0]
			if len(args) == 2 {
				req.Target = args[1]
			}
			req.Change = func(c *v1.ImageConfig) error {
				for _, line := range changes {
					if err := applyChange(c, line); err != nil {
						return usageErrorf("config: --change: %v", err)
					}
				}
				return nil
			}
			img, err := e.ConfigureImage(cmd.Context(), req)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.Out, img.ConfigDigest)
			return err
		},
	}
	cmd.Flags().StringArrayVarP(&changes, "change", "c", nil, "change it by an `INSTRUCTION` of a Dockerfile, such as 'ENV A=1'")
	cmd.Flags().StringVarP(&req.Comment, "message", "m", "", "note `TEXT` in the image's history")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "the image for `OS/ARCH[/VARIANT]`")
	return cmd
}
