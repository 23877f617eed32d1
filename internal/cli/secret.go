package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/secret"
)

func (p *Program) secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "secret COMMAND",
		Short:   "Keep passwords and keys for containers, encrypted",
		GroupID: groupSystem,
		Long: "Keep passwords, keys and the like for containers, encrypted.\n\n" +
			"`containr run --secret NAME` shows one in the file /run/secrets/NAME, in memory. What it holds is in no image, layer,\n" +
			"log or record, in no plan that explain prints, and no command prints it again.\n\n" +
			"Secrets are sealed by a key that lies beside them, secrets/key below the state root: that protects copies of single\n" +
			"files, not against root of this machine or who copies all of the state root. A symbolic link in its place has the key\n" +
			"elsewhere.",
		Args: cobra.ArbitraryArgs,
		RunE: groupOfCommands,
	}
	p.addKept(cmd, secret.Secrets)
	return cmd
}

// addKept adds the commands that make, list and remove what is of a kind.
func (p *Program) addKept(cmd *cobra.Command, kind *secret.Kind) {
	for _, c := range []*cobra.Command{p.secretCreateCommand(kind), p.secretListCommand(kind), p.secretInspectCommand(kind), p.secretRemoveCommand(kind)} {
		c.Use = strings.ReplaceAll(c.Use, "SECRET", strings.ToUpper(kind.Word))
		cmd.AddCommand(c)
	}
}

func (p *Program) secretCreateCommand(kind *secret.Kind) *cobra.Command {
	req := engine.SecretRequest{Labels: map[string]string{}}
	var driver string
	var env bool
	cmd := &cobra.Command{
		Use:   "create [FLAGS] SECRET FILE|-",
		Short: "Keep what is in a file, or comes in, as a " + kind.Word,
		Long: "Keep what is in a file, or comes from the standard input (-), as a " + kind.Word + ", and print its id. It is kept to the byte: a\n" +
			"line's end too. Arguments are seen by everybody in the list of processes, so none holds it. At a terminal - asks for one line, which is not shown, and whose end is not kept.",
		Args: rangeArgs(1, 2), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if driver != secret.DriverFile {
				return usageErrorf("%s create: driver %s: there is only %s", kind.Word, driver, secret.DriverFile)
			}
			req.Name = args[0]
			if err := kind.ValidateName(req.Name); err != nil {
				return &usageError{text: err.Error(), err: err}
			}
			if len(args) == 1 {
				return usageErrorf("%s create: where is it? Name a file, or - for the standard input", kind.Word)
			}
			var err error
			if req.Content, err = p.secretContent(cmd.Context(), kind, args[1], env); err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			v, err := e.CreateSecret(cmd.Context(), kind, req)
			if err == nil {
				_, err = fmt.Fprintln(p.Out, v.ID)
			}
			return err
		},
	}
	set := cmd.Flags()
	set.StringVarP(&driver, "driver", "d", secret.DriverFile, "where it is kept: "+secret.DriverFile)
	set.BoolVarP(&env, "env", "e", false, "FILE is the name of a variable of our environment that holds it")
	set.BoolVar(&req.Replace, "replace", false, "if there is one of that name, it holds this from now on")
	binder{set, ""}.value("label", "l", "note `KEY[=VALUE]` on it", enter(req.Labels, container.ParseLabel))
	return cmd
}

// secretContent reads what a secret is to hold, one byte more than it may at most.
func (p *Program) secretContent(ctx context.Context, kind *secret.Kind, from string, env bool) ([]byte, error) {
	if env {
		text, ok := os.LookupEnv(from)
		if !ok {
			return nil, fmt.Errorf("%s create: there is no variable %s in our environment", kind.Word, from)
		}
		return []byte(text), nil
	}
	var in io.Reader
	switch {
	case from == "-" && tty.IsTerminal(p.In) && kind.Open:
		return nil, &usageError{text: kind.Word + " create: standard input is a terminal", hint: "name a file, or redirect it from one"}
	case from == "-" && tty.IsTerminal(p.In):
		p.awaitCatching()
		line, err := tty.Ask(ctx, p.In, p.Err, "Secret: ", true)
		if err != nil {
			err = fmt.Errorf("secret create: %w", err)
		}
		return []byte(line), err
	case from == "-":
		in = p.input(ctx)
	default:
		f, err := os.Open(from)
		if err != nil {
			return nil, fmt.Errorf("%s create: %w", kind.Word, err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, secret.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s create: read %s: %w", kind.Word, from, err)
	}
	return data, nil
}

// secretRow is a line of secret ls, and what a template may name.
type secretRow struct {
	ID, Name, Driver, CreatedAt, UpdatedAt, Labels string
	labels                                         map[string]string
}

// Label is the value of a label.
func (r secretRow) Label(name string) string { return r.labels[name] }

func rowOfSecret(v engine.UsedSecret) secretRow {
	r := secretRow{ID: v.ID, Name: v.Name, Driver: v.Driver, CreatedAt: present.At(v.Created), UpdatedAt: present.At(v.Updated), labels: v.Labels}
	var labels []string
	for key, value := range v.Labels {
		labels = append(labels, key+"="+value)
	}
	slices.Sort(labels)
	r.Labels = strings.Join(labels, ",")
	return r
}

var secretFilters = []string{"id", "label", "name"}

func (p *Program) secretListCommand(kind *secret.Kind) *cobra.Command {
	var filters []string
	var format string
	var quiet bool
	cmd := &cobra.Command{
		Use: "ls [FLAGS]", Aliases: []string{"list"}, Short: "List " + kind.Word + "s", Args: exactArgs(0), DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, _ []string) error {
			f, err := present.ParseFilters(filters, secretFilters...)
			if err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			list, err := e.Secrets(kind)
			if err != nil {
				return err
			}
			rows := []secretRow{}
			for _, v := range list {
				if f.Labels("label", v.Labels) && f.Any("name", func(s string) bool { return strings.Contains(v.Name, s) }) &&
					f.Any("id", func(s string) bool { return strings.HasPrefix(v.ID, s) }) {
					rows = append(rows, rowOfSecret(v))
				}
			}
			if quiet && format == "" {
				for _, r := range rows {
					fmt.Fprintln(p.Out, r.ID)
				}
				return nil
			}
			return present.Rows(p.text(), present.List{Format: format, Columns: []present.Column{{Field: "ID", Title: "ID"}, {Field: "Name", Title: "NAME"},
				{Field: "Driver", Title: "DRIVER"}, {Field: "CreatedAt", Title: "CREATED"}, {Field: "UpdatedAt", Title: "UPDATED"}}}, rows)
		},
	}
	set := cmd.Flags()
	set.StringArrayVarP(&filters, "filter", "f", nil, "only those with `KEY=VALUE`: "+strings.Join(secretFilters, ", "))
	set.StringVar(&format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	set.BoolVarP(&quiet, "quiet", "q", false, "print ids alone")
	return cmd
}

// inspectedSecret is a secret in docker's form.
type inspectedSecret struct {
	ID                   string
	CreatedAt, UpdatedAt string
	Spec                 inspectedSecretSpec
	// Containers are the names of those that have it.
	Containers []string
}

type inspectedSecretSpec struct {
	Name   string
	Labels map[string]string
	Driver inspectedSecretDriver
	// Data is what a config holds, in base64.
	Data []byte `json:",omitempty"`
}

type inspectedSecretDriver struct{ Name string }

func (p *Program) secretInspectCommand(kind *secret.Kind) *cobra.Command {
	var format string
	short := "Print what is known of secrets, but not what they hold"
	long := "Print what is known of secrets, as JSON in docker's form, with the containers that have them. What they hold is not\n" +
		"printed: a container that has it can."
	if kind.Open {
		short = "Print what is known of configs, and what they hold"
		long = "Print what is known of configs, as JSON in docker's form, with the containers that have them. What they hold is in\n" +
			"base64; --format '{{printf \"%s\" .Spec.Data}}' prints it."
	}
	cmd := &cobra.Command{
		Use: "inspect [FLAGS] SECRET...", Short: short, Long: long,
		Args: minArgs(1), DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			found := []inspectedSecret{}
			var failures []error
			for _, name := range args {
				v, err := e.Secret(kind, name)
				if err != nil {
					failures = append(failures, err)
					continue
				}
				i := inspectedSecret{ID: v.ID, CreatedAt: v.Created.Format(time.RFC3339), UpdatedAt: v.Updated.Format(time.RFC3339), Containers: v.Containers,
					Spec: inspectedSecretSpec{Name: v.Name, Labels: v.Labels, Driver: inspectedSecretDriver{v.Driver}, Data: v.Content}}
				if i.Containers == nil {
					i.Containers = []string{}
				}
				found = append(found, i)
			}
			if err := present.Documents(p.text(), format, found); err != nil {
				return err
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print as json, or by a `TEMPLATE` (Go's)")
	return cmd
}

func (p *Program) secretRemoveCommand(kind *secret.Kind) *cobra.Command {
	var ignore bool
	cmd := &cobra.Command{
		Use: "rm [FLAGS] SECRET...", Aliases: []string{"remove"}, Short: "Remove " + kind.Word + "s",
		Long: "Remove " + kind.Word + "s. One that a container has, whether it runs or not, is not removed.",
		Args: minArgs(1), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			var failures []error
			for _, name := range args {
				v, err := e.RemoveSecret(cmd.Context(), kind, name)
				if ignore && errors.Is(err, kind.NotFound()) {
					continue
				}
				if err != nil {
					failures = append(failures, err)
					continue
				}
				fmt.Fprintln(p.Out, v.ID)
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().BoolVarP(&ignore, "ignore", "i", false, "do not complain about one that is not there")
	return cmd
}
