package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/config"
	"github.com/containr/containr/internal/hardening"
	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

func (p *Program) securityCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "security COMMAND",
		Short:   "Say what makes attacks easier than they have to be",
		GroupID: groupSystem,
		Args:    cobra.ArbitraryArgs,
		RunE:    groupOfCommands,
	}
	cmd.AddCommand(p.securityCheckCommand())
	return cmd
}

// securityFlags are the flags of `security check`.
type securityFlags struct{ format, failOn string }

func (p *Program) securityCheckCommand() *cobra.Command {
	var f securityFlags
	cmd := &cobra.Command{
		Use:   "check [FLAGS] [CONTAINER...]",
		Short: "Look for weaknesses of this machine and of containers, and say which flag mends each",
		Long: "Look for weaknesses of this machine and of every container, also of those that have ended: of how they were made,\n" +
			"not of the programs in them. With names, only those containers are looked at. Nothing is changed.\n\n" +
			"A finding has an id that never changes, a level, the reason, and what mends it, for a container a flag of run. Levels are\n" +
			"high (who breaks into the container nearly has the host), warn (a wall is missing that costs little) and note. Of variables\n" +
			"that seem to hold passwords the names are printed, never what they hold.\n\n" +
			"The exit status is 0 whatever was found, but 1 if there is a finding that is as bad as --fail-on says, or worse.",
		Example: "  containr security check\n" +
			"  containr security check --fail-on high web\n" +
			"  containr security check --format json",
		DisableFlagsInUseLine: true,
		RunE:                  func(cmd *cobra.Command, args []string) error { return p.securityCheck(cmd.Context(), f, args) },
	}
	cmd.Flags().StringVar(&f.format, "format", "", "print each finding as json or by `TEMPLATE` (Go's), or all as a table")
	cmd.Flags().StringVar(&f.failOn, "fail-on", "", "exit with 1 if there is a finding of `LEVEL`, warn or high, or worse")
	return cmd
}

var findingColumns = []present.Column{{Field: "Level", Title: "LEVEL"}, {Field: "Container", Title: "CONTAINER"}, {Field: "ID", Title: "ID"}, {Field: "Why", Title: "WHY"}, {Field: "Mend", Title: "MEND"}}

func (p *Program) securityCheck(ctx context.Context, f securityFlags, names []string) error {
	least := hardening.Level(f.failOn)
	if f.failOn != "" && least != hardening.Warn && least != hardening.High {
		return usageErrorf("--fail-on %s: use warn or high", f.failOn)
	}
	e, err := p.engine()
	if err != nil {
		return err
	}
	records, err := recordsOf(ctx, e, names)
	if err != nil {
		return err
	}
	var findings []hardening.Finding
	m := p.lookAt(ctx, e, nil)
	if len(names) == 0 {
		findings = hardening.CheckHost(hardening.ProbeHost(m, []string{config.SystemFile, config.UserFile()}))
	}
	for i := range records {
		findings = append(findings, hardening.CheckContainer(&records[i], !m.Facts.Root())...)
	}
	if f.format == "" {
		err = writeWeaknesses(p.text(), findings, len(records))
	} else {
		err = present.Rows(p.text(), present.List{Format: f.format, Columns: findingColumns}, findings)
	}
	if err == nil && f.failOn != "" && hardening.Worst(findings, least) {
		err = &statusError{statusFailed, fmt.Errorf("there are findings of level %s or worse", f.failOn)}
	}
	return err
}

// recordsOf are the containers of these names, or all, with their specifications.
func recordsOf(ctx context.Context, e *engine.Engine, names []string) ([]container.Record, error) {
	all := len(names) == 0
	if all {
		listed, err := e.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, c := range listed {
			names = append(names, c.ID)
		}
	}
	var records []container.Record
	for _, name := range names {
		r, err := e.Get(ctx, name)
		if all && errors.Is(err, container.ErrNotFound) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// writeWeaknesses prints findings for people: the host's, then each container's, below each what mends it.
func writeWeaknesses(w io.Writer, findings []hardening.Finding, containers int) error {
	var b strings.Builder
	count := map[hardening.Level]int{}
	last := "?"
	for _, f := range findings {
		count[f.Level]++
		if f.Container != last {
			if last != "?" {
				b.WriteString("\n")
			}
			last = f.Container
			title := "This machine"
			if f.Container != "" {
				title = "Container " + f.Container
			}
			b.WriteString(title + "\n")
		}
		fmt.Fprintf(&b, "  %-4s  %s: %s\n        mend: %s\n", f.Level, f.ID, f.Why, f.Mend)
	}
	if len(findings) > 0 {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s, %s: %d high, %d warn, %d note\n", someOrNo(len(findings), "finding"), someOrNo(containers, "container"), count[hardening.High], count[hardening.Warn], count[hardening.Note])
	_, err := io.WriteString(w, b.String())
	return err
}
