package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/containr/containr/pkg/container"
)

func (p *Program) networkDoctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor PORT[/PROTOCOL]", Short: "Say what is in the way of a published port",
		Long: "Follow a packet for a port of the host: who publishes it, the rule that leads it away, other programs, other rules,\n" +
			"and who listens in the container. What is in the way is marked with !, what may be with ?, and what helps is\n" +
			"behind it. The status is 1 if something is in the way.",
		Args: exactArgs(1), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			ports, err := container.ParsePorts(args[0])
			if err != nil || len(ports) != 1 || strings.ContainsAny(args[0], ":=") {
				return usageErrorf("network doctor: %q is not a port, such as 8080 or 53/udp", args[0])
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			found, err := e.ExaminePort(cmd.Context(), ports[0].Port, ports[0].Protocol)
			bad := false
			for _, f := range found {
				mark := " "
				if f.Maybe {
					mark = "?"
				}
				if f.Bad {
					mark, bad = "!", true
				}
				fmt.Fprintln(p.Out, mark, f.Text)
				for _, do := range f.Do {
					fmt.Fprintln(p.Out, "    "+do)
				}
			}
			if err == nil && bad {
				return &statusError{status: statusFailed}
			}
			return err
		},
	}
}
