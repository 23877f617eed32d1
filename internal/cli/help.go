package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// setHelp replaces cobra's help text, which is a template, by writeHelp: a plain
// function knows groups of flags, and costs nothing until it is called.
func setHelp(root *cobra.Command) {
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(cmd.OutOrStdout(), cmd) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { return writeHelp(cmd.OutOrStderr(), cmd) })
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"}) // ours is helpCommand
	for _, cmd := range withThoseBelow(root) {
		short := "h"
		if cmd.Flags().ShorthandLookup(short) != nil {
			short = "" // run has it for --hostname
		}
		cmd.Flags().BoolP("help", short, false, "print this text")
	}
}

// withThoseBelow lists a command and all that are below it.
func withThoseBelow(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		all = append(all, withThoseBelow(c)...)
	}
	return all
}

// helpCommand is `help`, which people type as they type --help.
func (p *Program) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND...]",
		Short: "Print what a command does",
		RunE: func(cmd *cobra.Command, args []string) error {
			about := cmd.Root()
			for _, name := range args {
				below := about.Commands()
				i := slices.IndexFunc(below, func(c *cobra.Command) bool { return c.Name() == name && !c.Hidden })
				if i < 0 {
					return unknownCommand(about, name, namesOf(below))
				}
				about = below[i]
			}
			return about.Help()
		},
	}
}

func writeHelp(w io.Writer, cmd *cobra.Command) error {
	var b strings.Builder
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(&b, "%s\n\nUsage: %s\n", text, cmd.UseLine())
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	writeCommands(&b, cmd)
	writeFlags(&b, cmd)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeCommands lists the commands below cmd by their groups.
func writeCommands(b *strings.Builder, cmd *cobra.Command) {
	groups := append(slices.Clone(cmd.Groups()), &cobra.Group{Title: "Commands:"})
	for _, g := range groups {
		var lines [][2]string
		for _, c := range cmd.Commands() {
			if c.GroupID == g.ID && c.IsAvailableCommand() {
				lines = append(lines, [2]string{"  " + c.Name(), c.Short})
			}
		}
		writeColumns(b, g.Title, lines)
	}
}

// writeFlags lists the flags of cmd by their groups, in the order in which they
// were added, and those of all commands last.
func writeFlags(b *strings.Builder, cmd *cobra.Command) {
	var titles []string
	groups := map[string][][2]string{}
	add := func(title string, f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if groups[title] == nil {
			titles = append(titles, title)
		}
		groups[title] = append(groups[title], flagLine(f))
	}
	own := cmd.LocalNonPersistentFlags()
	own.SortFlags = false
	own.VisitAll(func(f *pflag.Flag) {
		if group := f.Annotations[GroupAnnotation]; group != nil {
			add(group[0]+":", f)
		} else if f.Name != "help" {
			add("Flags:", f)
		}
	})
	add("Global:", cmd.Flags().Lookup("help"))
	cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) { add("Global:", f) })
	for _, t := range titles {
		writeColumns(b, t, groups[t])
	}
}

// flagLine is a flag as the help text shows it: "  -m, --memory SIZE", and what it
// is for.
func flagLine(f *pflag.Flag) [2]string {
	value, usage := pflag.UnquoteUsage(f)
	left := "      --" + f.Name
	if f.Shorthand != "" {
		left = "  -" + f.Shorthand + ", --" + f.Name
	}
	if value != "" && f.Value.Type() != "bool" {
		left += " " + value
	}
	return [2]string{left, usage}
}

func writeColumns(b *strings.Builder, title string, lines [][2]string) {
	if len(lines) == 0 {
		return
	}
	width := 0
	for _, l := range lines {
		width = max(width, len(l[0]))
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "%-*s  %s\n", min(width, maxFlagWidth), l[0], l[1])
	}
}

// maxFlagWidth is where the right column begins at the latest.
const maxFlagWidth = 40
