package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/doctor"
	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/engine"
)

// doctorFlags are the flags of `doctor`.
type doctorFlags struct {
	format     string
	quiet      bool
	registries []string
}

func (p *Program) doctorCommand() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:     "doctor [FLAGS]",
		Short:   "Say what this machine can do for containers, and what mends it",
		GroupID: groupSystem,
		Args:    exactArgs(0),
		Long: "Say what this machine can and cannot do for containers of yours, why, and what to type\n" +
			"to mend it. Nothing is changed, and no network is used but with --registry.\n\n" +
			"The exit status is 0 if containers can be run, 1 if not.",
		Example: "  containr doctor\n" +
			"  containr doctor -q\n" +
			"  containr doctor --format '{{.State}} {{.Check}}: {{.Mend}}'",
		DisableFlagsInUseLine: true,
		RunE:                  func(cmd *cobra.Command, _ []string) error { return p.doctor(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.format, "format", "", "print each finding as json or by `TEMPLATE` (Go's), or all as a table")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only what is limited or missing")
	cmd.Flags().StringArrayVar(&f.registries, "registry", nil, "ask whether the registry `HOST` can be reached, such as docker.io")
	return cmd
}

// errCannotRun is the answer of a doctor who has no hope without treatment.
const errCannotRun = "containers cannot be run here"

func (p *Program) doctor(ctx context.Context, f doctorFlags) error {
	e, err := p.engine()
	if err != nil {
		return err
	}
	findings := doctor.Examine(p.lookAt(ctx, e, f.registries))
	shown := findings
	if f.quiet {
		shown = notOK(findings)
	}
	if f.format == "" {
		err = writeFindings(p.Out, shown, colours(p.Out))
	} else {
		columns := []present.Column{{Field: "Group", Title: "GROUP"}, {Field: "Check", Title: "CHECK"}, {Field: "State", Title: "STATE"}, {Field: "Why", Title: "WHY"}}
		err = present.Rows(p.text(), present.List{Format: f.format, Columns: columns}, shown)
	}
	if err != nil {
		return err
	}
	if !doctor.CanRun(findings) {
		return &statusError{statusFailed, fmt.Errorf("%s: see what is missing and needed", errCannotRun)}
	}
	return nil
}

// lookAt looks at this machine, for an engine.
func (p *Program) lookAt(ctx context.Context, e *engine.Engine, registries []string) *doctor.Machine {
	_, missing := baseimage.Archive()
	return doctor.Probe(ctx, doctor.Options{Root: e.Root(), Snapshotter: p.global.snapshotter, Init: e.InitProgram(), Monitor: e.MonitorProgram(), BaseImage: missing == nil, Registries: registries})
}

func notOK(findings []doctor.Finding) []doctor.Finding {
	var out []doctor.Finding
	for _, f := range findings {
		if f.State != doctor.OK {
			out = append(out, f)
		}
	}
	return out
}

// colours reports whether a file is a terminal that shows them to somebody who wants them: https://no-color.org.
func colours(f *os.File) bool {
	return tty.IsTerminal(f) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Colours of states, as ECMA-48 has them.
var stateColours = map[doctor.State]string{doctor.OK: "\x1b[32m", doctor.Limited: "\x1b[33m", doctor.Missing: "\x1b[31m"}

const plain = "\x1b[0m"

// writeFindings prints findings for people: chapters, a line for each check, and below it what mends it.
func writeFindings(w io.Writer, findings []doctor.Finding, coloured bool) error {
	var b strings.Builder
	group := ""
	for _, f := range findings {
		if f.Group != group {
			if group != "" {
				b.WriteString("\n")
			}
			group = f.Group
			b.WriteString(group + "\n")
		}
		state := fmt.Sprintf("%-7s", f.State)
		if coloured {
			state = stateColours[f.State] + state + plain
		}
		needed := ""
		if f.Stops() {
			needed = " (needed)"
		}
		fmt.Fprintf(&b, "  %s  %s: %s%s\n", state, f.Check, f.Why, needed)
		if f.Mend != "" {
			fmt.Fprintf(&b, "           mend: %s\n", f.Mend)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
