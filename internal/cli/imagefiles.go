package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/image"
)

func (p *Program) loadCommand() *cobra.Command {
	var req engine.LoadRequest
	var quiet bool
	cmd := &cobra.Command{
		Use:     "load [FLAGS]",
		Short:   "Take in images from an archive or a directory",
		GroupID: groupImages,
		Long: "Take in images from an OCI layout (a directory, or a tar archive of one) or from what\n" +
			"docker save writes, compressed by gzip, zstd, xz or bzip2 or not. Without --input the archive is read\n" +
			"from standard input.",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.Path == "" && tty.IsTerminal(p.In) {
				return &usageError{text: "load: standard input is a terminal, not an archive", hint: "name a file with --input"}
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			if req.Path == "" {
				req.In = p.input(cmd.Context())
			}
			listed, err := e.Load(cmd.Context(), req)
			if errors.Is(err, image.ErrInvalid) {
				return &statusError{statusFailed, &usageError{text: err.Error(), hint: "`containr import` makes an image of a root file system", err: err}}
			}
			if err != nil {
				return err
			}
			for _, l := range listed {
				if quiet {
					break
				}
				if err := p.printLoaded(l); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&req.Path, "input", "i", "", "read `PATH`")
	cmd.Flags().StringVar(&req.Name, "name", "", "call an image without a name `NAME`")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "take in what is for `OS/ARCH[/VARIANT]` alone")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not print what was loaded")
	return cmd
}

func (p *Program) printLoaded(l image.Listed) error {
	if l.Name != "" {
		_, err := fmt.Fprintln(p.Out, "Loaded image:", l.Name)
		return err
	}
	_, err := fmt.Fprintln(p.Out, "Loaded image ID:", l.Target.Digest)
	return err
}

func (p *Program) importCommand() *cobra.Command {
	var req engine.ImportRequest
	var changes []string
	cmd := &cobra.Command{
		Use:     "import [FLAGS] PATH|URL|- [NAME]",
		Short:   "Make an image of a root file system",
		GroupID: groupImages,
		Long: "Make an image of one layer of a root file system: a tar archive, which may be compressed\n" +
			"(gzip, zstd, xz, bzip2), its URL, a directory, or - for an archive on standard input.",
		Args:                  rangeArgs(1, 2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, c := range changes {
				if err := applyChange(&req.Config, c); err != nil {
					return usageErrorf("import: --change: %v", err)
				}
			}
			req.Path, req.In = args[0], nil
			if args[0] == "-" {
				if tty.IsTerminal(p.In) {
					return &usageError{text: "import: standard input is a terminal, not an archive", hint: "name a file"}
				}
				req.Path, req.In = "", p.input(cmd.Context())
			}
			if len(args) == 2 {
				req.Name = args[1]
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			img, err := e.Import(cmd.Context(), req)
			if errors.Is(err, image.ErrInvalid) {
				text := fmt.Sprintf("import: %s: %s", args[0], strings.TrimPrefix(err.Error(), "import: "))
				return &statusError{statusFailed, &usageError{text: text, hint: "`tar -tvf FILE` lists what is in an archive", err: err}}
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.Out, img.ConfigDigest)
			return err
		},
	}
	cmd.Flags().StringArrayVarP(&changes, "change", "c", nil, "set how to run it by an `INSTRUCTION` of a Dockerfile, such as 'CMD [\"sh\"]'")
	cmd.Flags().StringVarP(&req.Comment, "message", "m", "", "note `TEXT` in the image's history")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "its programs are for `OS/ARCH[/VARIANT]`")
	return cmd
}

func (p *Program) saveCommand() *cobra.Command {
	var req engine.SaveRequest
	var output, format string
	cmd := &cobra.Command{
		Use:     "save [FLAGS] IMAGE...",
		Short:   "Write images to an archive or a directory",
		GroupID: groupImages,
		Long: "Write images, with all of their platforms that are here, to standard output or a file. What docker-archive\n" +
			"writes is an OCI layout with docker's table of contents in addition: docker, podman, skopeo and umoci read it.\n" +
			"oci-archive is the layout alone, and oci-dir the same in a directory, to which images are added.",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Names, req.Format = args, image.Format(format)
			switch req.Format {
			case image.DockerArchive, image.OCIArchive:
			case image.OCIDirectory:
				if output == "" {
					return &usageError{text: "save: --format oci-dir needs a directory", hint: "name it with --output"}
				}
			default:
				return usageErrorf("save: --format %s: use docker-archive, oci-archive or oci-dir", format)
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			if req.Format == image.OCIDirectory {
				req.Dir = output
				return e.Save(cmd.Context(), req)
			}
			return p.writeTo("save", output, func(w io.Writer) error {
				req.Out = w
				return e.Save(cmd.Context(), req)
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `PATH`")
	cmd.Flags().StringVar(&format, "format", string(image.DockerArchive), "write as `FORMAT`: docker-archive, oci-archive or oci-dir")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "write the content for `OS/ARCH[/VARIANT]` alone")
	return cmd
}

// writeTo lets write fill a file, or standard output if path is empty or "-", as engine.WriteFile does.
func (p *Program) writeTo(verb, path string, write func(io.Writer) error) error {
	if path == "" || path == "-" {
		if tty.IsTerminal(p.Out) {
			return &usageError{text: verb + ": standard output is a terminal, which cannot show an archive", hint: "name a file with --output, or redirect the output"}
		}
		return write(p.Out)
	}
	const mode = 0o600 // an image may hold secrets
	return engine.WriteFile(path, mode, write)
}

func (p *Program) imageExportCommand() *cobra.Command {
	var req engine.ExportImageRequest
	var output string
	cmd := &cobra.Command{
		Use:                   "export [FLAGS] IMAGE",
		Short:                 "Write the root file system of an image as a tar archive",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Name = args[0]
			return p.writeTo("export", output, func(w io.Writer) error {
				req.Out = w
				return e.ExportImage(cmd.Context(), req)
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `PATH`")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "the image for `OS/ARCH[/VARIANT]`")
	return cmd
}

func (p *Program) imageDiffCommand() *cobra.Command {
	var req engine.DiffImagesRequest
	var platform string
	cmd := &cobra.Command{
		Use:   "diff [FLAGS] BEFORE AFTER",
		Short: "Print in what files two images differ",
		Long: "Print in what files two images differ, by their content, not by their layers: A for what only AFTER has,\n" +
			"C for what is another, D for what only BEFORE has.",
		Args:                  exactArgs(2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Before = engine.InspectRequest{Name: args[0], Platform: platform}
			req.After = engine.InspectRequest{Name: args[1], Platform: platform}
			changes, err := e.DiffImages(cmd.Context(), req)
			if err != nil {
				return err
			}
			for _, c := range changes {
				if _, err := fmt.Fprintln(p.Out, c.Kind, present.CleanLine(c.Path)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&platform, "platform", "", "the images for `OS/ARCH[/VARIANT]`")
	return cmd
}
