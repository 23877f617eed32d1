// Command gendocs writes the reference of the command line out of the commands
// themselves: one file of Markdown for each command, and the manual page. What it
// writes, docs/cli and the pages of containr in man, is never edited.
//
//	go generate ./internal/cli
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/containr/containr/internal/cli"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: gendocs MARKDOWN-DIR MAN-DIR")
		os.Exit(2)
	}
	err := write(os.Args[1])
	for name, text := range manPages() {
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Args[2], name), []byte(text), 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

// write replaces the pages in dir by new ones.
func write(dir string) error {
	old, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	compat, err := compatPage()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, compatFile), []byte(compat), 0o644); err != nil {
		return err
	}
	for name, text := range pages() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pages returns the text of every page by its file name.
func pages() map[string]string {
	p := cli.Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	out := map[string]string{}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		out[fileName(cmd)] = page(cmd)
		for _, c := range cmd.Commands() {
			visit(c)
		}
	}
	visit(p.NewRoot())
	out["errors.md"] = errorsPage()
	out["config.md"] = configPage()
	return out
}

func fileName(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".md"
}

// page is the reference of one command.
func page(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- Written by go generate ./internal/cli. Do not edit. -->\n\n# %s\n\n", cmd.CommandPath())
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(&b, "%s\n\n```text\n%s\n```\n", text, cmd.UseLine())
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\n## Examples\n\n```sh\n%s\n```\n", strings.ReplaceAll(cmd.Example, "  containr", "containr"))
	}
	writeCommands(&b, cmd)
	writeFlags(&b, cmd)
	return b.String()
}

func writeCommands(b *strings.Builder, cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	b.WriteString("\n## Commands\n\n| command | what it does |\n|---|---|\n")
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(b, "| [`%s`](%s) | %s |\n", c.Name(), fileName(c), cell(c.Short))
		}
	}
}

// writeFlags writes a table for each group of flags.
func writeFlags(b *strings.Builder, cmd *cobra.Command) {
	group := ""
	cmd.LocalFlags().SortFlags = false
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		title := "Flags"
		if noted := f.Annotations[cli.GroupAnnotation]; noted != nil {
			title = noted[0]
		}
		if title != group {
			group = title
			fmt.Fprintf(b, "\n## %s\n\n| flag | what it does |\n|---|---|\n", title)
		}
		value, usage := pflag.UnquoteUsage(f)
		flag := "--" + f.Name
		if f.Shorthand != "" {
			flag = "-" + f.Shorthand + ", " + flag
		}
		if value != "" && f.Value.Type() != "bool" {
			flag += " " + value
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", cell(flag), cell(usage))
	})
}

// cell escapes what would end a cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
