// Command probe is the program that kernel tests run inside a container: see package probe.
package main

import (
	"os"

	"github.com/containr/containr/internal/testkit/probe"
)

func main() { os.Exit(probe.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
