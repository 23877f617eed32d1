package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/containr/containr/pkg/container"
)

// amongIDs are the commands that read or write files of containers, of volumes and of images, as a whole. An ordinary user has
// them done where he may do that: among the ids that he was granted, see pkg/engine/among.go. For some it depends on the
// command line.
var amongIDs = map[string]func(p *Program, cmd *cobra.Command, args []string) (bool, error){
	"containr volume clone":     always,
	"containr volume snapshot":  always,
	"containr volume restore":   always,
	"containr volume export":    always,
	"containr volume import":    always,
	"containr volume cp":        always,
	"containr volume ls":        ifFlag("size"),
	"containr volume prune":     always,
	"containr cp":               (*Program).copiesStopped,
	"containr container cp":     (*Program).copiesStopped,
	"containr diff":             always,
	"containr container diff":   always,
	"containr export":           always,
	"containr container export": always,
	"containr commit":           always,
	"containr container commit": always,
	"containr image export":     always,
	"containr image diff":       always,
	"containr system df":        always,
	"containr system check":     always,
}

func always(*Program, *cobra.Command, []string) (bool, error) { return true, nil }

func ifFlag(name string) func(*Program, *cobra.Command, []string) (bool, error) {
	return func(_ *Program, cmd *cobra.Command, _ []string) (bool, error) {
		f := cmd.Flags().Lookup(name)
		return f != nil && f.Value.String() == "true", nil
	}
}

// copiesStopped reports whether cp is from or to a container that does not run: the tree of one that does is in the hands of its own
// processes, and who is among ids is no parent of theirs.
func (p *Program) copiesStopped(cmd *cobra.Command, args []string) (bool, error) {
	e, err := p.engine()
	if err != nil {
		return false, err
	}
	for _, arg := range args {
		place, err := inContainer.read(arg)
		if err != nil || place.Container == "" {
			continue
		}
		record, err := e.Get(cmd.Context(), place.Container)
		if err != nil {
			return false, nil // the command says what is wrong with it
		}
		if st, err := e.State(record); err != nil || st.PID != 0 || st.Status == container.Restarting {
			return false, nil
		}
		return true, nil
	}
	return false, nil
}

// doAmongIDs has a command that belongs there done among the ids of an ordinary user, and reports whether it has.
func (p *Program) doAmongIDs(cmd *cobra.Command, args []string) (done bool, err error) {
	belongs := amongIDs[cmd.CommandPath()]
	if belongs == nil || os.Geteuid() == 0 {
		return false, nil
	}
	e, err := p.engine()
	if err != nil {
		return false, err
	}
	if has, err := e.HasIDs(); err != nil || !has {
		return false, err
	}
	if yes, err := belongs(p, cmd, args); err != nil || !yes {
		return false, err
	}
	if err := e.Attend(cmd.Context()); err != nil { // there, nothing is done for containers
		return true, err
	}
	status, err := e.Among(cmd.Context(), [3]*os.File{p.In, p.Out, p.Err}, p.args...)
	if err != nil {
		return true, err
	}
	return true, &statusError{status: status}
}

// systemAmongIDsCommand is what containr executes there for one step.
func (p *Program) systemAmongIDsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "among-ids",
		Short:  "Do a step among the ids of an ordinary user",
		Hidden: true,
		Long: "Do a step about files of the ids that an ordinary user was granted, which is asked for on standard input. This is done\n" +
			"by itself, in a user namespace of those ids; the command is there to be called by containr.",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			return e.Help(cmd.Context(), p.In)
		},
	}
}
