// Command containr runs containers, and explains how.
package main

import (
	"os"

	"github.com/containr/containr/internal/cli"
)

// version is set when the program is linked.
var version = "unknown"

func main() {
	p := cli.Program{Version: version, In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(p.Main(os.Args[1:]))
}
