package runtime

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/containr/containr/internal/systemd"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan/linux"
)

// startUnit has systemd make a scope with the process in it.
func startUnit(c linux.StartUnit, pid int) error {
	properties, err := splitProperties(c.Properties)
	if err != nil {
		return err
	}
	properties = append([][]string{{"PIDs", "au", "1", strconv.Itoa(pid)}}, properties...)
	return withManager(c.User, func(m *systemd.Manager) error { return m.StartTransient(c.Unit, properties) })
}

func setUnit(c linux.SetUnit) error {
	properties, err := splitProperties(c.Properties)
	if err != nil {
		return err
	}
	return withManager(c.User, func(m *systemd.Manager) error { return m.SetProperties(c.Unit, properties) })
}

func stopUnit(c linux.StopUnit) error {
	return withManager(c.User, func(m *systemd.Manager) error { return m.Stop(c.Unit) })
}

func withManager(user bool, ask func(*systemd.Manager) error) error {
	m, err := systemd.Dial(user)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := ask(m); err != nil {
		// An error number in it would be taken for that of the step, and the words
		// of systemd be lost.
		return errors.New(err.Error())
	}
	return nil
}

// managerFacts are the machine's, with what there is to know of the systemd that is
// asked for control groups.
func (r *Runtime) managerFacts() (*host.Facts, error) {
	facts := *r.Facts
	facts.Hierarchies = slices.Clone(facts.Hierarchies)
	return &facts, facts.ProbeManager()
}

func splitProperties(list []string) ([][]string, error) {
	var properties [][]string
	for _, p := range list {
		words, ok := linux.SplitProperty(p)
		if !ok {
			return nil, fmt.Errorf("property of a unit: %q is no name, type and value", p)
		}
		properties = append(properties, words)
	}
	return properties, nil
}
