package systemd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/dbus"
)

// The names of the manager on a bus.
const (
	destination = "org.freedesktop.systemd1"
	object      = "/org/freedesktop/systemd1"
	interfaceOf = "org.freedesktop.systemd1.Manager"
)

// Manager is a connection to a service manager.
type Manager struct {
	c *dbus.Conn
	// broker says that others can send us messages too, and owner which of them is
	// the manager.
	broker bool
	owner  string
}

// Dial connects to the system's manager, or with user to that of the calling user.
// The error wraps ErrNotRunning if there is none.
func Dial(user bool) (*Manager, error) {
	return dial(sockets(user))
}

// socket is a place where a manager can be reached, directly or behind a bus.
type socket struct {
	path   string
	broker bool
}

func sockets(user bool) []socket {
	if !user {
		if path, ok := address("DBUS_SYSTEM_BUS_ADDRESS"); ok {
			return []socket{{path, true}}
		}
		return []socket{{"/run/systemd/private", false}, {"/run/dbus/system_bus_socket", true}}
	}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		run = "/run/user/" + strconv.Itoa(dbus.OuterUID(os.Geteuid()))
	}
	list := []socket{{run + "/systemd/private", false}}
	if path, ok := address("DBUS_SESSION_BUS_ADDRESS"); ok {
		list = append(list, socket{path, true})
	}
	return append(list, socket{run + "/bus", true})
}

// address is the socket that a variable of the environment names, as every client of
// D-Bus understands it: "unix:path=/run/bus,guid=...".
func address(variable string) (string, bool) {
	path, ok := strings.CutPrefix(os.Getenv(variable), "unix:path=")
	path, _, _ = strings.Cut(path, ",")
	return path, ok
}

func dial(list []socket) (*Manager, error) {
	var errs []error
	for _, s := range list {
		c, err := dbus.Dial(s.path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m := &Manager{c: c, broker: s.broker}
		if !s.broker {
			return m, nil
		}
		if err = m.join(); err == nil {
			return m, nil
		}
		errs = append(errs, err)
		m.Close()
	}
	return nil, fmt.Errorf("%w: %v", ErrNotRunning, errors.Join(errs...))
}

// join introduces us to a broker and asks for the signals that jobs end with.
func (m *Manager) join() error {
	if _, err := m.bus("Hello", ""); err != nil {
		return err
	}
	match := "type='signal',sender='" + destination + "',interface='" + interfaceOf + "',member='JobRemoved'"
	if _, err := m.bus("AddMatch", "s", match); err != nil {
		return err
	}
	if _, err := m.call("Subscribe", ""); err != nil {
		return err
	}
	return m.findOwner()
}

// bus calls a method of the broker.
func (m *Manager) bus(method, signature string, words ...string) ([]string, error) {
	const name = "org.freedesktop.DBus"
	return m.c.Call(dbus.Message{Destination: name, Path: "/org/freedesktop/DBus", Interface: name, Member: method, Signature: signature, Words: words})
}

// findOwner asks the broker who the manager is.
func (m *Manager) findOwner() error {
	words, err := m.bus("GetNameOwner", "s", destination)
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return fmt.Errorf("GetNameOwner: the answer is no name: %q", words)
	}
	m.owner = words[0]
	return nil
}

// speaks reports whether a signal is the manager's. A match says which signals the
// broker passes on to us, but whoever is on the bus may send us others directly. A
// manager that executes itself anew, which systemd does when it is updated, comes back to
// the bus under another name; so a stranger makes us ask again.
func (m *Manager) speaks(signal *dbus.Message) (bool, error) {
	if !m.broker || signal.Sender == m.owner {
		return true, nil
	}
	err := m.findOwner()
	return signal.Sender == m.owner, err
}

// call calls a method of the manager.
func (m *Manager) call(method, signature string, words ...string) ([]string, error) {
	return m.c.Call(dbus.Message{Destination: destination, Path: object, Interface: interfaceOf,
		Member: method, Signature: signature, Words: words})
}

// Close ends the connection.
func (m *Manager) Close() { m.c.Close() }

// StartTransient makes a unit with these properties and returns when it runs. A unit of
// that name which has failed earlier, and which systemd still remembers, is forgotten.
func (m *Manager) StartTransient(unit string, properties [][]string) error {
	words := append([]string{unit, "fail"}, flatten(properties)...)
	words = append(words, "0") // no further units
	start := func() error { return m.job("StartTransientUnit", "ssa(sv)a(sa(sv))", words...) }
	err := start()
	if dbus.IsError(err, "org.freedesktop.systemd1.UnitExists") {
		if _, reset := m.call("ResetFailedUnit", "s", unit); reset == nil {
			err = start()
		}
	}
	if err != nil {
		return fmt.Errorf("start unit %s: %w", unit, err)
	}
	return nil
}

// flatten is an array of properties, each a name, a signature and the words of its
// value, as busctl(1) takes it.
func flatten(properties [][]string) []string {
	words := []string{strconv.Itoa(len(properties))}
	for _, p := range properties {
		words = append(words, p...)
	}
	return words
}

// Stop ends a unit and its processes, and returns when it is gone. A unit that is gone
// already is no error.
func (m *Manager) Stop(unit string) error {
	err := m.job("StopUnit", "ss", unit, "replace")
	if err != nil && !isGone(err) {
		return fmt.Errorf("stop unit %s: %w", unit, err)
	}
	// One that failed is remembered until somebody has looked at it.
	if _, err := m.call("ResetFailedUnit", "s", unit); err != nil && !isGone(err) {
		return fmt.Errorf("forget unit %s: %w", unit, err)
	}
	return nil
}

func isGone(err error) bool { return dbus.IsError(err, "org.freedesktop.systemd1.NoSuchUnit") }

// SetProperties changes a living unit until it ends.
func (m *Manager) SetProperties(unit string, properties [][]string) error {
	words := append([]string{unit, "true"}, flatten(properties)...)
	if _, err := m.call("SetUnitProperties", "sba(sv)", words...); err != nil {
		return fmt.Errorf("change unit %s: %w", unit, err)
	}
	return nil
}

// ControlGroup is the path of the manager's own control group, below which those of its
// units lie: "/" for the system's manager.
func (m *Manager) ControlGroup() (string, error) {
	words, err := m.c.Call(dbus.Message{Destination: destination, Path: object, Interface: "org.freedesktop.DBus.Properties",
		Member: "Get", Signature: "ss", Words: []string{interfaceOf, "ControlGroup"}})
	if err != nil {
		return "", fmt.Errorf("the service manager's control group: %w", err)
	}
	if len(words) != 2 || words[0] != "s" {
		return "", fmt.Errorf("the service manager's control group: the answer is no path: %q", words)
	}
	if words[1] == "" {
		return "/", nil
	}
	return words[1], nil
}

// job calls a method that starts a job and waits for the job's end.
func (m *Manager) job(method, signature string, words ...string) error {
	answer, err := m.call(method, signature, words...)
	if err != nil {
		return err
	}
	if len(answer) != 1 {
		return fmt.Errorf("%s: the answer is no job: %q", method, answer)
	}
	for {
		signal, err := m.c.Signal("JobRemoved")
		if err != nil {
			return fmt.Errorf("%s: end of the job: %w", method, err)
		}
		s := signal.Words // id, job, unit, result
		if len(s) != 4 || s[1] != answer[0] {
			continue
		}
		if ours, err := m.speaks(signal); err != nil {
			return fmt.Errorf("%s: end of the job: %w", method, err)
		} else if !ours {
			continue
		}
		if s[3] != "done" {
			return fmt.Errorf("%s: the job ended with %q; journalctl -u %s may say why", method, s[3], s[2])
		}
		return nil
	}
}
