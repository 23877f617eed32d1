package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/containr/containr/internal/config"
	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/spelling"
	"github.com/containr/containr/pkg/secret"
)

// notDefaults are flags that make no sense as a default of every command line.
var notDefaults = []string{"help", "version", "name", "cidfile"}

// sectionOf is the section of the configuration that has a command's defaults. A container's flags mean the same
// wherever they stand.
func sectionOf(cmd *cobra.Command) string {
	if cmd.Name() == "create" {
		return "run"
	}
	return cmd.Name()
}

// defaultable lists the flags of a set that a configuration may give a default.
func defaultable(set *pflag.FlagSet) []string {
	var names []string
	set.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !slices.Contains(notDefaults, f.Name) {
			names = append(names, f.Name)
		}
	})
	return names
}

// Defaultable lists the flags of a set that a configuration may give a default, for its reference.
func Defaultable(set *pflag.FlagSet) []*pflag.Flag {
	var flags []*pflag.Flag
	for _, name := range defaultable(set) {
		flags = append(flags, set.Lookup(name))
	}
	return flags
}

// readConfig reads the files of defaults, once.
func (p *Program) readConfig() ([]config.Value, error) {
	if p.configRead {
		return p.config, nil
	}
	var sources [][]config.Value
	for _, path := range []string{config.SystemFile, config.UserFile()} {
		values, err := config.ReadFile(path)
		if err != nil {
			return nil, configError(err)
		}
		sources = append(sources, values)
	}
	p.config, p.configRead = config.Merge(sources...), true
	return p.config, nil
}

// configError makes an error of a file one that stands for a command line not understood: no command was begun.
func configError(err error) error {
	e := &usageError{text: err.Error(), err: err}
	var file *config.Error
	if errors.As(err, &file) {
		e.hint = file.Hint
	}
	return e
}

// checkSections refuses tables that belong to none of these commands.
func checkSections(values []config.Value, commands []string) error {
	names := append(commands, config.Global)
	for _, v := range values {
		if slices.Contains(names, v.Section) {
			continue
		}
		e := &usageError{text: fmt.Sprintf("%s: [%s]: there is no such command", v.Origin, v.Section), hint: "tables are global and the names of commands"}
		if near := spelling.Nearest(v.Section, names); near != "" {
			e.hint = "did you mean [" + near + "]?"
		}
		return e
	}
	return nil
}

// configure gives the flags of a command that were not given the values that the configuration has for them. commands are
// the names of all.
func (p *Program) configure(cmd *cobra.Command, commands []string) error {
	values, err := p.readConfig()
	if err == nil {
		err = checkSections(values, commands)
	}
	if err != nil {
		return err
	}
	if err := p.applyDefaults(values, config.Global, cmd.Root().PersistentFlags(), cmd.Flags()); err != nil {
		return err
	}
	return p.applyDefaults(values, sectionOf(cmd), cmd.LocalNonPersistentFlags(), cmd.Flags())
}

// applyDefaults sets flags to the values of a section, and notes where these are from. known are those that may be in the section,
// set those that were read.
func (p *Program) applyDefaults(values []config.Value, section string, known, set *pflag.FlagSet) error {
	names := defaultable(known)
	merged := config.Merge(ofSection(values, section), config.Variables(section, names, os.LookupEnv))
	for _, v := range merged {
		if !slices.Contains(names, v.Key) {
			return unknownKey(v, names)
		}
		if given(set, v.Key) {
			continue
		}
		for _, text := range v.Texts {
			if err := set.Set(v.Key, text); err != nil {
				var invalid *pflag.InvalidValueError
				if errors.As(err, &invalid) {
					err = errors.Unwrap(invalid)
				}
				return &usageError{text: fmt.Sprintf("%s: %s.%s: %v", v.Origin, section, v.Key, err), err: err}
			}
		}
		p.origins = append(p.origins, v)
	}
	return nil
}

// notGiven says of the flags that a message names which were not given but have a default, and whose: else one looks for them
// on the command line. It is "" if there is none.
func (p *Program) notGiven(message string) string {
	var out []string
	for _, v := range p.origins {
		_, rest, named := strings.Cut(message, "--"+v.Key)
		if text := fmt.Sprintf("--%s is set by %s", v.Key, v.Origin); named && (rest == "" || strings.ContainsAny(rest[:1], " :,;=")) && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return strings.Join(out, "; ")
}

// given reports whether a flag was set, by whichever of its names.
func given(set *pflag.FlagSet, name string) (is bool) {
	set.Visit(func(f *pflag.Flag) {
		is = is || f.Name == name || slices.Contains(f.Annotations[aliasOf], name)
	})
	return is
}

func ofSection(values []config.Value, section string) []config.Value {
	var out []config.Value
	for _, v := range values {
		if v.Section == section {
			out = append(out, v)
		}
	}
	return out
}

func unknownKey(v config.Value, names []string) error {
	e := &usageError{text: fmt.Sprintf("%s: %s.%s: unknown key", v.Origin, v.Section, v.Key), hint: "keys are the flags of `containr " + v.Section + "`, without dashes"}
	if v.Section == config.Global {
		e.hint = "keys of [global] are " + strings.Join(names, ", ")
	}
	switch near := spelling.Nearest(v.Key, names); {
	case slices.Contains(notDefaults, v.Key):
		e.text = fmt.Sprintf("%s: %s.%s: this flag cannot have a default", v.Origin, v.Section, v.Key)
		e.hint = "give it on the command line"
	case near != "":
		e.hint = "did you mean " + near + "?"
	}
	return e
}

func (p *Program) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config COMMAND",
		Short:   "Keep files of configuration for containers; look at the defaults of flags",
		GroupID: groupSystem,
		Args:    cobra.ArbitraryArgs,
		Long: "Keep files of configuration for containers, in docker's way without a cluster: `containr run --config NAME` shows one in\n" +
			"the file /NAME, read-only. They are as secrets are, but not encrypted, and can be printed again. A container has what the\n" +
			"config held when it was made.\n\n" +
			"`config show` looks at something else: the defaults that files and environment give to flags.\n\n" +
			"Files are " + config.SystemFile + " and ~/.config/containr/config.toml; see containr-config(5).",
		RunE: groupOfCommands,
	}
	cmd.AddCommand(p.configShowCommand())
	p.addKept(cmd, secret.Configs)
	return cmd
}

func (p *Program) configShowCommand() *cobra.Command {
	var format string
	var changed bool
	cmd := &cobra.Command{
		Use:   "show [FLAGS]",
		Short: "Print every default with its origin",
		Args:  exactArgs(0),
		Long: "Print the default of every global flag, of every flag of run, and of what else was set, with its origin:\n" +
			"file and line, the name of a variable, or built in. All values are checked.",
		Example:               "  containr config show --changed",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := p.settings(cmd.Root())
			if err != nil {
				return err
			}
			if changed {
				rows = slices.DeleteFunc(rows, func(r settingRow) bool { return r.Origin == builtIn })
			}
			return present.Rows(p.text(), present.List{Format: format, Columns: settingColumns}, rows)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	cmd.Flags().BoolVar(&changed, "changed", false, "print only what is not built in")
	return cmd
}

// settingRow is one line of `config show`.
type settingRow struct{ Section, Key, Value, Origin string }

var settingColumns = []present.Column{{Field: "Section", Title: "SECTION"}, {Field: "Key", Title: "KEY"}, {Field: "Value", Title: "VALUE"}, {Field: "Origin", Title: "ORIGIN"}}

const builtIn = "built in"

// settings lists defaults: all of the sections global and run, and of others what was set.
func (p *Program) settings(root *cobra.Command) ([]settingRow, error) {
	values, err := p.readConfig()
	if err != nil {
		return nil, err
	}
	rows, err := p.settingsOf(config.Global, values, root.PersistentFlags(), true)
	if err != nil {
		return nil, err
	}
	for _, cmd := range root.Commands() {
		if section := sectionOf(cmd); section == cmd.Name() {
			more, err := p.settingsOf(section, values, cmd.LocalNonPersistentFlags(), section == "run")
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
	}
	return rows, nil
}

// settingsOf lists the defaults of one section; those that are built in only if all is set.
func (p *Program) settingsOf(section string, values []config.Value, set *pflag.FlagSet, all bool) ([]settingRow, error) {
	names := defaultable(set)
	merged := config.Merge(ofSection(values, section), config.Variables(section, names, os.LookupEnv))
	var rows []settingRow
	for _, name := range names {
		row := settingRow{section, name, set.Lookup(name).DefValue, builtIn}
		for _, v := range merged {
			if v.Key == name {
				row.Value, row.Origin = strings.Join(v.Texts, ", "), v.Origin
			}
		}
		if all || row.Origin != builtIn {
			rows = append(rows, row)
		}
	}
	return rows, p.applyDefaults(values, section, set, set)
}
