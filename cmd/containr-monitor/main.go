// Command containr-monitor looks after the containers of one state root that run
// detached. containr starts it when it is needed; see package monitor. With the argument
// drain it holds the terminal of a program that its user has left. With the word resolver it is another
// process: it answers for the names of containers; see package resolver.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/monitor"
	"github.com/containr/containr/pkg/resolver"
)

// readyFD is the descriptor on which containr waits for the monitor.
const readyFD = 3

// resolverWord in the place of the state root asks for the resolver.
const resolverWord = "resolver"

func main() {
	if len(os.Args) == 2 && os.Args[1] == monitor.DrainWord {
		if err := monitor.ReadToEnd(os.Stdin); err != nil {
			os.Exit(1)
		}
		return
	}
	resolve := len(os.Args) >= 3 && os.Args[1] == resolverWord
	if len(os.Args) < 4 && !resolve {
		fmt.Fprintln(os.Stderr, "containr-monitor is started by containr: it looks after containers that run detached")
		os.Exit(125)
	}
	unix.CloseOnExec(readyFD) // who waits for its end must not wait for what we execute
	debug.SetGCPercent(50)    // memory counts for more than time here
	// While the program of a health check is started, the standard descriptors are those that it gets. The file that stood
	// for ours must not be collected: that would close 2, and the next file to be opened would be 2, and be redirected.
	defer runtime.KeepAlive(os.Stderr)
	log, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, readyFD+1)
	if err != nil {
		fmt.Fprintln(os.Stderr, "containr-monitor:", err)
		os.Exit(1)
	}
	os.Stderr = os.NewFile(uintptr(log), "log")
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if resolve {
		o := resolver.Options{Run: os.Args[2], Ready: os.NewFile(readyFD, "ready")}
		if len(os.Args) > 3 {
			o.File = os.Args[3]
		}
		if len(os.Args) > 4 {
			o.Carrier = os.Args[4]
		}
		if err := resolver.Run(o); err != nil {
			slog.Error("resolver", "error", err)
			os.Exit(1)
		}
		return
	}
	o := monitor.Options{Root: os.Args[1], Run: os.Args[2], Command: os.Args[3:], Ready: os.NewFile(readyFD, "ready")}
	if err := monitor.Run(o); err != nil {
		slog.Error("monitor", "error", err)
		os.Exit(1)
	}
}
