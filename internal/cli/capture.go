package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/engine"
)

func (p *Program) captureCommand() *cobra.Command {
	req := engine.CaptureRequest{}
	var file string
	cmd := &cobra.Command{
		Use: "capture [FLAGS] CONTAINER", Short: "Write down the packets that a container sends and receives", GroupID: groupRun,
		Long: "Write the packets that a container sends and receives to a file in the format pcapng, with the names of its network\n" +
			"devices, for tcpdump and Wireshark. It ends with the container, when interrupted, or with --count packets, and says\n" +
			"how many were written. The container notices nothing. It takes root.",
		Example: "  containr capture --write web.pcapng web\n" +
			"  containr capture web | tcpdump -n -r -",
		Args: exactArgs(1), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Container = args[0]
			if req.Count < 0 || req.Snapshot < 0 {
				return usageErrorf("capture: --count and --snapshot-length are no less than 0")
			}
			return p.capture(cmd, req, file)
		},
	}
	set := cmd.Flags()
	b := binder{set, ""}
	b.string(&file, "write", "w", "write to `FILE`; else to the standard output")
	b.string(&req.Interface, "interface", "i", "write the packets of the container's `DEVICE` only, such as eth0")
	set.IntVarP(&req.Count, "count", "c", 0, "end after `N` packets")
	set.IntVarP(&req.Snapshot, "snapshot-length", "s", 0, "write the first `N` bytes of each packet only")
	return cmd
}

// capture opens what is written to, and says how it went.
func (p *Program) capture(cmd *cobra.Command, req engine.CaptureRequest, file string) (err error) {
	req.Open = func() (io.Writer, error) { return p.Out, nil }
	if file != "" {
		var out *os.File
		req.Open = func() (_ io.Writer, err error) {
			out, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
			return out, err
		}
		defer func() {
			if out != nil {
				err = errors.Join(err, out.Close())
			}
		}()
	} else if tty.IsTerminal(p.Out) {
		return &usageError{text: "capture: packets are not for a terminal", hint: "use --write FILE, or pass them on: | tcpdump -n -r -"}
	}
	e, err := p.engine()
	if err != nil {
		return err
	}
	req.Ready = func() { fmt.Fprintln(p.Err, "capturing; interrupt to end") }
	result, err := e.Capture(cmd.Context(), req)
	if err == nil || result.Written > 0 {
		fmt.Fprintf(p.Err, "%d packets written, %d dropped\n", result.Written, result.Dropped)
	}
	return err
}
