package cli

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/image"
)

// listFlags are those of `images`.
type listFlags struct {
	quiet, full, digests, all, tree bool
	format                          string
	filters                         []string
}

func (p *Program) imagesCommand() *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:     "images [FLAGS] [REPOSITORY[:TAG]]",
		Short:   "List images",
		GroupID: groupImages,
		Long: "List images: a line for each name and platform.\n\n" +
			"Filters are dangling=true|false (without a name), label=NAME[=VALUE], before=IMAGE, since=IMAGE, until=TIME\n" +
			"and reference=PATTERN. A REPOSITORY is short for a filter reference.",
		Args:                  rangeArgs(0, 1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.filters = append(f.filters, "reference="+args[0])
			}
			if f.tree && (f.quiet || f.format != "") {
				return usageErrorf("images: --tree has a form of its own: leave out --quiet and --format")
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			listed, err := listImages(cmd.Context(), e, f.filters, f.all)
			if err != nil {
				return err
			}
			return p.printImages(listed, f)
		},
	}
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "list what is no container image too, such as signatures")
	cmd.Flags().StringArrayVarP(&f.filters, "filter", "f", nil, "list only what `KEY=VALUE` fits")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print ids alone")
	cmd.Flags().BoolVar(&f.full, "no-trunc", false, "print whole ids")
	cmd.Flags().BoolVar(&f.digests, "digests", false, "print the digest of what each name means")
	cmd.Flags().BoolVar(&f.tree, "tree", false, "print each name with the platforms of its image below it")
	cmd.Flags().StringVar(&f.format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	return cmd
}

// listImages lists the images that filters let pass.
func listImages(ctx context.Context, e *engine.Engine, filters []string, all bool) ([]image.Listed, error) {
	pass, err := imageFilter(ctx, e, filters, "dangling", "label", "before", "since", "until", "reference")
	if err != nil {
		return nil, err
	}
	listed, err := e.Images()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(listed, func(l image.Listed) bool {
		return !pass(l) || !all && errors.Is(l.Err, image.ErrArtifact)
	}), nil
}

// imageFilter makes a predicate of the values of --filter.
func imageFilter(ctx context.Context, e *engine.Engine, values []string, known ...string) (func(image.Listed) bool, error) {
	f, err := present.ParseFilters(values, known...)
	if err != nil {
		return nil, err
	}
	dangling, danglingGiven, err := f.Bool("dangling")
	if err != nil {
		return nil, err
	}
	after, before, err := bounds(ctx, e, f)
	if err != nil {
		return nil, err
	}
	for _, pattern := range f["reference"] {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, usageErrorf("--filter reference=%s: %v", pattern, err)
		}
	}
	return func(l image.Listed) bool {
		switch {
		case danglingGiven && dangling != (l.Name == ""):
			return false
		case !f.Any("reference", func(pattern string) bool { return matchReference(pattern, l.Name) }):
			return false
		case len(f["label"]) == 0 && len(f["label!"]) == 0 && after.IsZero() && before.IsZero():
			return true
		}
		return slices.ContainsFunc(l.Images, func(i *image.Image) bool {
			labels, made := i.Config.Config.Labels, createdAt(i)
			return f.Labels("label", labels) && f.NoLabels("label!", labels) &&
				(after.IsZero() || made.After(after)) && (before.IsZero() || made.Before(before))
		})
	}, nil
}

// bounds are the times between which images were made that the filters before, since and until let pass.
func bounds(ctx context.Context, e *engine.Engine, f present.Filters) (after, before time.Time, err error) {
	if before, err = f.Until("until", time.Now()); err != nil {
		return after, before, err
	}
	for _, name := range f["since"] {
		img, err := e.InspectImage(ctx, engine.InspectRequest{Name: name})
		if err != nil {
			return after, before, fmt.Errorf("--filter since=%s: %w", name, err)
		}
		if t := createdAt(img); t.After(after) {
			after = t
		}
	}
	for _, name := range f["before"] {
		img, err := e.InspectImage(ctx, engine.InspectRequest{Name: name})
		if err != nil {
			return after, before, fmt.Errorf("--filter before=%s: %w", name, err)
		}
		if t := createdAt(img); before.IsZero() || t.Before(before) {
			before = t
		}
	}
	return after, before, nil
}

// createdAt is when an image says that it was made; 1970 if it does not say.
func createdAt(i *image.Image) time.Time {
	if i.Config.Created == nil {
		return time.Unix(0, 0)
	}
	return *i.Config.Created
}

// matchReference compares a name with a pattern, with and without its registry and its tag.
func matchReference(pattern, name string) bool {
	ref, err := image.ParseReference(name)
	if err != nil {
		return pattern == name && name != ""
	}
	familiar := ref.Familiar()
	repository := strings.TrimSuffix(familiar, ":"+ref.Tag)
	for _, candidate := range []string{familiar, repository, ref.String(), ref.Name()} {
		if ok, err := path.Match(pattern, candidate); err == nil && ok {
			return true
		}
	}
	return false
}

// imageRow is one line of `images`, and what a template may name: docker's names, and Platform.
type imageRow struct {
	Repository, Tag, ID, Digest, Platform string
	CreatedSince, CreatedAt, Size         string
}

var imageColumns = []present.Column{
	{Field: "Repository", Title: "REPOSITORY"}, {Field: "Tag", Title: "TAG"}, {Field: "ID", Title: "IMAGE ID"},
	{Field: "Platform", Title: "PLATFORM"}, {Field: "CreatedSince", Title: "CREATED"}, {Field: "Size", Title: "SIZE"},
}

var imageTitles = []present.Column{{Field: "CreatedAt", Title: "CREATED AT"}}

func rows(listed []image.Listed, full bool) []imageRow {
	var out []imageRow
	for _, l := range listed {
		row := imageRow{Repository: "<none>", Tag: "<none>", Digest: l.Target.Digest.String(), CreatedSince: "-", CreatedAt: "-", Size: "-"}
		if ref, err := image.ParseReference(l.Name); err == nil {
			row.Repository = strings.TrimSuffix(strings.TrimSuffix(ref.Familiar(), ":"+ref.Tag), "@"+ref.Digest.String())
			if ref.Tag != "" {
				row.Tag = ref.Tag
			}
		}
		if len(l.Images) == 0 {
			row.ID = whyNoImage(l.Err)
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

func whyNoImage(err error) string {
	if errors.Is(err, image.ErrArtifact) {
		return "<artifact>"
	}
	return "<damaged>"
}

func (p *Program) printImages(listed []image.Listed, f listFlags) error {
	switch {
	case f.tree:
		return p.printTree(listed, f.full)
	case f.quiet:
		for _, r := range rows(listed, f.full) {
			if _, err := fmt.Fprintln(p.Out, r.ID); err != nil {
				return err
			}
		}
		return nil
	}
	l := present.List{Format: f.format, Columns: imageColumns, Titles: imageTitles}
	if f.digests {
		l.Columns = slices.Insert(slices.Clone(imageColumns), 2, present.Column{Field: "Digest", Title: "DIGEST"})
	}
	return present.Rows(p.text(), l, rows(listed, f.full))
}

// treeRow is a line of `images --tree`.
type treeRow struct{ Image, ID, Size string }

// printTree prints the names, and the platforms of each below it.
func (p *Program) printTree(listed []image.Listed, full bool) error {
	var out []treeRow
	for _, l := range listed {
		name := "<none>"
		if ref, err := image.ParseReference(l.Name); err == nil {
			name = ref.Familiar()
		}
		var size int64
		for _, img := range l.Images {
			size += img.Size()
		}
		out = append(out, treeRow{name, present.ID(l.Target.Digest.String(), full), present.Size(size)})
		if len(l.Images) == 0 {
			out[len(out)-1].Size = whyNoImage(l.Err)
		}
		for n, img := range l.Images {
			branch := "├─ "
			if n == len(l.Images)-1 {
				branch = "└─ "
			}
			out = append(out, treeRow{branch + img.Platform().String(), present.ID(img.ConfigDigest.String(), full), present.Size(img.Size())})
		}
	}
	return present.Rows(p.text(), present.List{Columns: []present.Column{{Field: "Image", Title: "IMAGE"}, {Field: "ID", Title: "ID"}, {Field: "Size", Title: "SIZE"}}}, out)
}
