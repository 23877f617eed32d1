// Command containr runs containers, and explains how.
package main

import (
	"os"

	"github.com/containr/containr/internal/cli"
)

func main() {
	p := cli.Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(p.Main(os.Args[1:]))
}
