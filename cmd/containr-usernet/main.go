// Command containr-usernet carries the packets of a container in a network that needs no
// privileges. containr starts it, with descriptors that say the rest: see package usernet, and
// StartNetwork in package pkg/plan/linux.
//
//	containr-usernet serve --net NET [--net6 NET] [--mtu N] [--host-loopback] [--publish PORT]...
//	containr-usernet relay [--to4 ADDRESS] [--to6 ADDRESS] [--publish PORT]...
//	containr-usernet above [--publish PORT]... -- PROGRAM ARG...
package main

import (
	"fmt"
	"os"

	"github.com/containr/containr/pkg/usernet"
)

func main() {
	if err := usernet.Run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "containr-usernet:", err)
		os.Exit(1)
	}
}
