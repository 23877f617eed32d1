package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/containr/containr/internal/cli"
)

// manPage is the manual page of the whole program, in the macros of man(7). It has
// no date: the same commands make the same page.
func manPage(root *cobra.Command) string {
	m := &man{}
	m.line(`.\" Written by go generate ./internal/cli. Do not edit.`)
	m.line(`.TH CONTAINR 1 "" containr "User Commands"`)
	m.section("NAME")
	m.text("containr - " + lowerFirst(strings.TrimSuffix(root.Short, ".")))
	m.section("SYNOPSIS")
	m.line(".B containr")
	m.line(`.I COMMAND`)
	m.line("[flags]")
	m.section("DESCRIPTION")
	m.text(root.Long)
	m.section("COMMANDS")
	m.commands(root)
	m.section("GLOBAL FLAGS")
	m.flags(root.PersistentFlags())
	m.section("EXIT STATUS")
	for _, s := range exitStatuses {
		m.line(".TP")
		m.line(".B " + s[0])
		m.text(s[1])
	}
	m.section("FILES")
	for _, f := range manFiles {
		m.line(".TP")
		m.line(".I " + f[0])
		m.text(f[1])
	}
	m.section("SEE ALSO")
	m.line(".BR containr-config (5),")
	m.line(".BR containr-runtime (1),")
	m.line(".BR namespaces (7),")
	m.line(".BR cgroups (7),")
	m.line(".BR capabilities (7)")
	return m.String()
}

var exitStatuses = [][2]string{
	{"the program's", "containr run: the program ran."},
	{"128+n", "containr run: signal n ended it."},
	{"127", "containr run: the program was not found in the container."},
	{"126", "containr run: it was found, and could not be executed."},
	{"125", "containr failed, or did not understand its command line."},
	{"1", "A command other than run failed."},
}

var manFiles = [][2]string{
	{"/var/lib/containr", "What outlives a boot: images, unpacked layers, containers. For other users than root: $XDG_DATA_HOME/containr or ~/.local/share/containr."},
	{"/run/containr", "What does not. For other users than root: $XDG_RUNTIME_DIR/containr."},
	{"/etc/containr/registries.toml, ~/.config/containr/registries.toml", "Mirrors, rewrites and certificates of registries."},
	{"/etc/containr/config.toml, ~/.config/containr/config.toml", "Defaults for flags: containr-config(5)."},
	{"~/.docker/config.json", "Credentials for registries, as containr login and docker login leave them."},
}

// man writes roff.
type man struct{ strings.Builder }

func (m *man) line(s string)        { m.WriteString(s + "\n") }
func (m *man) section(title string) { m.line(".SH " + title) }

// text writes paragraphs, which blank lines part.
func (m *man) text(s string) {
	for line := range strings.SplitSeq(strings.TrimSpace(s), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			m.line(".PP")
		} else {
			m.line(roff(line))
		}
	}
}

func (m *man) commands(parent *cobra.Command) {
	for _, c := range parent.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		m.line(".SS " + roff(c.UseLine()))
		text := c.Long
		if text == "" {
			text = c.Short + "."
		}
		m.text(text)
		m.flags(c.LocalNonPersistentFlags())
		if c.Example != "" {
			m.line(".PP")
			m.line(".nf")
			for line := range strings.SplitSeq(strings.TrimRight(c.Example, "\n"), "\n") {
				m.line(roff(line))
			}
			m.line(".fi")
		}
		m.commands(c)
	}
}

func (m *man) flags(set *pflag.FlagSet) {
	set.SortFlags = false
	group := ""
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if noted := f.Annotations[cli.GroupAnnotation]; noted != nil && noted[0] != group {
			group = noted[0]
			m.line(".PP")
			m.line(group + ":")
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if value != "" && f.Value.Type() != "bool" {
			name += " " + value
		}
		m.line(".TP")
		m.line(".B " + roff(name))
		m.text(usage)
	})
}

// roff escapes what has a meaning in roff: backslashes, hyphens that are to be
// copied as such, and a control character at the start of a line.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// manFileName is the page's file in the directory of manual pages.
const manFileName = "containr.1"

// manPages returns the text of every manual page by its file name.
func manPages() map[string]string {
	return map[string]string{manFileName: manText(), configManFile: configMan()}
}

func manText() string {
	p := cli.Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	return manPage(p.NewRoot())
}
