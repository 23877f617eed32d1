package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/image"
)

// listFlags are those of commands that print a list.
type listFlags struct {
	quiet, full, digests bool
	format               string
}

func (p *Program) imagesCommand() *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:                   "images [FLAGS]",
		Short:                 "List images",
		GroupID:               groupImages,
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			listed, err := e.Images()
			if err != nil {
				return err
			}
			return p.printImages(listed, f)
		},
	}
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print ids alone")
	cmd.Flags().BoolVar(&f.full, "no-trunc", false, "print whole ids")
	cmd.Flags().BoolVar(&f.digests, "digests", false, "print the digest of what each name means")
	cmd.Flags().StringVar(&f.format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	return cmd
}

// imageRow is one line of `images`, and what a template may name: docker's names, and Platform.
type imageRow struct {
	Repository, Tag, ID, Digest, Platform string
	CreatedSince, CreatedAt, Size         string
}

func rows(listed []image.Listed, full bool) []imageRow {
	var out []imageRow
	for _, l := range listed {
		row := imageRow{Repository: "<none>", Tag: "<none>", Digest: l.Target.Digest.String(), CreatedSince: "-", CreatedAt: "-"}
		if ref, err := image.ParseReference(l.Name); err == nil {
			row.Repository = strings.TrimSuffix(ref.Familiar(), ":"+ref.Tag)
			if ref.Tag != "" {
				row.Tag = ref.Tag
			}
		}
		if len(l.Images) == 0 {
			row.ID = "<damaged>"
			out = append(out, row)
			continue
		}
		for _, img := range l.Images {
			r := row
			r.ID, r.Size, r.Platform = present.ID(img.ConfigDigest.Encoded(), full), present.Size(img.Size()), img.Platform().String()
			if img.Config.Created != nil {
				r.CreatedSince, r.CreatedAt = present.Since(*img.Config.Created, time.Now()), present.At(*img.Config.Created)
			}
			out = append(out, r)
		}
	}
	return out
}

func (p *Program) printImages(listed []image.Listed, f listFlags) error {
	images := rows(listed, f.full)
	switch {
	case f.quiet:
		for _, r := range images {
			if _, err := fmt.Fprintln(p.Out, r.ID); err != nil {
				return err
			}
		}
		return nil
	}
	l := present.List{Format: f.format, Columns: imageColumns}
	if f.digests {
		l.Columns = slices.Insert(slices.Clone(imageColumns), 2, present.Column{Field: "Digest", Title: "DIGEST"})
	}
	return present.Rows(p.Out, l, images)
}

var imageColumns = []present.Column{
	{Field: "Repository", Title: "REPOSITORY"}, {Field: "Tag", Title: "TAG"}, {Field: "ID", Title: "IMAGE ID"},
	{Field: "Platform", Title: "PLATFORM"}, {Field: "CreatedSince", Title: "CREATED"}, {Field: "Size", Title: "SIZE"},
}

func (p *Program) removeImageCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:                   "rmi [FLAGS] IMAGE...",
		Short:                 "Remove images",
		GroupID:               groupImages,
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			var failures []error
			for _, name := range args {
				removed, err := e.RemoveImage(cmd.Context(), engine.RemoveImageRequest{Name: name, Force: force})
				if err == nil {
					err = p.printRemoved(removed)
				}
				failures = append(failures, err)
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove it though it has several names or containers")
	return cmd
}

func (p *Program) printRemoved(r *image.Removed) error {
	for _, name := range r.Untagged {
		fmt.Fprintln(p.Out, "Untagged:", name)
	}
	for _, blob := range r.Deleted {
		if _, err := fmt.Fprintln(p.Out, "Deleted:", blob); err != nil {
			return err
		}
	}
	return nil
}

func (p *Program) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "image COMMAND",
		Short:   "Look at images, and what else is done with them",
		GroupID: groupImages,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0], namesOf(cmd.Commands()))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(p.imageInspectCommand(),
		within("ls", p.imagesCommand()), within("rm", p.removeImageCommand()), within("pull", p.pullCommand()), within("push", p.pushCommand()),
		within("load", p.loadCommand()), within("import", p.importCommand()), within("tag", p.tagCommand()))
	return cmd
}

// within makes a command of the first level one of `image`, where docker has it too.
func within(name string, cmd *cobra.Command) *cobra.Command {
	_, arguments, _ := strings.Cut(cmd.Use, " ")
	cmd.Use, cmd.GroupID = name+" "+arguments, ""
	return cmd
}

// inspected is what `image inspect` prints: the names of docker's output for what
// both have.
type inspected struct {
	ID           string `json:"Id"`
	Name         string
	Digest       string
	MediaType    string
	Created      *time.Time `json:",omitempty"`
	Author       string     `json:",omitempty"`
	Os           string
	Architecture string
	Variant      string `json:",omitempty"`
	Size         int64
	Config       v1.ImageConfig
	RootFS       v1.RootFS
	Layers       []v1.Descriptor
	History      []v1.History      `json:",omitempty"`
	Annotations  map[string]string `json:",omitempty"`
}

func inspect(img *image.Image) inspected {
	c := img.Config
	out := inspected{
		ID: img.ConfigDigest.String(), Name: img.Name, Digest: img.Target.Digest.String(), MediaType: img.Target.MediaType,
		Created: c.Created, Author: c.Author, Os: c.OS, Architecture: c.Architecture, Variant: c.Variant,
		Size: img.Size(), Config: c.Config, RootFS: c.RootFS, History: c.History, Annotations: img.Manifest.Annotations,
	}
	for _, l := range img.Layers {
		out.Layers = append(out.Layers, l.Descriptor)
	}
	return out
}

func (p *Program) imageInspectCommand() *cobra.Command {
	var req engine.InspectRequest
	var format string
	cmd := &cobra.Command{
		Use:                   "inspect [FLAGS] IMAGE...",
		Short:                 "Print what is known about images",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			found := []inspected{}
			var failures []error
			for _, name := range args {
				req.Name = name
				img, err := e.InspectImage(req)
				if err != nil {
					failures = append(failures, err)
					continue
				}
				found = append(found, inspect(img))
			}
			failures = append(failures, present.Documents(p.Out, format, found))
			return errors.Join(failures...)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "print each as `TEMPLATE` (Go's), or json")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "the image for `OS/ARCH[/VARIANT]`")
	return cmd
}

func (p *Program) loadCommand() *cobra.Command {
	var req engine.LoadRequest
	cmd := &cobra.Command{
		Use:     "load [FLAGS]",
		Short:   "Take in images from an archive or a directory",
		GroupID: groupImages,
		Long: "Take in images from an OCI layout (a directory, or a tar archive of one) or from what\n" +
			"docker save writes. Without --input the archive is read from standard input.",
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
			req.In = p.In
			listed, err := e.Load(cmd.Context(), req)
			if errors.Is(err, image.ErrInvalid) {
				return &statusError{statusFailed, &usageError{text: err.Error(), hint: "`containr import` makes an image of a root file system", err: err}}
			}
			if err != nil {
				return err
			}
			for _, l := range listed {
				if err := p.printLoaded(l); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&req.Path, "input", "i", "", "read `PATH`")
	cmd.Flags().StringVar(&req.Name, "name", "", "call an image without a name `NAME`")
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
		Use:     "import [FLAGS] PATH|- [NAME]",
		Short:   "Make an image of a root file system",
		GroupID: groupImages,
		Long: "Make an image of one layer of a root file system: a tar archive, which may be compressed,\n" +
			"a directory, or - for an archive on standard input.",
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
				req.Path, req.In = "", p.In
			}
			if len(args) == 2 {
				req.Name = args[1]
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			img, err := e.Import(cmd.Context(), req)
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

func (p *Program) tagCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "tag IMAGE NAME",
		Short:   "Give an image a further name",
		GroupID: groupImages,
		Args:    exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			return e.Tag(cmd.Context(), engine.TagRequest{Source: args[0], Target: args[1]})
		},
	}
}
