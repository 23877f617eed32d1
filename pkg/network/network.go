// Package network plans a container's network.
//
// # Theory of operation
//
// A container with a network namespace of its own begins with nothing but a
// loopback interface that is down. Loopback plans the one thing that every such
// container needs, by the child itself: an interface request on a socket, which
// is closed with all other descriptors before the program runs.
package network

import (
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Loopback brings up the interface lo of a new network namespace, so that
// programs that talk to 127.0.0.1 and ::1 work.
func Loopback() []plan.Step {
	b := plan.Build(plan.Child, plan.NetworkChapter)
	b.Do("a request about an interface goes through any socket", linux.Socket{}).As("net")
	b.Do("the loopback interface of a new network is down", linux.LinkUp{Socket: "net", Interface: "lo"})
	return b.Steps
}
