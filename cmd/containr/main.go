// Command containr runs containers, and explains how.
package main

import (
	"os"

	"github.com/containr/containr/internal/cli"
	"github.com/containr/containr/internal/processors"
	"github.com/containr/containr/internal/timerslack"
)

func main() {
	timerslack.Restore()
	processors.Clean()
	p := cli.Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(p.Main(os.Args[1:]))
}
