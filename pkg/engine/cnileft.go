package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/network/cni"
)

// CNILeft is a container that is gone and that plugins have not disconnected.
type CNILeft struct {
	cni.Leftover
	// Gone: it is disconnected now, or was never connected and is given up.
	Gone bool
	// Err is what the plugins say.
	Err error
}

// leftConnections lists the containers that are gone and that plugins have not disconnected.
func (e *Engine) leftConnections() ([]cni.Leftover, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	return cni.Leftovers(e.cniCache(), func(id string) bool {
		_, err := containers.Dir(id)
		return !errors.Is(err, container.ErrNotFound)
	})
}

// retryConnections has plugins disconnect again what they would not, if something was changed since. That they still will not is
// for `system check` to say.
func (e *Engine) retryConnections() error {
	left, err := e.leftConnections()
	for _, l := range left {
		if !l.Due() {
			continue
		}
		if err := l.Disconnect(false); err != nil {
			slog.Debug("plugins do not disconnect a container that is gone", "container", l.Container, "error", err)
		}
	}
	return err
}

// settleConnections tries all of a network, or of all if the name is empty. The last time, final, what was never connected is given up.
func (e *Engine) settleConnections(network string, final bool) ([]CNILeft, error) {
	left, err := e.leftConnections()
	var list []CNILeft
	for _, l := range left {
		if network != "" && !slices.Contains(l.Networks, network) {
			continue
		}
		err := l.Disconnect(final)
		list = append(list, CNILeft{Leftover: l, Gone: err == nil, Err: err})
	}
	return list, err
}

// checkConnections looks for containers that are gone and that plugins have not disconnected.
func (e *Engine) checkConnections(_ context.Context, repair bool) ([]Problem, error) {
	left, err := e.settleConnections("", repair)
	var all []Problem
	for _, l := range left {
		networks := cmp.Or(strings.Join(l.Titles, ", "), "an unknown network")
		p := Problem{Where: l.Netns, Text: fmt.Sprintf("container %s is gone, and plugins of %s have not disconnected it", l.Container, networks), Repaired: repair && l.Gone}
		switch {
		case l.Gone && !repair:
			continue // they have now
		case l.Err != nil && l.Given:
			p.Text += ", though they had connected it: " + l.Err.Error()
		case l.Err != nil:
			p.Text += ": " + l.Err.Error()
		}
		p.Remedy = "have them try once more, and take its network namespace away, as they never connected it"
		if l.Given {
			p.Remedy = "have them try once more"
		}
		all = append(all, p)
	}
	return all, err
}

// refuseOther refuses what cannot be done with networks that are none of containr's own making: those of plugins, and the words that
// stand for one.
func (e *Engine) refuseOther(name, verb string) error {
	switch own, plugins := strings.CutPrefix(name, cni.Prefix); {
	case plugins:
		n, err := e.CNINetwork(own)
		if err != nil {
			return err
		}
		return fmt.Errorf("network %s: it cannot be %s here: its file %s makes it, and plugins do what that says", name, verb, n.Network.File)
	case name == container.HostNamespace || name == container.NetworkNone:
		return fmt.Errorf("network %s: it cannot be %s: it is there by itself, for those who say --network %s at run", name, verb, name)
	}
	return nil
}
