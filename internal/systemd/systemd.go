// Package systemd asks the machine's service manager for units, over D-Bus.
//
// # Theory of operation
//
// Where systemd manages the control groups, a program that wants one is to ask for it:
// for a *scope*, a unit of processes that somebody else started. The request is one
// D-Bus call, StartTransientUnit, with the unit's name and its properties; systemd
// answers with the name of a job, and says in the signal JobRemoved how the job ended.
// StopUnit works the same way, SetUnitProperties answers at once. See
// org.freedesktop.systemd1(5).
//
// What is asked for is written as busctl(1) has it on its command line: a property is
// a name, a signature and the words of its value. So the request in a plan, the command
// that does the same by hand, and what is sent are one text.
//
// systemd listens itself, on a socket for its own user alone; that needs neither a
// broker nor a match for signals, and is tried first. Behind it comes the bus.
//
// A Manager is for one goroutine, and every wait of it ends after dbus.Patience.
package systemd

import "errors"

// ErrNotRunning means that no systemd listens where one is looked for.
var ErrNotRunning = errors.New("systemd does not run here")
