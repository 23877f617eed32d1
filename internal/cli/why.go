package cli

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
)

func (p *Program) whyCommand() *cobra.Command {
	var req engine.WhyRequest
	var format string
	cmd := &cobra.Command{
		Use:     "why [FLAGS] CONTAINER...",
		Short:   "Say in words how a container ended, or how it does",
		GroupID: groupRun,
		Long: "Say in words how a container ended: what its exit status means, who ended it, whether a limit had\n" +
			"to do with it; what it wrote last; and what to try. Of a container that runs: whether a limit is\n" +
			"near. Of one that never ran: why not. Of one that was removed: what the events tell.",
		Example:               "  containr why web",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Lines < 0 {
				return usageErrorf("why: --lines %d: use 0 or more", req.Lines)
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			var stories []*engine.Story
			for _, name := range args {
				req.Container = name
				story, err := e.Why(cmd.Context(), req)
				if err != nil {
					return err
				}
				stories = append(stories, story)
			}
			if format != "" {
				return present.Documents(p.text(), format, stories)
			}
			return p.printStories(stories)
		},
	}
	cmd.Flags().IntVarP(&req.Lines, "lines", "n", 10, "show the last `N` lines of the log")
	cmd.Flags().StringVar(&format, "format", "", "print as json, or as a `TEMPLATE` (Go's)")
	return cmd
}

func (p *Program) printStories(stories []*engine.Story) error {
	var b bytes.Buffer
	for i, s := range stories {
		if i > 0 {
			b.WriteString("\n")
		}
		writeStory(&b, s)
	}
	_, err := p.Out.WriteString(present.Clean(b.String()))
	return err
}

// writeStory prints a story as paragraphs.
func writeStory(b *bytes.Buffer, s *engine.Story) {
	fmt.Fprintf(b, "%s (%s, image %s) %s.\n", s.Name, present.ID(s.ID, false), s.Image, s.Headline)
	for _, cause := range s.Causes {
		fmt.Fprintln(b, cause)
	}
	if len(s.Facts) > 0 {
		b.WriteString("\n")
	}
	for _, f := range s.Facts {
		fmt.Fprintf(b, "  %-22s%s\n", f.Name, present.CleanLine(f.Value))
	}
	if len(s.Output) > 0 {
		b.WriteString("\nIt wrote last:\n")
	}
	for _, line := range s.Output {
		fmt.Fprintf(b, "  | %s\n", present.CleanLine(line))
	}
	if len(s.Events) > 0 {
		b.WriteString("\nWhat happened:\n")
	}
	for _, e := range s.Events {
		fmt.Fprintf(b, "  %s  %s%s\n", e.Time.Local().Format("2006-01-02 15:04:05"), present.CleanLine(e.Status()), detail(e.Attributes))
	}
	if len(s.Advice) > 0 {
		b.WriteString("\nWhat to try:\n")
	}
	for _, advice := range s.Advice {
		fmt.Fprintf(b, "  * %s\n", advice)
	}
}

// detail is what an event of a story has besides its name.
func detail(attributes map[string]string) string {
	for _, name := range []string{"exitCode", "signal", "oldName"} {
		if value, ok := attributes[name]; ok {
			return " (" + name + " " + value + ")"
		}
	}
	return ""
}
