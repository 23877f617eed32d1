package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/image"
)

// inspected is what `image inspect` prints: the names of docker's output for what
// both have.
type inspected struct {
	ID           string `json:"Id"`
	Name         string
	RepoTags     []string
	RepoDigests  []string
	Digest       string
	MediaType    string
	Created      *time.Time `json:",omitempty"`
	Author       string     `json:",omitempty"`
	Os           string
	Architecture string
	Variant      string `json:",omitempty"`
	Size         int64
	Config       v1.ImageConfig
	RootFS       rootFS
	Layers       []v1.Descriptor
	History      []v1.History      `json:",omitempty"`
	Annotations  map[string]string `json:",omitempty"`
}

// rootFS lists the layers by the digests of what is in them, in docker's form.
type rootFS struct {
	Type   string
	Layers []digest.Digest
}

func inspect(img *image.Image, names []string) inspected {
	c := img.Config
	out := inspected{
		ID: img.ConfigDigest.String(), Name: img.Name, Digest: img.Target.Digest.String(), MediaType: img.Target.MediaType,
		Created: c.Created, Author: c.Author, Os: c.OS, Architecture: c.Architecture, Variant: c.Variant,
		Size: img.Size(), Config: c.Config, RootFS: rootFS{"layers", c.RootFS.DiffIDs}, History: c.History, Annotations: img.Manifest.Annotations,
		RepoTags: []string{}, RepoDigests: []string{},
	}
	for _, l := range img.Layers {
		out.Layers = append(out.Layers, l.Descriptor)
	}
	for _, name := range names {
		if ref, err := image.ParseReference(name); err == nil {
			if ref.Digest == "" {
				out.RepoTags = append(out.RepoTags, ref.Familiar())
			}
			ref.Digest = img.Target.Digest
			if byDigest := ref.Familiar(); !slices.Contains(out.RepoDigests, byDigest) {
				out.RepoDigests = append(out.RepoDigests, byDigest)
			}
		}
	}
	return out
}

func (p *Program) imageInspectCommand() *cobra.Command {
	var req engine.InspectRequest
	var format string
	documents := map[engine.DocumentKind]*bool{engine.TargetDocument: new(bool), engine.ManifestDocument: new(bool), engine.ConfigDocument: new(bool)}
	cmd := &cobra.Command{
		Use:   "inspect [FLAGS] IMAGE...",
		Short: "Print what is known about images",
		Long: "Print what is known about images, in docker's words; or a document of an image byte by byte, so that\n" +
			"its digest can be checked: --raw prints what the name means, an index if there are several platforms.",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := exclusive(cmd, "format", "raw", "manifest", "config"); err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			for kind, wanted := range documents {
				if *wanted {
					return p.printDocuments(cmd.Context(), e, engine.DocumentRequest{InspectRequest: req, Kind: kind}, args)
				}
			}
			return p.inspectImages(cmd.Context(), e, req, args, format)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print each as `TEMPLATE` (Go's), or json")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "the image for `OS/ARCH[/VARIANT]`")
	cmd.Flags().BoolVar(documents[engine.TargetDocument], "raw", false, "print the index or manifest as it is stored")
	cmd.Flags().BoolVar(documents[engine.ManifestDocument], "manifest", false, "print the platform's manifest as it is stored")
	cmd.Flags().BoolVar(documents[engine.ConfigDocument], "config", false, "print the configuration as it is stored")
	return cmd
}

// printDocuments prints a document of each image, and nothing else.
func (p *Program) printDocuments(ctx context.Context, e *engine.Engine, r engine.DocumentRequest, names []string) error {
	for _, name := range names {
		r.Name = name
		data, err := e.ImageDocument(ctx, r)
		if err != nil {
			return err
		}
		if _, err := p.Out.Write(data); err != nil {
			return err
		}
	}
	return nil
}

// inspectImages prints those that are there, and then fails for the others.
func (p *Program) inspectImages(ctx context.Context, e *engine.Engine, req engine.InspectRequest, names []string, format string) error {
	found := []inspected{}
	var failures []error
	for _, name := range names {
		req.Name = name
		img, err := e.InspectImage(ctx, req)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		imageNames, err := e.NamesOfImage(img)
		if err != nil {
			return err
		}
		found = append(found, inspect(img, imageNames))
	}
	failures = append(failures, present.Documents(p.text(), format, found))
	return errors.Join(failures...)
}

// namesOfImage lists the names by which an image is known.
func namesOfImage(listed []image.Listed, img *image.Image) []string {
	var names []string
	for _, l := range listed {
		if l.Name != "" && l.Target.Digest == img.Target.Digest {
			names = append(names, l.Name)
		}
	}
	return names
}

// historyRow is a line of `history`, and what a template may name: docker's names.
type historyRow struct {
	ID, CreatedSince, CreatedAt, CreatedBy, Size, Comment string
}

var historyColumns = []present.Column{
	{Field: "ID", Title: "IMAGE"}, {Field: "CreatedSince", Title: "CREATED"}, {Field: "CreatedBy", Title: "CREATED BY"},
	{Field: "Size", Title: "SIZE"}, {Field: "Comment", Title: "COMMENT"},
}

func (p *Program) historyCommand() *cobra.Command {
	var req engine.InspectRequest
	var format string
	var full, quiet, human bool
	cmd := &cobra.Command{
		Use:     "history [FLAGS] IMAGE",
		Short:   "Print how an image came about",
		GroupID: groupImages,
		Long: "Print how an image came about, the last step first. SIZE is what the step's layer takes in the store,\n" +
			"compressed as it came. Only the last step has an id: the others are no images here.",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Name = args[0]
			img, err := e.InspectImage(cmd.Context(), req)
			if err != nil {
				return err
			}
			rows := historyRows(img, full, human)
			if quiet {
				format = "{{.ID}}"
			}
			return present.Rows(p.text(), present.List{Format: format, Columns: historyColumns, Titles: []present.Column{{Field: "CreatedAt", Title: "CREATED AT"}}}, rows)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	cmd.Flags().BoolVarP(&human, "human", "H", true, "print sizes and times for people")
	cmd.Flags().BoolVar(&full, "no-trunc", false, "print whole ids and commands")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids alone")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "the image for `OS/ARCH[/VARIANT]`")
	return cmd
}

// historyRows pairs the steps of an image with its layers, from the top.
func historyRows(img *image.Image, full, human bool) []historyRow {
	history := img.Config.History
	if len(history) == 0 { // nobody wrote it down: the layers are all that is known
		for range img.Layers {
			history = append(history, v1.History{Created: img.Config.Created})
		}
	}
	layers := img.Layers
	var rows []historyRow
	for _, h := range history {
		row := historyRow{ID: "<missing>", CreatedSince: "-", CreatedAt: "-", CreatedBy: h.CreatedBy, Comment: h.Comment}
		var size int64
		if !h.EmptyLayer && len(layers) > 0 {
			size, layers = layers[0].Descriptor.Size, layers[1:]
		}
		row.Size = fmt.Sprint(size)
		if human {
			row.Size = present.Size(size)
		}
		if h.Created != nil {
			row.CreatedSince, row.CreatedAt = present.Since(*h.Created, time.Now()), h.Created.Format(time.RFC3339)
			if !human {
				row.CreatedSince = row.CreatedAt
			}
		}
		if !full {
			const width = 45 // docker's
			row.CreatedBy = present.Ellipsis(strings.Join(strings.Fields(row.CreatedBy), " "), width)
		}
		rows = append([]historyRow{row}, rows...)
	}
	if len(rows) > 0 {
		rows[0].ID = present.ID(img.ConfigDigest.String(), full)
	}
	return rows
}

func (p *Program) imageTreeCommand() *cobra.Command {
	var req engine.InspectRequest
	cmd := &cobra.Command{
		Use:                   "tree [FLAGS] IMAGE",
		Short:                 "Print the layers of an image, who shares them, and what refers to it",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Name = args[0]
			img, err := e.InspectImage(cmd.Context(), req)
			if err != nil {
				return err
			}
			listed, err := e.Images()
			if err != nil {
				return err
			}
			referrers, err := e.Referrers(cmd.Context(), engine.ReferrersRequest{Name: args[0], Here: true})
			if err != nil {
				return err
			}
			if err := p.printLayers(img, listed); err != nil {
				return err
			}
			for _, d := range referrers {
				if _, err := fmt.Fprintf(p.text(), "Referred to by %s, %s\n", present.ID(d.Digest.String(), false), d.ArtifactType); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&req.Platform, "platform", "", "the image for `OS/ARCH[/VARIANT]`")
	return cmd
}

// printLayers prints the layers from the bottom up. That of which another image is made too is shared.
func (p *Program) printLayers(img *image.Image, listed []image.Listed) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Image:    %s\n", img.ConfigDigest)
	fmt.Fprintf(&b, "Names:    %s\n", strings.Join(familiar(namesOfImage(listed, img)), " "))
	fmt.Fprintf(&b, "Platform: %s\nSize:     %s\n", img.Platform(), present.Size(img.Size()))
	for n, l := range img.Layers {
		branch := "├─"
		if n == len(img.Layers)-1 {
			branch = "└─"
		}
		fmt.Fprintf(&b, "%s %s %s", branch, present.ID(l.DiffID.String(), false), present.Size(l.Descriptor.Size))
		if others := sharers(listed, img, n); len(others) > 0 {
			fmt.Fprintf(&b, " shared with %s", strings.Join(others, " "))
		}
		b.WriteString("\n")
	}
	_, err := p.Out.WriteString(b.String())
	return err
}

// sharers lists the other images whose first layers are the same up to and with layer n.
func sharers(listed []image.Listed, img *image.Image, n int) []string {
	var others []string
	for _, l := range listed {
		for _, other := range l.Images {
			if other.ConfigDigest == img.ConfigDigest || len(other.Layers) <= n {
				continue
			}
			same := true
			for i := range n + 1 {
				same = same && other.Layers[i].DiffID == img.Layers[i].DiffID
			}
			if !same {
				continue
			}
			name := present.ID(other.ConfigDigest.String(), false)
			if l.Name != "" {
				name = familiar([]string{l.Name})[0]
			}
			others = append(others, name)
		}
	}
	return others
}

// familiar shortens names as people write them.
func familiar(names []string) []string {
	var out []string
	for _, name := range names {
		if ref, err := image.ParseReference(name); err == nil {
			name = ref.Familiar()
		}
		out = append(out, name)
	}
	return out
}
