package main

import (
	_ "embed"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/containr/containr/internal/cli"
)

//go:embed docker.txt
var dockerText string

// compatFile is the page's place beside the directory of the reference.
const compatFile = "../compatibility.md"

// dockerCommand is a command of docker's, with its flags and what is to be said about them.
type dockerCommand struct {
	name  string
	note  string // of the command
	flags []dockerFlag
}

type dockerFlag struct{ short, long, note string }

func (f dockerFlag) String() string {
	if f.short == "" {
		return "--" + f.long
	}
	return "-" + f.short + ", --" + f.long
}

// parseDocker reads docker.txt.
func parseDocker(text string) ([]dockerCommand, error) {
	var all []dockerCommand
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		kind, rest, _ := strings.Cut(line, " ")
		subject, tail, ok := strings.Cut(rest, ":")
		tail = strings.TrimSpace(tail)
		var err error
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case ok && kind == "command":
			c := dockerCommand{name: subject}
			for word := range strings.FieldsSeq(tail) {
				c.flags = append(c.flags, parseDockerFlag(word))
			}
			all = append(all, c)
		case ok && kind == "like":
			var c dockerCommand
			c, err = likeAnother(all, subject, strings.Fields(tail))
			all = append(all, c)
		case ok && kind == "note" && tail != "":
			err = addNote(all, subject, tail)
		default:
			err = fmt.Errorf("neither a command nor a note")
		}
		if err != nil {
			return nil, fmt.Errorf("docker.txt:%d: %w", number, err)
		}
	}
	return all, nil
}

// likeAnother makes a command of the flags of another one, but for some.
func likeAnother(all []dockerCommand, subject string, but []string) (dockerCommand, error) {
	name, other, _ := strings.Cut(subject, " ")
	i := slices.IndexFunc(all, func(c dockerCommand) bool { return c.name == other })
	if i < 0 {
		return dockerCommand{}, fmt.Errorf("%s: no such command above", other)
	}
	c := dockerCommand{name: name, flags: slices.Clone(all[i].flags)}
	c.flags = slices.DeleteFunc(c.flags, func(f dockerFlag) bool { return slices.Contains(but, "--"+f.long) })
	return c, nil
}

func parseDockerFlag(word string) dockerFlag {
	short, long, ok := strings.Cut(word, ",")
	if !ok {
		short, long = "", word
	}
	return dockerFlag{short: strings.TrimPrefix(short, "-"), long: strings.TrimPrefix(long, "--")}
}

// addNote gives the command or the flag that a note is about its words.
func addNote(all []dockerCommand, subject, note string) error {
	words := strings.Fields(subject)
	flag := ""
	if last := words[len(words)-1]; strings.HasPrefix(last, "-") {
		flag, words = parseDockerFlag(last).long, words[:len(words)-1]
	}
	name := strings.Join(words, " ")
	for i := range all {
		if all[i].name != name {
			continue
		}
		if flag == "" {
			all[i].note = note
			return nil
		}
		for j := range all[i].flags {
			if all[i].flags[j].long == flag {
				all[i].flags[j].note = note
				return nil
			}
		}
	}
	return fmt.Errorf("%s: no such command or flag above", subject)
}

// ours finds containr's command of a name of docker's, nil if there is none.
func ours(root *cobra.Command, name string) *cobra.Command {
	if name == "docker" {
		return root
	}
	at := root
	for word := range strings.FieldsSeq(name) {
		i := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == word && !c.Hidden })
		if i < 0 {
			return nil
		}
		at = at.Commands()[i]
	}
	return at
}

// judgement is what is said of a flag.
type judgement struct{ flag, state, why string }

// Words for how containr's flag stands to docker's.
const (
	same      = "same"
	different = "different"
	absent    = "absent"
)

// compare looks a flag of docker's up in a command of ours.
func compare(cmd *cobra.Command, f dockerFlag) judgement {
	set := cmd.LocalFlags()
	have := set.Lookup(f.long)
	switch {
	case have == nil && f.note == "":
		return judgement{f.String(), absent, "not yet"}
	case have == nil:
		return judgement{f.String(), absent, f.note}
	case f.note != "":
		return judgement{f.String(), different, f.note}
	case f.short != have.Shorthand && f.short != "" && !(have.Hidden && set.ShorthandLookup(f.short) != nil):
		return judgement{f.String(), different, "without its short form"}
	}
	return judgement{f.String(), same, ""}
}

// own lists the flags of a command of ours that docker does not have.
func own(cmd *cobra.Command, c dockerCommand) []string {
	var names []string
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		known := slices.ContainsFunc(c.flags, func(d dockerFlag) bool { return d.long == f.Name })
		if !f.Hidden && f.Name != "help" && !known {
			names = append(names, "`--"+f.Name+"`")
		}
	})
	return names
}

// capitalised makes a sentence's beginning of a note's.
func capitalised(note string) string { return strings.ToUpper(note[:1]) + note[1:] }

// compatPage compares containr with docker, command by command.
func compatPage() (string, error) {
	p := cli.Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	root := p.NewRoot()
	all, err := parseDocker(dockerText)
	if err != nil {
		return "", err
	}
	var table, details strings.Builder
	for _, c := range all {
		writeComparison(&table, &details, c, ours(root, c.name))
	}
	return "<!-- Written by go generate ./internal/cli. Do not edit. -->\n\n# containr and docker\n\n" +
		"What becomes of the commands and flags of docker 29. The left column is docker's documentation; whether containr has the same\n" +
		"is looked up in its commands when this page is written, and a test writes it anew and compares. What containr does not have is\n" +
		"refused in words, never passed over.\n\n## Commands\n\n" +
		"| docker | containr | flags: same | different | absent |\n|---|---|---|---|---|\n" + table.String() + "\n## Flags\n" + details.String(), nil
}

// writeComparison writes a command's line of the table, and its flags that are not the same.
func writeComparison(table, details *strings.Builder, c dockerCommand, cmd *cobra.Command) {
	if cmd == nil {
		why := c.note
		if why == "" {
			why = "not yet"
		}
		fmt.Fprintf(table, "| `%s` | absent: %s | | | |\n", c.name, cell(why))
		return
	}
	count := map[string]int{}
	var rows []judgement
	for _, f := range c.flags {
		j := compare(cmd, f)
		count[j.state]++
		if j.state != same {
			rows = append(rows, j)
		}
	}
	number := func(state string) string {
		if len(c.flags) == 0 {
			return ""
		}
		return fmt.Sprint(count[state])
	}
	page := strings.TrimPrefix(cmd.CommandPath(), "containr ")
	fmt.Fprintf(table, "| `%s` | [`%s`](cli/%s) | %s | %s | %s |\n", c.name, page, fileName(cmd), number(same), number(different), number(absent))
	more := own(cmd, c)
	if len(rows) == 0 && len(more) == 0 && c.note == "" {
		return
	}
	fmt.Fprintf(details, "\n### %s\n", c.name)
	if c.note != "" {
		fmt.Fprintf(details, "\n%s.\n", capitalised(c.note))
	}
	if len(rows) > 0 {
		details.WriteString("\n| docker's flag | containr | |\n|---|---|---|\n")
		for _, r := range rows {
			fmt.Fprintf(details, "| `%s` | %s | %s |\n", r.flag, r.state, cell(r.why))
		}
	}
	if len(more) > 0 {
		fmt.Fprintf(details, "\ncontainr's own: %s\n", strings.Join(more, " "))
	}
}
