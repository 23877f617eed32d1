package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/network/usermode"
	"github.com/containr/containr/pkg/plan"
)

// ErrNoNetworkProgram means that the program that carries a container's packets is not there.
var ErrNoNetworkProgram = errors.New("the program containr-usernet is not installed")

// ErrNoBackend means that a program of others, which was asked for by name, is not there.
var ErrNoBackend = errors.New("the program is not installed")

// packages are what Debian calls the packages of other backends.
var backendPackages = map[string]string{usermode.Pasta: "passt", usermode.Slirp: "slirp4netns"}

// NetworkProgram returns the path of the program that carries packets without privileges, "" if there is none.
func (e *Engine) NetworkProgram() string { return findProgram("", "containr-usernet") }

// ordinaryNetwork is the network of an ordinary user's container that names none, and why it is none.
func (e *Engine) ordinaryNetwork() (word, why string) {
	if e.NetworkProgram() == "" {
		why = ErrNoNetworkProgram.Error()
	} else if err := canMakeTaps(); err != nil {
		why = err.Error()
	}
	if why == "" {
		return usermode.Builtin, ""
	}
	return container.NetworkNone, why
}

// canMakeTaps asks whether this user may make taps, where he has the right to make devices.
func canMakeTaps() error {
	f, err := os.OpenFile(usermode.Device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// userNetworkSteps plans the network of a container whose packets are carried by a program.
func (e *Engine) userNetworkSteps(id string, n container.Namespaces, u container.UserNetwork, published []container.Port) ([]plan.Step, error) {
	in := usermode.Input{Backend: u.Backend, Program: e.NetworkProgram(), Lock: filepath.Join(e.run, "usernet", id), PID: namespace.PID,
		Net: u.Net, IPv6: hostHasIPv6(), HostLoopback: u.HostLoopback, MTU: u.MTU, UserNS: n.User != container.HostNamespace, Root: os.Geteuid() == 0}
	if in.Program == "" {
		return nil, fmt.Errorf("--network %s: %w", u.Backend, ErrNoNetworkProgram)
	}
	if u.Backend != usermode.Builtin {
		var err error
		if in.Helper, err = exec.LookPath(u.Backend); err != nil {
			return nil, fmt.Errorf("--network %s: %w: it is in the package %s", u.Backend, ErrNoBackend, backendPackages[u.Backend])
		}
	}
	for _, p := range published {
		port := usermode.Port{Protocol: p.Protocol, Host: p.HostPort, Container: p.Port}
		if p.HostIP != "" {
			port.HostIP = netip.MustParseAddr(p.HostIP) // as ParsePorts wrote it
		}
		in.Ports = append(in.Ports, port)
	}
	return usermode.Connect(in), nil
}

// hostHasIPv6 reports whether the kernel has version 6 of the protocol.
func hostHasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// userAddresses are the container's addresses, where they are known before.
func userAddresses(u container.UserNetwork) []netip.Addr {
	if u.Backend == usermode.Pasta { // it has the host's
		return nil
	}
	list := []netip.Addr{u.Net.Container()}
	if u.Backend == usermode.Builtin && hostHasIPv6() {
		list = append(list, u.Net.Container6())
	}
	return list
}

// userResolvConf puts whoever carries the packets in the place of the host's name servers: he asks those, wherever they
// listen.
func userResolvConf(host []byte, u container.UserNetwork) []byte {
	names := u.Net.Names().String()
	if u.Backend == usermode.Pasta {
		names = usermode.PastaNames
	}
	var b strings.Builder
	b.WriteString("nameserver " + names + "\n")
	for line := range strings.Lines(string(host)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "nameserver") {
			b.WriteString(line)
		}
	}
	return []byte(b.String())
}
