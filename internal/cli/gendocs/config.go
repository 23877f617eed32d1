package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/containr/containr/internal/cli"
	"github.com/containr/containr/internal/config"
)

// configSection is a table of the configuration with its keys.
type configSection struct {
	name, about string
	flags       []*pflag.Flag
}

// configSections are those that are documented key by key.
func configSections() []configSection {
	p := cli.Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	root := p.NewRoot()
	sections := []configSection{{name: config.Global, about: "Flags of all commands.", flags: cli.Defaultable(root.PersistentFlags())}}
	for _, cmd := range root.Commands() {
		if cmd.Name() == "run" {
			sections = append(sections, configSection{"run", "Flags of run, and of other commands that make containers.", cli.Defaultable(cmd.LocalNonPersistentFlags())})
		}
	}
	return sections
}

// configIntroduction are the paragraphs that the page and the manual page begin with.
var configIntroduction = []string{
	"Every flag can have another default. Files are " + config.SystemFile + ", for all users, and ~/.config/containr/config.toml, or config.toml in the directory containr of $XDG_CONFIG_HOME, for one.",
	"A file is TOML. It has a table for each command, and one, global, for the flags of all commands; keys are the names of flags without their dashes. A value is a text in quotes, a number, true or false; for flags that may be given several times also a list of them.",
	"A flag on the command line is above the environment, that is above the user's file, that is above the system's file, and that is above what is built in. What is above replaces all of what is below: a flag that may be given several times, given once, replaces a list.",
	"A variable of the environment is called CONTAINR and the name of the key, in capitals and with _ for -; with the name of the command between, but for the table global: CONTAINR_LOG_LEVEL, CONTAINR_RUN_MEMORY. An empty one is as none.",
	"A table that is no command, a key that is no flag, and a value that the flag does not take are errors, which name the line. So is a file that everybody may write, or that belongs to another user but root. A file that is not there costs one system call.",
	"`containr config show` prints each default with its origin.",
}

const configExample = `[global]
root = "/data/containr"

[run]
init = true
memory = "512m"
dns = ["192.0.2.1", "192.0.2.2"]

[pull]
quiet = true
`

// kindOf says what a key's value is.
func kindOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "int", "int64", "uint", "uint64":
		return "number"
	case "stringArray", "stringSlice":
		return "list"
	}
	return "text"
}

// configPage is the reference of the configuration.
func configPage() string {
	var b strings.Builder
	b.WriteString("<!-- Written by go generate ./internal/cli. Do not edit. -->\n\n# Configuration\n\n")
	for _, text := range configIntroduction {
		b.WriteString(text + "\n\n")
	}
	fmt.Fprintf(&b, "```toml\n%s```\n", configExample)
	for _, s := range configSections() {
		fmt.Fprintf(&b, "\n## [%s]\n\n%s\n\n| key | value | built in | variable | what it does |\n|---|---|---|---|---|\n", s.name, s.about)
		for _, f := range s.flags {
			_, usage := pflag.UnquoteUsage(f)
			fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` | %s |\n", f.Name, kindOf(f), cell(builtIn(f)), config.VariableName(s.name, f.Name), cell(usage))
		}
	}
	b.WriteString("\n## Other tables\n\nThe keys of the table of another command are its flags, as its page lists them.\n")
	return b.String()
}

func builtIn(f *pflag.Flag) string {
	if f.DefValue == "" || f.DefValue == "[]" {
		return ""
	}
	return "`" + f.DefValue + "`"
}

// configManFile is the manual page of the configuration.
const configManFile = "containr-config.5"

func configMan() string {
	m := &man{}
	m.line(`.\" Written by go generate ./internal/cli. Do not edit.`)
	m.line(`.TH CONTAINR-CONFIG 5 "" containr "File Formats"`)
	m.section("NAME")
	m.text("containr-config - defaults for the flags of containr")
	m.section("SYNOPSIS")
	m.line(".I " + roff(config.SystemFile))
	m.line(".br")
	m.line(".I " + roff("~/.config/containr/config.toml"))
	m.section("DESCRIPTION")
	m.text(strings.Join(configIntroduction, "\n\n"))
	m.section("EXAMPLE")
	m.line(".nf")
	for line := range strings.SplitSeq(strings.TrimRight(configExample, "\n"), "\n") {
		m.line(roff(line))
	}
	m.line(".fi")
	for _, s := range configSections() {
		m.section("[" + s.name + "]")
		m.text(s.about)
		for _, f := range s.flags {
			_, usage := pflag.UnquoteUsage(f)
			m.line(".TP")
			m.line(".B " + roff(f.Name))
			m.text(usage + " (" + kindOf(f) + ")")
		}
	}
	m.section("SEE ALSO")
	m.line(".BR containr (1)")
	return m.String()
}
