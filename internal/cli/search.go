package cli

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/registry"
)

// searchFlags are the flags of `search`.
type searchFlags struct {
	access   engine.RegistryAccess
	limit    int
	filters  []string
	format   string
	full     bool
	listTags bool
}

func (p *Program) searchCommand() *cobra.Command {
	var f searchFlags
	cmd := &cobra.Command{
		Use:     "search [FLAGS] [REGISTRY/]TERM",
		Short:   "Look for images in a registry",
		GroupID: groupImages,
		Long: "Look for images on Docker Hub, or in the registry that is named before the term.\n\n" +
			"A registry that offers no search is asked for the list of its repositories, and those with\n" +
			"TERM in their name are printed; after REGISTRY/ it may be empty. With --list-tags the\n" +
			"argument is a repository, and its tags are printed.",
		Example:               "  containr search --limit 5 debian\n  containr search registry.example/app\n  containr search --list-tags registry.example/team/app",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &f.access)
	cmd.Flags().IntVar(&f.limit, "limit", 25, "print at most `N` lines")
	cmd.Flags().StringArrayVarP(&f.filters, "filter", "f", nil, "print those that meet `KEY=VALUE`: stars=N or more, is-official=true, is-automated=true")
	cmd.Flags().StringVar(&f.format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	cmd.Flags().BoolVar(&f.full, "no-trunc", false, "print whole descriptions")
	cmd.Flags().BoolVar(&f.listTags, "list-tags", false, "print the tags of a repository")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		if f.limit < 1 || f.limit > maxSearch {
			return usageErrorf("search: --limit %d: use 1 to %d", f.limit, maxSearch)
		}
		if f.listTags {
			return p.listTags(cmd, args[0], f)
		}
		return p.search(cmd, args[0], f)
	}
	return cmd
}

// maxSearch is the most that can be asked for.
const maxSearch = 10_000

// foundRow is one line of `search`: the names are docker's.
type foundRow struct {
	Name, Description, StarCount, IsOfficial, IsAutomated string
}

func (p *Program) search(cmd *cobra.Command, term string, f searchFlags) error {
	filters, err := present.ParseFilters(f.filters, "stars", "is-official", "is-automated")
	if err != nil {
		return err
	}
	keep, err := searchFilter(filters)
	if err != nil {
		return err
	}
	e, err := p.engine()
	if err != nil {
		return err
	}
	found, err := e.Search(cmd.Context(), engine.SearchRequest{RegistryAccess: f.access, Term: term, Limit: f.limit})
	if err != nil {
		return err
	}
	var rows []foundRow
	for _, x := range found {
		if !keep(x) {
			continue
		}
		r := foundRow{Name: x.Name, Description: x.Description, StarCount: strconv.Itoa(x.Stars)}
		if runes := []rune(x.Description); len(runes) > descriptionWidth && !f.full {
			r.Description = string(runes[:descriptionWidth-1]) + "…"
		}
		if x.Official {
			r.IsOfficial = "[OK]"
		}
		if x.Automated {
			r.IsAutomated = "[OK]"
		}
		rows = append(rows, r)
	}
	return present.Rows(p.text(), present.List{Format: f.format, Columns: []present.Column{
		{Field: "Name", Title: "NAME"}, {Field: "Description", Title: "DESCRIPTION"}, {Field: "StarCount", Title: "STARS"}, {Field: "IsOfficial", Title: "OFFICIAL"},
	}}, rows)
}

// descriptionWidth is how much of a description fits in a line, as docker has it.
const descriptionWidth = 45

// searchFilter returns what meets the filters.
func searchFilter(filters present.Filters) (func(registry.Found) bool, error) {
	least := 0
	for _, value := range filters["stars"] {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return nil, &present.Error{Text: "--filter stars=" + value + ": it is no number of stars", Err: err}
		}
		least = max(least, n)
	}
	official, wantOfficial, err1 := filters.Bool("is-official")
	automated, wantAutomated, err2 := filters.Bool("is-automated")
	return func(x registry.Found) bool {
		return x.Stars >= least && (!wantOfficial || x.Official == official) && (!wantAutomated || x.Automated == automated)
	}, errors.Join(err1, err2)
}

// tagRow is one line of `search --list-tags`.
type tagRow struct{ Name, Tag string }

func (p *Program) listTags(cmd *cobra.Command, repository string, f searchFlags) error {
	if len(f.filters) > 0 {
		return usageErrorf("search: --filter does not go with --list-tags")
	}
	e, err := p.engine()
	if err != nil {
		return err
	}
	tags, err := e.ListTags(cmd.Context(), engine.TagsRequest{RegistryAccess: f.access, Repository: repository, Limit: f.limit})
	if err != nil {
		return err
	}
	var rows []tagRow
	for _, tag := range tags {
		rows = append(rows, tagRow{Name: repository, Tag: tag})
	}
	return present.Rows(p.text(), present.List{Format: f.format, Columns: []present.Column{{Field: "Name", Title: "NAME"}, {Field: "Tag", Title: "TAG"}}}, rows)
}
