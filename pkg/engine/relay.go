package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/network/usermode"
	"github.com/containr/containr/pkg/plan"
)

// ErrRelay means that the program which listens at published ports for --publish-policy firewall cannot lead one.
var ErrRelay = errors.New("--publish-policy firewall cannot lead it")

// ruled are the ports of a container that rules lead to it: none if a program of the host listens at them.
func ruled(c container.Config, published []container.Port) []container.Port {
	if c.PublishPolicy == container.PublishFirewall {
		return nil
	}
	return published
}

// relaySteps plans the program that listens at a container's ports, if the host's rules for what comes in are to decide about them. In an
// ordinary user's networks a program does so in any case.
func (e *Engine) relaySteps(id string, c container.Config, endpoints []bridge.Endpoint, published []container.Port) ([]plan.Step, error) {
	if c.PublishPolicy != container.PublishFirewall || len(published) == 0 {
		return nil, nil
	}
	program := e.NetworkProgram()
	if program == "" {
		return nil, fmt.Errorf("--publish-policy %s: %w", c.PublishPolicy, ErrNoNetworkProgram)
	}
	to := relayedTo(endpoints)
	if !to[0].IsValid() && !to[1].IsValid() {
		return nil, fmt.Errorf("--publish-policy %s: no network of the container leads anywhere: %w", c.PublishPolicy, ErrNoPortsThere)
	}
	var ports []usermode.Port
	for _, p := range published {
		port := usermode.Port{Protocol: p.Protocol, Host: p.HostPort, Container: p.Port}
		if p.HostIP != "" {
			port.HostIP = netip.MustParseAddr(p.HostIP) // as ParsePorts wrote it
		}
		ports = append(ports, port)
	}
	return usermode.Relay(program, e.relayLock(id), namespace.PID, to[0], to[1], ports), nil
}

// relayLock is the file by which the program is known.
func (e *Engine) relayLock(id string) string { return filepath.Join(e.run, "usernet", id) }

// relayedTo are the addresses of version 4 and 6 that the program hands to, invalid if there is none.
func relayedTo(endpoints []bridge.Endpoint) (to [2]netip.Addr) {
	for _, port := range portsTo(container.Port{Protocol: "tcp", HostPort: 1, Port: 1}, endpoints) {
		if port.To.Is6() {
			to[1] = port.To
		} else {
			to[0] = port.To
		}
	}
	return to
}

// checkRelay refuses ports that no program listens at.
func checkRelay(c container.Config, published []container.Port, attachments []container.Attachment, bridged bool) error {
	if c.PublishPolicy != container.PublishFirewall || len(published) == 0 {
		return nil
	}
	if !bridged && len(attachments) > 0 {
		return fmt.Errorf("network %s: its plugins lead published ports: %w", attachments[0].Network, ErrRelay)
	}
	for _, p := range published {
		if p.Protocol == "sctp" {
			return fmt.Errorf("port %s of the host: the program carries tcp and udp: %w", portText(p), ErrRelay)
		}
	}
	return nil
}
