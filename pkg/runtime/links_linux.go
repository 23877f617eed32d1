package runtime

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/plan/linux"
)

// moveLink moves a device to the network namespace of a process and returns its index
// there, which may be another one. A name that the kernel completes is found by what
// was not there before.
func moveLink(c linux.MoveLink, pid int) (int, error) {
	there, err := sys.OpenRouteOf(pid)
	if err != nil {
		return 0, err
	}
	defer there.Close()
	before, err := there.Links()
	if err != nil {
		return 0, err
	}
	known := make(map[int]bool)
	for _, l := range before {
		known[l.Index] = true
		if l.Name == c.To {
			return 0, unix.EEXIST // the kernel would say so only when the device is there
		}
	}
	here, err := sys.OpenRoute()
	if err != nil {
		return 0, err
	}
	defer here.Close()
	if err := here.Move(c.Index, pid, c.To); err != nil {
		return 0, err
	}
	after, err := there.Links()
	if err != nil {
		return 0, err
	}
	for _, l := range after {
		if !known[l.Index] && (l.Name == c.To || strings.Contains(c.To, "%d")) {
			return l.Index, nil
		}
	}
	return 0, fmt.Errorf("network device %s: it did not arrive: %w", c.Link, unix.ENODEV)
}

func addAddress(c linux.AddAddress, pid, index int) error {
	r, err := sys.OpenRouteOf(pid)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.AddAddress(index, sys.Address{Prefix: c.Prefix, Local: c.Local, Peer: c.Peer, Broadcast: c.Broadcast, Flags: c.Flags})
}

func raiseLink(pid, index int) error {
	r, err := sys.OpenRouteOf(pid)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Up(index)
}
