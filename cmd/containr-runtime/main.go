// Command containr-runtime is the OCI runtime command line: it runs bundles, in the
// place of runc or crun.
package main

import (
	"os"

	"github.com/containr/containr/internal/ocicli"
	"github.com/containr/containr/internal/timerslack"
)

func main() {
	timerslack.Restore()
	os.Exit(ocicli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
